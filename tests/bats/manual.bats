load common

# Every program and its manual, completions and help say the same, because the option table is asked.

programs() {
    local path
    for path in "$STATEPIPE_BUILD"/bin/*; do basename "$path"; done
}
manual_of() {
    case $1 in statepipe) echo "$TREE/man/statepipe.1" ;; *) echo "$TREE/man/$1.1" ;; esac
}
plain() { mandoc -T ascii "$1" | sed 's/.\x08//g'; }
# Option names of a program, with their dashes.
options_of() {
    "$STATEPIPE_BUILD/bin/$1" --help-all | sed -n '1,/^$/d; /^$/q; s/^  \(-.,\|   \) \(--[a-z0-9-]*\).*/\2/p'
}

@test "there are programs, and their options are found" {
    [ "$(programs | wc -l)" -ge 5 ]
    [ "$(options_of extract | wc -l)" -ge 5 ]
    options_of extract | grep -qx -- --version
}

@test "every --help fits a screen, has an example and an exit status, and goes to stdout" {
    local p out
    for p in $(programs); do
        out=$("$STATEPIPE_BUILD/bin/$p" --help 2>/dev/null)
        ! grep -n " $" <<<"$out" || return 1
        echo "$p: $(wc -l <<<"$out") lines, longest $(wc -L <<<"$out")"
        [ "$(wc -l <<<"$out")" -le 24 ]
        [ "$(wc -L <<<"$out")" -le 80 ]
        grep -q '^Example' <<<"$out"
        grep -qi 'exit status' <<<"$out"
    done
}

@test "--help-all adds options to --help, and is no wider" {
    local p all option
    for p in $(programs); do
        [ "$p" != statepipe ] || continue
        all=$("$STATEPIPE_BUILD/bin/$p" --help-all)
        [ "$(wc -L <<<"$all")" -le 80 ]
        for option in $("$STATEPIPE_BUILD/bin/$p" --help | grep -o '^  .\{0,4\}--[a-z0-9-]*' | grep -o -- '--.*'); do
            echo "$p: $option"
            grep -q -- "^  .\{0,4\}$option\b" <<<"$all"
        done
    done
    ! "$STATEPIPE_BUILD/bin/train" --help | grep -q -- --warmup || return 1
    "$STATEPIPE_BUILD/bin/train" --help-all | grep -q -- --warmup
}

@test "every --version names the program and the version" {
    local p version
    version=$(sed -n 's/^.define SP_VERSION "\(.*\)"/\1/p' "$TREE/lib/statepipe.h")
    for p in $(programs); do
        run -0 "$STATEPIPE_BUILD/bin/$p" --version
        echo "$output"
        [[ $output == "$p (statepipe) $version" || $output == "statepipe $version" ]]
    done
}

@test "every program has a man page, and it has every option" {
    local p page option missing=
    for p in $(programs); do
        page=$(plain "$(manual_of "$p")") || missing+=" $p.1"
        for option in $(options_of "$p"); do
            grep -q -- "[ ,[(|]$option\b" <<<" $page" || missing+=" $p:$option"
        done
    done
    echo "missing:$missing"
    [ -z "$missing" ]
}

@test "every man page is clean for mandoc" {
    run -0 mandoc -T lint -W warning "$TREE"/man/*.[157]
}

@test "every man page shows what its source says: quotes, words that are names of macros" {
    run -0 "$TREE/tests/bats/manual.py" "$TREE"/man/*.[157]
    [ -z "$output" ]
    # and what is lost, or taken for a macro, is found
    cd "$BATS_TEST_TMPDIR"
    printf '.Dd November 22, 2026\n.Dt X 1\n.Os\n.Sh NAME\n.Nm x\n.Nd y\n.Sh DESCRIPTION\n' >head
    for line in '.Ql {"id", "doc"} ,' '.Ss In a pipe' '.Pq or Fl \&: standard input'; do
        { cat head; echo "$line"; } >x.1
        run -1 "$TREE/tests/bats/manual.py" x.1
        [[ $output == "x.1:8: "* ]]
    done
}

@test "every man page of a program has the sections that all have" {
    local p section
    for p in $(programs); do
        for section in NAME SYNOPSIS DESCRIPTION 'EXIT STATUS' 'SEE ALSO'; do
            echo "$p: $section"
            grep -q "^\.Sh $section" "$(manual_of "$p")"
        done
    done
}

@test "man pages refer to pages that there are" {
    local name section missing=
    while read -r name section; do
        case $name in
        statepipe | statepipe-*) ;;
        *) continue ;;
        esac
        [ -e "$TREE/man/$name.$section" ] || [ -e "$TREE/man/${name#statepipe-}.$section" ] ||
            missing+=" $name($section)"
    done < <(sed -n 's/^\.\(It \)\?Xr \(statepipe[a-z-]*\) \([157]\).*/\2 \3/p' "$TREE"/man/*.[157] | sort -u)
    echo "missing:$missing"
    [ -z "$missing" ]
}

@test "completions know every program and every option, and the shells can read them" {
    local p option dir=$STATEPIPE_BUILD/completions
    for p in $(programs); do
        [ "$p" != statepipe ] || continue
        grep -q "^        $p) words=" "$dir/statepipe.bash"
        grep -q "^    $p) _arguments" "$dir/_statepipe"
        for option in $(options_of "$p"); do
            echo "$p: $option"
            grep "^        $p) words=" "$dir/statepipe.bash" | grep -q -- "$option\b"
            grep -q -- "__fish_seen_subcommand_from $p'.* -l ${option#--} " "$dir/statepipe.fish"
            sed -n "/^    $p) _arg/,/ ;;/p" "$dir/_statepipe" | grep -q -- "'$option\["
        done
    done
    bash -n "$dir/statepipe.bash"
    if command -v zsh >/dev/null; then zsh -n "$dir/_statepipe"; fi
    if command -v fish >/dev/null; then fish --no-execute "$dir/statepipe.fish"; fi
}

@test "bash completes programs, options and choices" {
    # shellcheck disable=SC1090
    source "$STATEPIPE_BUILD/completions/statepipe.bash"
    answer() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _statepipe
        echo "${COMPREPLY[*]}"
    }
    [ "$(answer statepipe extr)" = extract ]
    [ "$(answer statepipe extract --min)" = --min-p ]
    [ "$(answer statepipe extract -o ht)" = html ]
    [ "$(answer statepipe help doc)" = doctor ] || [ "$(answer statepipe help c)" = cv ]
    [ -z "$(answer statepipe extract some)" ]
}

@test "fish completes programs, commands, options and choices" {
    command -v fish >/dev/null || skip "no fish"
    cd "$BATS_TEST_TMPDIR"
    answer() { HOME=$PWD fish -N -c "source '$STATEPIPE_BUILD/completions/statepipe.fish'; complete -C '$1'"; }
    [[ $(answer 'statepipe extr') == $'extract\t'* ]]
    [[ $(answer 'statepipe state con') == $'convert\t'* ]]
    [[ $(answer 'statepipe extract -o ht') == $'html\t'* ]]
    [ "$(answer 'statepipe state near --metric ' | cut -f 1 | paste -sd ' ')" = "cosine l2" ]
    [ "$(answer 'statepipe fill --cho')" = $'--choices\tthese answers only (\\, is a comma)' ]
    local p option
    for p in $(programs); do
        [ "$p" != statepipe ] || continue
        answer "statepipe $p --" >shown
        for option in $(options_of "$p"); do grep -q -- "^$option"$'\t' shown || { echo "$p $option"; return 1; }; done
    done
}

@test "zsh completes programs, commands, options and choices" {
    command -v zsh >/dev/null || skip "no zsh"
    cd "$BATS_TEST_TMPDIR"
    local p option lines=()
    for p in $(programs); do [ "$p" = statepipe ] || lines+=("statepipe $p --"); done
    HOME=$PWD "$TREE/tests/bats/zsh.py" "$STATEPIPE_BUILD/completions" 'statepipe extr' 'statepipe state con' \
        'statepipe extract -o ht' 'statepipe state near --metric ' "${lines[@]}" >shown
    grep -q '^statepipe extract $' shown
    grep -q '^statepipe state convert $' shown
    grep -q '^statepipe extract -o html $' shown
    grep -q '^cosine *l2' shown
    grep -q -- '^--choices *-- these answers only (\\, is a comma)' shown
    for p in $(programs); do
        [ "$p" != statepipe ] || continue
        sed -n "/^== statepipe $p --\$/,/^== /p" shown >of
        for option in $(options_of "$p"); do grep -q -- "^$option " of || { echo "$p $option"; return 1; }; done
    done
}

@test "every unknown option and bad value is refused with status 2 and one line" {
    local p
    for p in $(programs); do
        run -2 --separate-stderr timeout 10 "$STATEPIPE_BUILD/bin/$p" --no-such-option
        echo "$p: $stderr"
        [ -z "$output" ]
        [ "$(wc -l <<<"$stderr")" = 1 ]
        [[ $stderr == "$p: unknown option --no-such-option (see $p --help)" ]]
    done
}
