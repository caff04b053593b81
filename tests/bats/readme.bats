load common

# What the README tells a new user to type, works: its sh blocks are run, from the top of the tree.

@test "every command of the README's sh blocks succeeds and prints something, or keeps it" {
    local line n=0 generated=
    mkdir "$BATS_TEST_TMPDIR/bin"
    ln -s "$STATEPIPE_BUILD/bin/statepipe" "$BATS_TEST_TMPDIR/bin"
    cd "$TREE" || exit 70
    while IFS= read -r line; do
        [[ $line != \#* ]] || continue
        line=${line//\/tmp\//$BATS_TEST_TMPDIR/}
        echo "$line"
        run -0 --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin:$PATH" bash -c "$line"
        [ -n "$output" ] || [[ $line == *--dump-state* || $line == *">$BATS_TEST_TMPDIR/"* ]]
        [[ $line != *' generate '* ]] || generated=$output
        [[ $line != *mkfifo* ]] || [ "$output" = "${generated#Education}" ]
        n=$((n + 1))
    done < <(sed -n '/^```sh/,/^```$/{/^```/!p}' README.md)
    [ "$n" -ge 6 ]
}

# The lines of the page's blocks that .Bd -$1 begins, as they are shown.
block() { sed -n "/^\.Bd -$1/,/^\.Ed/{/^\.[BE]d/!{s/\\\\e/\\\\/g;s/^\\\\&//;p}}" "$2"; }

@test "every command of the tutorial succeeds" {
    local line command='' n=0 page='' tutorial=$TREE/man/statepipe-tutorial.7
    mkdir "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/folder"
    ln -s "$STATEPIPE_BUILD/bin/statepipe" "$BATS_TEST_TMPDIR/bin"
    cd "$BATS_TEST_TMPDIR/folder" || exit 70
    block unfilled "$tutorial" >Makefile
    run -1 grep '^\.Dl' "$tutorial" # the formatter breaks these
    if command -v mandoc >/dev/null; then
        page=$(mandoc -T utf8 -O width=78 "$tutorial" | sed 's/.\x08//g')
    fi
    while IFS= read -r line; do
        [ -z "$page" ] || grep -qxF "           $line" <<<"$page"
        [ "${#line}" -le 66 ] # and 11 blanks in front
        command+=$line$'\n'
        # A command goes on where a quote is open, behind a pipe and a backslash.
        [[ $line != *[\\\|] && $line != *'&&' ]] && bash -n -c "$command" 2>/dev/null || continue
        echo "$command"
        run -0 --separate-stderr env -u STATEPIPE_MODEL PATH="$BATS_TEST_TMPDIR/bin:$PATH" \
            timeout 120 bash -c "$command"
        echo "$output" "$stderr"
        [ -n "$output" ] || [[ $command == *--dump-state* ]]
        n=$((n + 1)) command=''
    done < <(block literal "$tutorial")
    [ -z "$command" ]
    [ "$n" -ge 30 ]
    [ ! -e long.ckpt ]
}

@test "the README names every program, and no page that is not there" {
    local p page
    for p in "$STATEPIPE_BUILD"/bin/*; do
        grep -q "\b$(basename "$p")\b" "$TREE/README.md"
    done
    while read -r page; do
        echo "$page"
        [ -e "$TREE/man/$page" ] || [ -e "$TREE/man/${page#statepipe-}" ]
    done < <(grep -o 'statepipe-[a-z-]*([157])' "$TREE/README.md" | sed 's/(\(.\))/.\1/' | sort -u)
}
