# Quotes for _arguments: backslashes, brackets and colons mean something there.
function quote(s) {
    gsub(/\\/, "\\\\\\\\", s)
    gsub(/'/, "'\\''", s)
    gsub(/\[/, "(", s)
    gsub(/\]/, ")", s)
    gsub(/:/, "\\:", s)
    return s
}
function option(dashed, value) {
    text = " \\\n        '" dashed "[" quote($5) "]" value "'"
    if ($1 ~ / /)
        inner = inner text
    else
        body = body text
}
BEGIN {
    print "#compdef statepipe"
    print "# made by share/completions/generate"
    print "local context state line"
    print "_arguments -C '1:command:->command' '*::argument:->argument'"
}
$3 == "" && $1 ~ / / { # a command of a program
    split($1, word, " ")
    own[word[1]] = own[word[1]] " " word[2]
    inner = inner (inner == "" ? "" : "; return ;;\n") "    '" $1 "') shift words; ((CURRENT--)); _arguments '*:file:_files'"
    next
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
    print "    case \"$line[1] $words[2]\" in"
    if (inner != "") print inner "; return ;;"
    print "    esac"
    for (program in own)
        print "    [[ $line[1]:$CURRENT != " program ":2 ]] || compadd --" own[program]
    print "    case $line[1] in"
    if (body != "") print body " ;;"
    print "    esac ;;"
    print "esac"
}
