BEGIN {
    print "# bash completion for statepipe; made by share/completions/generate"
    print "_statepipe() {"
    print "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words="
    print "    COMPREPLY=()"
}
$3 == "" {
    programs = programs " " $1
    next
}
{
    options[$1] = options[$1] " --" $3 ($2 == "" ? "" : " -" $2)
    if ($4 ~ /\|/) {
        gsub(/\|/, " ", $4)
        key = $1 ":--" $3 ($2 == "" ? "" : " | " $1 ":-" $2)
        choices = choices "        " key ") words=\"" $4 "\" ;;\n"
    }
}
END {
    print "    if ((COMP_CWORD == 1)); then"
    print "        words=\"sh help --help --version --exec-path" programs "\""
    print "    elif [[ ${COMP_WORDS[1]} == help ]]; then"
    print "        words=\"" substr(programs, 2) "\""
    print "    else"
    print "        case ${COMP_WORDS[1]}:$prev in"
    printf "%s", choices
    print "        esac"
    print "        [[ -n $words || $cur != -* ]] || case ${COMP_WORDS[1]} in"
    n = split(programs, program, " ")
    for (i = 1; i <= n; i++)
        print "        " program[i] ") words=\"" substr(options[program[i]], 2) "\" ;;"
    print "        esac"
    print "    fi"
    print "    [[ -z $words ]] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")"
    print "}"
    print "complete -o default -F _statepipe statepipe"
}
