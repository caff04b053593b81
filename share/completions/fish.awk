function quote(s) {
    gsub(/\\/, "\\\\", s)
    gsub(/'/, "\\'", s)
    return "'" s "'"
}
function command(name, about) {
    print "complete -c statepipe -n __fish_use_subcommand -a " name " -d " quote(about)
}
BEGIN {
    print "# fish completion for statepipe; made by share/completions/generate"
    command("sh", "run a pipeline of the programs")
    command("help", "show the help of statepipe or a program")
}
$3 == "" {
    command($1, $5)
    next
}
{
    text = "complete -c statepipe -n '__fish_seen_subcommand_from " $1 "'"
    if ($2 != "") text = text " -s " $2
    text = text " -l " $3
    if ($4 != "") text = text " -r"
    if ($4 ~ /\|/) {
        gsub(/\|/, " ", $4)
        text = text " -f -a " quote($4)
    }
    print text " -d " quote($5)
}
