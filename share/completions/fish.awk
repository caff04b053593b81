function quote(s) {
    gsub(/\\/, "\\\\\\\\", s)
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
$3 == "" && $1 ~ / / { # a command of a program
    split($1, word, " ")
    text = "complete -c statepipe -n '__fish_seen_subcommand_from " word[1] "' -f -a " word[2]
    print text " -d " quote($5)
    next
}
$3 == "" {
    command($1, $5)
    next
}
{
    seen = $1
    sub(/ /, "; and __fish_seen_subcommand_from ", seen)
    text = "complete -c statepipe -n '__fish_seen_subcommand_from " seen "'"
    if ($2 != "") text = text " -s " $2
    text = text " -l " $3
    if ($4 != "") text = text " -r"
    if ($4 ~ /\|/) {
        gsub(/\|/, " ", $4)
        text = text " -f -a " quote($4)
    }
    print text " -d " quote($5)
}
