load common

# make_state FILE SEED FIRST LAST: random numbers in the shape of the tiny model.
make_state() { "$STATEPIPE_BUILD/check/state" --write "$TREE/tests/golden/tiny" "$@"; }

setup() {
    model=$TREE/tests/golden/tiny
    other=$TREE/tests/golden/mamba-odd
    cd "$BATS_TEST_TMPDIR" || return 1
    last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$model/config.json") - 1))
    make_state a.state 1 0 $last
}

@test "info: tokens, origin, layers, fingerprints, norms" {
    run -0 pipe "state info a.state"
    [[ ${lines[0]} == "a.state: 3 tokens (read), layers 0-$last of $((last + 1)), 0.0"*" MiB" ]]
    [[ ${lines[1]} =~ ^"  model      "[0-9a-f]{32}$ ]]
    [ "${lines[2]}" = "  tokenizer  00000000000000000000000000000000" ]
    [[ ${lines[3]} =~ ^"  prefix     "[0-9a-f]{32}$ ]]
    [ "${lines[5]}" = "  last token 3, hidden norm 0" ]
    [ "${#lines[@]}" = $((7 + last + 1)) ]
}

@test "info --jsonl: one object per file" {
    run -0 pipe "state info --jsonl a.state a.state | python3 -c '
import json, sys
a, b = [json.loads(line) for line in sys.stdin]
assert a == b and a[\"n_tok\"] == 3 and a[\"layers\"] == [0, $last] and a[\"origin\"] == \"read\"
assert len(a[\"norms\"]) == $last + 1 and a[\"norms\"][0][\"ssm\"][\"norm\"] > 1
print(\"fine\")'"
    [ "$output" = fine ]
}

@test "diff: equal 0, different 1, layer by layer" {
    make_state b.state 2 0 $last
    run -0 pipe "state diff a.state a.state"
    [ "${lines[-1]}" = equal ]
    run -1 pipe "state diff a.state b.state"
    [ "${lines[-1]}" = different ]
    run -1 pipe "state diff -j a.state b.state"
    [[ $output == '{"equal":false,"fields":[],"last":0,"largest":1.'* ]]
}

@test "diff --within counts small differences as equal, but not another model" {
    make_state b.state 2 0 $last
    run -1 pipe "state diff --within 0.5 a.state b.state"
    run -2 pipe "state diff --within 2 a.state b.state"
    run -2 pipe "state diff a.state"
    n=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$other/config.json") - 1))
    "$STATEPIPE_BUILD/check/state" --write "$other" c.state 1 0 $n
    run -65 pipe "state diff a.state c.state"
    [[ $output == "state: "*"nothing to compare"* || $output == "state: "*"different shapes"* ]]
}

@test "layers joined by cat are the whole" {
    make_state whole.state 7 0 $last
    make_state first.state 7 0 0
    make_state rest.state 9 1 $last
    cat rest.state first.state >joined.state
    run -0 pipe "state verify -m $model joined.state"
    [[ $output == "joined.state: ok, layers 0-$last of "* ]]
    run -1 pipe "state diff joined.state whole.state"
    cat first.state first.state >twice.state
    run -65 pipe "state info twice.state"
    [ "$output" = "state: twice.state: the state has layer 0 twice" ]
}

@test "verify: the model, and that it is another's" {
    run -0 pipe "state verify -m $model a.state"
    run -65 pipe "state verify -m $other a.state a.state"
    [[ ${lines[0]} == "state: a.state: the state belongs to another model (fingerprint "* ]]
    [ "${#lines[@]}" = 2 ]
    run -66 pipe "state verify -m nothere a.state"
}

@test "verify --full: the hash of all weights sees what the fingerprint may not" {
    cp -r "$model" copy
    run -0 pipe "state verify --full -m $model a.state"
    [[ ${lines[0]} =~ "weights "[0-9a-f]{32}$ ]]
    first=${lines[0]##* }
    run -0 pipe "state verify --full -m copy a.state"
    [ "${lines[0]##* }" = "$first" ]
    printf 'x' | dd of=copy/model.safetensors bs=1 seek=$(($(stat -c %s copy/model.safetensors) - 3)) conv=notrunc status=none
    run pipe "state verify --full -m copy a.state"
    [ "${lines[0]##* }" != "$first" ]
}

@test "verify: all files are looked at; a damaged one is named" {
    cp a.state bad.state
    printf 'x' | dd of=bad.state bs=1 seek=$(($(stat -c %s a.state) / 2)) conv=notrunc status=none
    run -65 --separate-stderr pipe "state verify a.state bad.state a.state"
    [ "${#lines[@]}" = 2 ]
    [[ $stderr == "state: bad.state: "*"damaged"* ]]
    run -65 --separate-stderr pipe "state verify -j bad.state"
    [[ $output == '{"file":"bad.state","ok":false,"message":"'* ]]
}

@test "a cut file, a stream, text, nothing" {
    head -c 500 a.state >cut.state
    run -65 pipe "state info cut.state"
    [[ $output == *"cut.state ends in the middle of"* ]]
    run -65 pipe "state info '$TREE/tests/fuzz/seeds/stream/one'"
    [[ $output == *"it is a stream of hidden, not a state" ]]
    run -65 pipe "state info '$TREE/Makefile'"
    [[ $output == *"it looks like text"* ]]
    run -65 pipe "state info - </dev/null"
    run -66 pipe "state info nothere"
    run -2 pipe "state"
    run -2 pipe "state frobnicate a.state"
}

@test "a full disk" {
    run -74 pipe "state info a.state >/dev/full"
    [ "$output" = "state: writing standard output: No space left on device" ]
}

@test "the man page and --help name the same options" {
    for o in $(pipe "state --help" | grep -o -- '--[a-z]*'); do
        grep -q -- "-${o#--}\b" "$TREE/man/state.1"
    done
    [ "$(pipe "state --help" | wc -l)" -le 24 ]
    [[ $(pipe "state --help") == *"Exit status: 0 ok, 1 states differ, 2 usage"* ]]
}

@test "a state is dumped into a pipe or a device, which stays what it is" {
    mkfifo fifo
    cat fifo >copy &
    pipe "echo Jane | tokenize -m $model | embed -m $model |
        mamba-layer -m $model --dump-state fifo >/dev/null"
    wait
    [ -p fifo ]
    run -0 pipe "state verify -m $model copy"
    # not /dev/full itself: the suite may run as root
    ln -s /dev/full full
    run -74 pipe "echo Jane | tokenize -m $model | embed -m $model |
        mamba-layer -m $model --dump-state full >/dev/null"
    [[ $output == *"full: No space left on device"* ]]
    [ -c full ]
}
