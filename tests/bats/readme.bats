load common

# What the README tells a new user to type, works: its sh blocks are run, from the top of the tree.

@test "every command of the README's sh blocks succeeds and prints something, or keeps a state" {
    local line n=0
    mkdir "$BATS_TEST_TMPDIR/bin"
    ln -s "$STATEPIPE_BUILD/bin/statepipe" "$BATS_TEST_TMPDIR/bin"
    cd "$TREE" || exit 70
    while IFS= read -r line; do
        [[ $line != \#* ]] || continue
        line=${line//\/tmp\//$BATS_TEST_TMPDIR/}
        echo "$line"
        run -0 --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin:$PATH" bash -c "$line"
        [ -n "$output" ] || [[ $line == *--dump-state* ]]
        n=$((n + 1))
    done < <(sed -n '/^```sh/,/^```$/{/^```/!p}' README.md)
    [ "$n" -ge 6 ]
}

@test "every command of the tutorial succeeds" {
    local line n=0
    mkdir "$BATS_TEST_TMPDIR/bin" "$BATS_TEST_TMPDIR/folder"
    ln -s "$STATEPIPE_BUILD/bin/statepipe" "$BATS_TEST_TMPDIR/bin"
    cd "$BATS_TEST_TMPDIR/folder" || exit 70
    # Its one literal block is the Makefile that it speaks of.
    sed -n '/^\.Bd/,/^\.Ed/{/^\./!{s/\\e/\\/g;p}}' "$TREE/man/statepipe-tutorial.7" >Makefile
    local page=
    if command -v mandoc >/dev/null; then
        page=$(mandoc -T utf8 -O width=1000 "$TREE/man/statepipe-tutorial.7" | sed 's/.\x08//g')
    fi
    while IFS= read -r line; do
        line=${line//\\e/\\}
        line=${line//\\(dq/\"}
        line=${line//\\&/}
        [ -z "$page" ] || [[ $page == *"$line"* ]] # as it is shown
        echo "$line"
        run -0 --separate-stderr env -u STATEPIPE_MODEL PATH="$BATS_TEST_TMPDIR/bin:$PATH" \
            timeout 120 bash -c "$line"
        echo "$output" "$stderr"
        [ -n "$output" ] || [[ $line == *--dump-state* ]]
        n=$((n + 1))
    done < <(sed -n 's/^\.Dl //p' "$TREE/man/statepipe-tutorial.7")
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
