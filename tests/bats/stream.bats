# The stream's man page is right: its example is what the library writes, its reader reads it.
load common

page=$BATS_TEST_DIRNAME/../../man/statepipe-stream.5
example() { "$STATEPIPE_BUILD/check/wire" --example; }
seeds=$BATS_TEST_DIRNAME/../fuzz/seeds/stream

# The literal block behind a mark.
block() { sed -n "/^\.\\\\\" $1 begin/,/^\.\\\\\" $1 end/p" "$page" | sed '/^\./d'; }

# Runs the man page's reader on standard input.
reader() {
    block reader >"$BATS_TEST_TMPDIR/reader.py"
    python3 "$BATS_TEST_TMPDIR/reader.py"
}

@test "the worked example is what the library writes, byte by byte" {
    block example | sed 's/#.*//' | tr -d ' \n' >"$BATS_TEST_TMPDIR/page"
    example | od -An -v -tx1 | tr -d ' \n' >"$BATS_TEST_TMPDIR/library"
    [ -s "$BATS_TEST_TMPDIR/page" ]
    cmp "$BATS_TEST_TMPDIR/page" "$BATS_TEST_TMPDIR/library"
    example | wc -c | grep -qx "$(sed -n 's/.*: \([0-9]*\) bytes\.$/\1/p' "$page")"
}

@test "the example is what inspect shows" {
    run -0 pipe "'$STATEPIPE_BUILD/check/wire' --example | inspect -n 4"
    [ "${lines[1]}" = '       140  DOC id="a.txt" doc=0' ]
    [ "${lines[3]}" = '    text u8 (2) "Hi"' ]
    [ "${lines[6]}" = '        72 105' ]
    [ "${lines[8]}" = '        0 1 1 2' ]
    [ "${#lines[@]}" = 11 ]
}

@test "the man page's reader reads the example" {
    example | reader >"$BATS_TEST_TMPDIR/out"
    diff - "$BATS_TEST_TMPDIR/out" <<'END'
statepipe {'version': [1, 0], 'content': 'tokens', 'program': 'tokenize', 'model_dir': '', 'model': b'\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00', 'tokenizer': b'\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00', 'next_layer': 0, 'n_layer': 0} {}
DOC {'id': 'a.txt', 'doc': 0} {}
TEXT {'doc': 0, 'off': 0} {'text': ((2,), (72, 105))}
CHUNK {'doc': 0, 'pos': 0, 'pass': 0, 'last': True} {'ids': ((2,), (72, 105)), 'span': ((2, 2), (0, 1, 1, 2))}
DOCEND {'doc': 0, 'n_tok': 2, 'status': 'ok'} {}
END {'docs': 1, 'errors': 0, 'open': 0} {}
END
}

@test "the man page's reader sees the records that inspect sees" {
    for file in "$seeds"/{empty,one,three}; do
        reader <"$file" | cut -d' ' -f1 >"$BATS_TEST_TMPDIR/reader"
        pipe "inspect --json '$file'" | sed 's/.*"kind":"\([^"]*\)".*/\1/' \
            >"$BATS_TEST_TMPDIR/inspect" || true
        [ -s "$BATS_TEST_TMPDIR/reader" ]
        diff "$BATS_TEST_TMPDIR/reader" "$BATS_TEST_TMPDIR/inspect"
    done
}

@test "the man page's reader is about 20 lines" {
    [ "$(block reader | grep -c .)" -le 25 ]
}

@test "cat of two streams is a stream" {
    cat "$seeds/one" "$seeds/empty" "$seeds/one" >"$BATS_TEST_TMPDIR/joined"
    run -0 pipe "inspect '$BATS_TEST_TMPDIR/joined'"
    [ "$(grep -c ' END ' <<<"$output")" = 3 ]
}

@test "every cut of a stream is refused with status 65, but at the end of a segment" {
    cat "$seeds/empty" "$seeds/one" >"$BATS_TEST_TMPDIR/whole"
    size=$(stat -c %s "$BATS_TEST_TMPDIR/whole") end=$(stat -c %s "$seeds/empty")
    for ((n = 0; n < size; n += 7)); do
        [ $n = "$end" ] && continue
        head -c $n "$BATS_TEST_TMPDIR/whole" >"$BATS_TEST_TMPDIR/cut"
        run -65 pipe "inspect '$BATS_TEST_TMPDIR/cut' >/dev/null"
        [[ $output == *"upstream program"* ]]
    done
    head -c "$end" "$BATS_TEST_TMPDIR/whole" >"$BATS_TEST_TMPDIR/cut"
    run -0 pipe "inspect '$BATS_TEST_TMPDIR/cut'"
}

@test "foreign input is refused at once, and named" {
    refused() { # what the message says; the bytes on standard input
        cat >"$BATS_TEST_TMPDIR/foreign"
        run -65 pipe "inspect '$BATS_TEST_TMPDIR/foreign'"
        [[ $output == *"is not a statepipe stream: it looks like $1"* ]]
    }
    echo 'Jane Doe' | refused 'text: run `tokenize` first'
    echo 'Jane Doe' | gzip | refused 'gzip data'
    printf '%%PDF-1.4' | refused 'a PDF: run pdftotext first'
    printf '\x82\xa1a\x01' | refused 'msgpack, but not of statepipe'
    head -c 100 /bin/ls | refused 'a program'
    printf '\xff\xfeJ\0' | refused 'UTF-16 text'
    printf '\x01\x02\xff' | refused 'binary data'
}

# ---- streams of the programs themselves ----

model=$BATS_TEST_DIRNAME/../golden/tiny

@test "the man page's reader reads what each program of the pipe writes" {
    export STATEPIPE_MODEL=$model
    printf 'Hi' >"$BATS_TEST_TMPDIR/a.txt"
    for line in "tokenize a.txt" "tokenize a.txt | embed" "tokenize a.txt | embed | mamba-layer" \
        "tokenize a.txt | embed | mamba-layer | head"; do
        (cd "$BATS_TEST_TMPDIR" && pipe "$line") | reader >"$BATS_TEST_TMPDIR/out"
        grep -q "^DOC {'id': 'a.txt'" "$BATS_TEST_TMPDIR/out"
        grep -q "^TEXT {.*'text': ((2,), (72, 105))}" "$BATS_TEST_TMPDIR/out"
        grep -q "^CHUNK {.*'ids': ((2,), (72, 105)), 'span': ((2, 2), (0, 1, 1, 2))" \
            "$BATS_TEST_TMPDIR/out"
        grep -q "^DOCEND {.*'n_tok': 2" "$BATS_TEST_TMPDIR/out"
        grep -q "^END {'docs': 1, 'errors': 0, 'open': 0}" "$BATS_TEST_TMPDIR/out"
    done
}

# flip FILE BIT: the file with one bit turned over.
flip() {
    local byte
    byte=$(od -An -tu1 -j $(($2 / 8)) -N 1 "$1")
    cp "$1" flipped
    printf "\\x$(printf %x $((byte ^ 1 << $2 % 8)))" |
        dd of=flipped bs=1 seek=$(($2 / 8)) conv=notrunc status=none
}

@test "flipped bits on the way never crash or hang a filter" {
    cd "$BATS_TEST_TMPDIR"
    export STATEPIPE_MODEL=$model
    printf 'Jane Doe' | pipe "tokenize | embed" >hidden
    size=$(stat -c %s hidden)
    # Every bit near the front, where all of the structure is, and some of the numbers.
    for ((bit = 3; bit < size * 8; bit += bit < 6000 ? 149 : 997)); do
        flip hidden $bit
        run timeout 20 bash -o pipefail -c \
            "PATH=$STATEPIPE_BUILD/bin:\$PATH; mamba-layer -j 1 flipped | head | extract >/dev/null"
        case $status in
        0 | 1 | 65) ;;
        66) [[ $output == *model* ]] ;; # the bit was in the model's directory
        *) echo "bit $bit: status $status: $output" && return 1 ;;
        esac
    done
}

@test "a program that dies is noticed by all behind it, without pipefail" {
    export STATEPIPE_MODEL=$model
    run -65 bash -c "PATH=$STATEPIPE_BUILD/bin:\$PATH; echo Jane | tokenize | /usr/bin/head -c 300 |
        embed | mamba-layer | head | extract"
    [[ $output == *"embed: standard input ends in the middle of a "* ]]
    # Said once: the others only pass it on.
    [ "$(grep -c 'upstream program died' <<<"$output")" = 1 ]
}
