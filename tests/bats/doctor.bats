load common

setup() { doctor="$STATEPIPE_BUILD/bin/doctor -m $TREE/tests/golden/tiny"; }

@test "findings about CPU, products, model, tokenizer and tools" {
    run -0 --separate-stderr $doctor
    [ -z "$stderr" ]
    local what
    for what in cpu kernels amx products cuda model tokenizer fill pdf; do
        echo "$what: $output"
        grep -q "^$what  *[^ ]" <<<"$output"
    done
    grep -q "^model  *$TREE/tests/golden/tiny$" <<<"$output"
    grep -q 'mamba, 2 layers of 32 (inner 64, state 8), vocabulary 264, fingerprint [0-9a-f]\{8\}$' <<<"$output"
    grep -q 'head tag (tag, default)$' <<<"$output"
    grep -q '^tokenizer  *[0-9]* tokens, byte-exact$' <<<"$output"
}

@test "reversed layers, which, and their window" {
    cd "$BATS_TEST_TMPDIR"
    ! $doctor | grep -q reversed || return 1
    cp -r "$TREE/tests/golden/tiny" reversed
    sed -i '/"lm": {/,/},/d; s/"format": 1/"format": 2/; s/"delay": 0,/"delay": 0, "reverse": 32, "reverse_layers": [0, 1],/' \
        reversed/config.json
    run -0 "$STATEPIPE_BUILD/bin/doctor" -m reversed
    grep -q '^  *layers 0, 1 reversed in windows of 32 tokens$' <<<"$output"
}

@test "the model that answers questions, or that there is none" {
    cd "$BATS_TEST_TMPDIR"
    run -0 "$STATEPIPE_BUILD/bin/doctor" -m "$TREE/share/model"
    grep -q "^fill  *$TREE/share/model/fill$" <<<"$output"
    [ "$(grep -c 'fingerprint' <<<"$output")" = 2 ]
    run -0 $doctor
    grep -q "^fill  *$TREE/tests/golden/tiny$" <<<"$output"
    grep -q 'head lm (lm)$' <<<"$output"
    cp -r "$TREE/share/model" alone && rm -r alone/fill
    run -0 "$STATEPIPE_BUILD/bin/doctor" -m alone
    grep -q '^fill  *[^ ]*/alone is no language model and finds no answers' <<<"$output"
}

@test "what holds the machine back is said, with what to do" {
    STATEPIPE_CPU=ref run -0 $doctor
    grep -q '^kernels  *ref, of ref' <<<"$output"
    if grep -q '^kernels  *ref, of ref .' <<<"$output"; then
        grep -q 'do: unset STATEPIPE_CPU' <<<"$output"
    fi
    STATEPIPE_JOBS=1 run -0 $doctor
    grep -q '^threads  *\$STATEPIPE_JOBS is 1$' <<<"$output"
    grep -q 'cpu: kernels .*, 1 thread,' <<<"$output"
    run -0 env PATH=/nonexistent $doctor
    grep -q 'do: apt-get install poppler-utils' <<<"$output"
    grep -q '^bash  *not there' <<<"$output"
}

@test "a path in STATEPIPE_CPU that is none is refused, by the filters too" {
    STATEPIPE_CPU=foo run -69 $doctor
    grep -q "STATEPIPE_CPU is 'foo', which is none of ref, avx2, avx512 that this CPU has (ref" <<<"$output"
    cd "$BATS_TEST_TMPDIR"
    "$BATS_TEST_DIRNAME/stream.py" tokens 4 >tokens
    pipe "embed -m '$TREE/tests/golden/tiny' tokens >hidden"
    STATEPIPE_CPU=foo run -2 --separate-stderr pipe "mamba-layer -m '$TREE/tests/golden/tiny' hidden >/dev/null"
    [[ $stderr == "mamba-layer: \$STATEPIPE_CPU is 'foo', which is none of "* ]]
}

@test "no model, or one without a tokenizer: 66, and the rest is reported all the same" {
    run -66 "$STATEPIPE_BUILD/bin/doctor" -m /nonexistent
    grep -q '^model  *no model directory /nonexistent' <<<"$output"
    grep -q 'do: .*STATEPIPE_MODEL' <<<"$output"
    grep -q '^pdf ' <<<"$output"
    run -66 "$STATEPIPE_BUILD/bin/doctor" -m "$TREE/tests/golden/mamba-odd"
    grep -q '^tokenizer .*neither' <<<"$output"
}

@test "operands and a full disk" {
    run -2 --separate-stderr $doctor more
    [ "$stderr" = "doctor: no argument is expected, but there is 'more'" ]
    run -74 --separate-stderr bash -c "$doctor >/dev/full"
    [ "$stderr" = "doctor: writing standard output: No space left on device" ]
}
