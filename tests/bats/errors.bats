load common

# Bad input for every program: a clear message and the documented exit status; no crash, no hang, no
# unbounded memory.

setup_file() {
    export W=$BATS_FILE_TMPDIR M=$TREE/tests/golden/tiny
    export STATEPIPE_MODEL=$M STATEPIPE_JOBS=2
    # a sanitizer's report must not look like "some documents failed"
    export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=exitcode=99
    printf 'Education\n2013 - 2015  M.Sc. Physics, ETH Zurich\n%.0s' 1 2 3 4 5 6 7 8 >"$W/cv.txt"
    pipe 'tokenize "$W/cv.txt" >"$W/tokens" && embed "$W/tokens" >"$W/embedded" &&
        mamba-layer --dump-state "$W/state" "$W/embedded" >"$W/hidden" && head "$W/hidden" >"$W/scores"'
}
damage() { pipe "'$TREE/tests/bats/damage.py' $1"; }
# A filter, and a good input of it.
each_filter() {
    printf '%s\n' "embed tokens" "mamba-layer embedded" "head hidden" "extract scores" \
        "inspect hidden"
}
fails() { # STATUS 'PIPELINE' 'MESSAGE': the status and the whole message
    run -"$1" --separate-stderr pipe "timeout 20 $2 >/dev/null"
    echo "$stderr"
    [ "$stderr" = "$3" ]
}

@test "empty input is where an upstream program died" {
    local f
    while read -r f _; do
        fails 65 "$f </dev/null" "$f: standard input is empty, where a statepipe stream was expected: an upstream program failed, or was left out"
    done < <(each_filter)
}

@test "text, binary and foreign msgpack instead of a stream" {
    local f
    printf '\x83\xa1a\x01\xa1b\x02\xa1c\x03' >"$W/msgpack"
    head -c 3000 "$M/model.safetensors" >"$W/binary"
    while read -r f _; do
        fails 65 "$f <'$W/cv.txt'" "$f: standard input is not a statepipe stream: it looks like text: run \`tokenize\` first"
        fails 65 "$f <'$W/msgpack'" "$f: standard input is not a statepipe stream: it looks like msgpack, but not of statepipe"
        fails 65 "$f '$W/binary'" "$f: $W/binary is not a statepipe stream: it looks like binary data of another kind"
    done < <(each_filter)
}

@test "a stream of another content" {
    run -65 --separate-stderr pipe 'mamba-layer "$W/tokens"'
    [[ $stderr == *tokens* && $stderr == *hidden* ]]
    run -65 --separate-stderr pipe 'extract "$W/hidden"'
    [[ $stderr == *hidden* && $stderr == *scores* ]]
    run -65 --separate-stderr pipe 'head "$W/embedded"'
    [[ $stderr == *"a mamba-layer missing"* ]]
    run -65 --separate-stderr pipe 'mamba-layer "$W/hidden"'
    echo "$stderr"
    [[ $stderr == mamba-layer:* ]]
}

@test "a file that is not there, and a directory" {
    local f
    while read -r f _; do
        fails 66 "$f '$W/nowhere'" "$f: cannot open $W/nowhere: No such file or directory"
        fails 66 "$f '$W'" "$f: $W is a directory"
    done < <(each_filter)
    fails 66 "tokenize '$W/nowhere'" "tokenize: cannot open $W/nowhere: No such file or directory"
}

@test "streams cut off: 65 everywhere but between segments" {
    local f input
    while read -r f input; do
        run -0 damage "cuts '$W/$input' 40 $f"
        echo "$f: $output"
        [ "$output" = "65 40" ]
    done < <(each_filter)
}

@test "streams with flipped bits: an answer or a reason, never a crash" {
    local f input
    while read -r f input; do
        run -0 damage "flips '$W/$input' 60 $f"
        echo "$f: $output"
        run -1 grep -v '^\(0\|1\|65\|69\) [0-9]*$' <<<"$output"
    done < <(each_filter)
}

@test "forged lengths: no allocation of what is only claimed" {
    local f forged
    for forged in '\xdd\xff\xff\xff\xff' '\xdf\xff\xff\xff\xff' '\x93\xdb\xff\xff\xff\xff' \
        '\x93\xa9statepipe\xdf\xff\xff\xff\xff' '\x93\xa9statepipe\x81\xa1a\xc6\xff\xff\xff\xff' \
        '\x93\xa9statepipe\x81\xa1a\xdd\x7f\xff\xff\xff' '\xc9\xff\xff\xff\xff\x54' \
        '\x93\xa9statepipe\x80\xdd\xff\xff\xff\xff' '\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91'; do
        printf "$forged" >"$W/forged"
        while read -r f _; do
            # what comes after a claim of 4 GiB is endless zeros, and 3 GiB of memory are not there
            run -65 --separate-stderr pipe "(limit=3000000; [ '${SAN:-0}' = 1 ] || ulimit -v \$limit
                cat '$W/forged' /dev/zero | timeout 20 $f >/dev/null; exit \${PIPESTATUS[1]})"
            echo "$f $forged: $stderr"
        done < <(each_filter)
    done
}

@test "a missing, a wrong and a broken model" {
    local p
    for p in "tokenize cv.txt" "embed tokens" "mamba-layer embedded" "head hidden"; do
        run -66 --separate-stderr pipe "${p% *} -m /nonexistent '$W/${p#* }' >/dev/null"
        echo "$stderr"
        [[ $stderr == "${p% *}: "*"/nonexistent"* ]]
    done
    for p in "embed tokens" "mamba-layer embedded" "head hidden"; do
        run -65 --separate-stderr pipe "${p% *} -m '$TREE/tests/golden/mamba-odd' '$W/${p#* }' >/dev/null"
        echo "$stderr"
        [[ $stderr == "${p% *}: "*model* ]]
    done
    mkdir -p "$W/broken" && cp "$M"/* "$W/broken"
    head -c 60000 "$M/model.safetensors" >"$W/broken/model.safetensors"
    for p in "embed tokens" "mamba-layer embedded" "head hidden"; do
        run -65 --separate-stderr pipe "${p% *} -m '$W/broken' '$W/${p#* }' >/dev/null"
        echo "$stderr"
        [[ $stderr == *"$W/broken/model.safetensors: tensor "*"damaged or incomplete" ]]
    done
}

@test "weights with flipped bits in their table, and weights that are cut off" {
    cp -r "$M" "$W/flipped"
    run -0 damage "flips '$M/model.safetensors' 40 bash -c 'cat >$W/flipped/model.safetensors; embed -m $W/flipped $W/tokens'"
    echo "$output"
    # a bit of the weights themselves makes another model, whose fingerprint the stream does not have
    run -1 grep -v '^\(0\|65\) [0-9]*$' <<<"$output"
    run -0 damage "cuts '$M/model.safetensors' 30 bash -c 'cat >$W/flipped/model.safetensors; embed -m $W/flipped $W/tokens'"
    [ "$output" = "65 30" ]
}

@test "a NaN in the weights is refused, by the tensor's name" {
    damage "nan '$M' backbone.layers.1.mixer.out_proj.weight '$W/nan'"
    pipe 'tokenize -m "$W/nan" "$W/cv.txt" | embed -m "$W/nan" >"$W/nan.embedded"'
    run -65 --separate-stderr pipe 'mamba-layer -m "$W/nan" "$W/nan.embedded" >/dev/null'
    echo "$stderr"
    [[ $stderr == *backbone.layers.1.mixer.out_proj.weight* ]]
    damage "nan '$M' backbone.norm_f.weight '$W/nan2'"
    run -65 --separate-stderr pipe 'tokenize -m "$W/nan2" "$W/cv.txt" | embed -m "$W/nan2" | mamba-layer -m "$W/nan2" | head -m "$W/nan2" >/dev/null'
    echo "$stderr"
    [[ $stderr == *backbone.norm_f.weight* ]]
}

@test "states: cut off, flipped, of another model, not there" {
    run -0 damage "cuts '$W/state' 40 mamba-layer --load-state @ '$W/embedded'"
    echo "$output"
    [ "$output" = "65 40" ]
    run -0 damage "flips '$W/state' 60 mamba-layer --load-state @ '$W/embedded'"
    echo "$output"
    [ "$output" = "65 60" ]
    pipe 'm=$TREE/tests/golden/mamba-bias; tokenize -m bytes "$W/cv.txt" | embed -m $m | mamba-layer -m $m --dump-state "$W/other" >/dev/null'
    run -65 --separate-stderr pipe 'mamba-layer --load-state "$W/other" "$W/embedded" >/dev/null'
    echo "$stderr"
    [[ $stderr == *"$W/other"*model* ]]
    run -66 --separate-stderr pipe 'mamba-layer --load-state "$W/nowhere" "$W/embedded" >/dev/null'
    [[ $stderr == *"$W/nowhere"* ]]
    run -65 --separate-stderr pipe 'mamba-layer --load-state "$W/cv.txt" "$W/embedded" >/dev/null'
    [ "$stderr" = "mamba-layer: $W/cv.txt is not a state: it looks like text; \`mamba-layer --dump-state\` writes states" ]
    run -0 damage "flips '$W/state' 40 state verify @"
    echo "$output"
    [ "$output" = "65 40" ]
}

@test "a full disk: 74 and what failed" {
    local f input
    for f in "tokenize $W/cv.txt" "embed $W/tokens" "mamba-layer $W/embedded" "head $W/hidden" \
        "extract $W/scores" "inspect $W/hidden" "state info $W/state" "mkresume -n 5"; do
        run -74 --separate-stderr pipe "timeout 20 $f >/dev/full"
        echo "$stderr"
        [ "$stderr" = "${f%% *}: writing standard output: No space left on device" ]
    done
    run -74 --separate-stderr pipe 'mamba-layer --dump-state /dev/full/x "$W/embedded" >/dev/null'
}

@test "a closed pipe ends every program, by SIGPIPE" {
    local f
    for i in $(seq 200); do cat "$W/cv.txt"; done >"$W/long.txt"
    for f in "tokenize $W/long.txt" "tokenize $W/long.txt | embed" \
        "tokenize $W/long.txt | embed | mamba-layer" "mkresume -n 1000000"; do
        run -0 pipe "timeout 20 bash -o pipefail -c '$f | true'; echo \$?"
        echo "$f: $output"
        [ "$output" = 141 ]
    done
}

@test "binary is refused on a terminal, and its standard output stays clean" {
    local f
    for f in "tokenize $W/cv.txt" "embed $W/tokens" "mamba-layer $W/embedded" "head $W/hidden"; do
        run -2 damage "pty $f"
        echo "$output"
        [[ $output == "${f%% *}: the output is binary and standard output is a terminal"* ]]
    done
}

@test "an upstream program that dies takes the pipe down, even without pipefail" {
    run -65 --separate-stderr pipe 'set +o pipefail; /usr/bin/head -c 700 "$W/tokens" | embed | mamba-layer | head | extract'
    echo "$stderr"
    [ -z "$output" ]
    # one message, of the program that found it
    [ "$(wc -l <<<"$stderr")" = 1 ]
    [[ $stderr == embed:* ]]
}

@test "invalid UTF-8 and NUL bytes in a text" {
    printf 'Universit\344t \xff\xfe Bern\000 1999\n' >"$W/bad.txt"
    run -0 --separate-stderr pipe 'tokenize "$W/bad.txt" | embed | mamba-layer | head | extract'
    [[ $output == '{"id": '* ]]
    # bytes are bytes to a byte vocabulary; a vocabulary of words has to know characters
    printf '%s\n' '[PAD]' '[UNK]' '[CLS]' '[SEP]' '[MASK]' bern 1999 >"$W/vocab.txt"
    run -0 --separate-stderr pipe 'tokenize -m "$W/vocab.txt" "$W/bad.txt" >/dev/null'
    [ "$stderr" = "tokenize: $W/bad.txt: invalid UTF-8 at byte 9, replaced (3 times in all); of another encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)" ]
    run -1 --separate-stderr pipe 'tokenize --invalid refuse -m "$W/vocab.txt" "$W/bad.txt" >/dev/null'
    [ "$stderr" = "tokenize: $W/bad.txt: invalid UTF-8 at byte 9 (--invalid replace goes on)" ]
}

@test "100 MB of one line: memory stays constant" {
    local mb=100 limit=400000
    [ "${SAN:-0}" = 0 ] || mb=10 limit=unlimited
    run -0 pipe "ulimit -v $limit; dd if=/dev/zero bs=1M count=$mb status=none | tr '\\0' x |
        timeout 60 tokenize -m bytes >/dev/null"
    echo "$output"
}
