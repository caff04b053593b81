# Quotes for _arguments: brackets and colons mean something there.
function quote(s) {
    gsub(/'/, "'\\''", s)
    gsub(/\[/, "(", s)
    gsub(/\]/, ")", s)
    gsub(/:/, "\\:", s)
    return s
}
function option(dashed, value) {
    body = body " \\\n        '" dashed "[" quote($5) "]" value "'"
}
BEGIN {
    print "#compdef statepipe"
    print "# made by share/completions/generate"
    print "local context state line"
    print "_arguments -C '1:command:->command' '*::argument:->argument'"
}
$3 == "" {
    commands = commands "        '" $1 ":" quote($5) "'\n"
    body = body (body == "" ? "" : " ;;\n") "    " $1 ") _arguments '*:file:_files'"
    next
}
{
    value = $4 == "" ? "" : ":" tolower($3) ":_files"
    if ($4 ~ /\|/) {
        gsub(/\|/, " ", $4)
        value = ":" tolower($3) ":(" $4 ")"
    }
    if ($2 != "") option("-" $2, value)
    option("--" $3, value)
}
END {
    print "case $state in"
    print "command)"
    print "    local -a commands=("
    print "        'sh:run a pipeline of the programs'"
    print "        'help:show the help of statepipe or a program'"
    printf "%s", commands
    print "    )"
    print "    _describe command commands ;;"
    print "argument)"
    print "    case $line[1] in"
    if (body != "") print body " ;;"
    print "    esac ;;"
    print "esac"
}
