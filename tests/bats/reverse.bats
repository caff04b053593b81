load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    cd "$BATS_TEST_TMPDIR"
    cp -r "$TREE/tests/golden/tiny" model
    sed -i 's/"delay": 0/"delay": 0, "reverse": 64, "reverse_layers": [0]/' model/config.json
    export STATEPIPE_MODEL=$PWD/model
    head -c 700 "$TREE/LICENSE" >long
    head -c 323 "$TREE/README.md" >middle
    printf 'a CV' >short
    printf x >one
}

@test "reversed layers: chunks, packing, threads and layers over processes do not show" {
    pipe "tokenize long middle short one | embed | mamba-layer | '$stream' rows hidden >rows"
    run -0 pipe "cmp rows <(for f in long middle short one; do
        tokenize \$f | embed | mamba-layer -j 2 | '$stream' rows hidden; done)"
    run -0 pipe "cmp rows <(tokenize long middle short one | embed | mamba-layer -l 0 |
        mamba-layer -l 1 | '$stream' rows hidden)"
    pipe "tokenize long | embed | mamba-layer | '$stream' rows hidden >rows"
    run -0 pipe "cmp rows <(tokenize --chunk 128 long | embed | mamba-layer | '$stream' rows hidden)"
}

@test "a token of a window changes what is before it, and nothing in front of the window" {
    pipe "tokenize long | embed | mamba-layer -l 0 | '$stream' rows hidden >rows"
    for at in 127 128 191; do # byte-level: token 0 is byte 0
        { head -c $at long; printf '\001'; tail -c +$((at + 2)) long; } >other
        pipe "tokenize other | embed | mamba-layer -l 0 | '$stream' rows hidden >changed"
        run -0 python3 - $at <<'END'
import sys
at = int(sys.argv[1])
a, b = (open(f).read().splitlines()[1:] for f in ("rows", "changed"))
assert len(a) == len(b) == 700
different = [i for i in range(700) if a[i] != b[i]]
assert different == list(range(at // 64 * 64, at + 1)), different
END
    done
}

@test "what reversed layers cannot do is refused" {
    run -1 --separate-stderr pipe "tokenize --chunk 100 long | embed | mamba-layer >/dev/null"
    [[ "$stderr" == *"begins inside a window of the reversed layers"*"a multiple of 64"* ]]
    for option in "--dump-state s" --emit-state "--cache c" "--checkpoint c -o o"; do
        run -2 --separate-stderr pipe "tokenize long | embed | mamba-layer $option >/dev/null"
        [[ "$stderr" == *"no states of it can be loaded, written or kept"* ]]
    done
}
