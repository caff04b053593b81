BEGIN {
    print "# bash completion for statepipe; made by share/completions/generate"
    print "_statepipe() {"
    print "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words="
    print "    COMPREPLY=()"
}
$1 ~ / / { # a command of a program
    split($1, word, " ")
    key[$1] = "\"" $1 "\""
    if ($3 == "") commands[word[1]] = commands[word[1]] " " word[2]
}
$3 == "" && $1 ~ / / { next }
$3 == "" {
    programs = programs " " $1
    next
}
{
    options[$1] = options[$1] " --" $3 ($2 == "" ? "" : " -" $2)
    if ($4 ~ /\|/) {
        gsub(/\|/, " ", $4)
        row = "        \"" $1 ":--" $3 "\"" ($2 == "" ? "" : " | \"" $1 ":-" $2 "\"")
        row = row ") words=\"" $4 "\" ;;\n"
        if ($1 ~ / /)
            command_choices = command_choices row
        else
            choices = choices row
    }
}
END {
    print "    if ((COMP_CWORD == 1)); then"
    print "        words=\"sh help --help --version --exec-path --model-path" programs "\""
    print "    elif [[ ${COMP_WORDS[1]} == help ]]; then"
    print "        words=\"" substr(programs, 2) "\""
    print "    else"
    print "        case ${COMP_WORDS[1]}:$prev in"
    printf "%s", choices
    print "        esac"
    print "        case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}:$prev\" in"
    printf "%s", command_choices
    print "        esac"
    print "        [[ $COMP_CWORD != 2 || $cur == -* ]] || case ${COMP_WORDS[1]} in"
    for (owner in commands)
        print "        " owner ") words=\"" substr(commands[owner], 2) "\" ;;"
    print "        esac"
    print "        [[ -n $words || $cur != -* ]] || case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in"
    for (command in key)
        print "        " key[command] ") words=\"" substr(options[command], 2) "\" ;;"
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
