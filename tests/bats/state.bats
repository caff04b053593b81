load common
load state_setup

@test "info: tokens, origin, layers, fingerprints, norms" {
    run -0 pipe "state info a.state"
    [[ ${lines[0]} == "a.state: 3 tokens (read), layers 0-$last of $((last + 1)), 0.0"*" MiB in f32" ]]
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

@test "verify: the tokenizer, as programs that load the state do" {
    pipe "echo Jane | tokenize -m $model | embed -m $model | mamba-layer -m $model --dump-state own >/dev/null"
    cp -r "$model" other # the same model, with another tokenizer
    cp "$TREE/tests/golden/tokens/bpe.json" other/tokenizer.json
    run -0 pipe "state verify -m $model own a.state" # of a.state the tokenizer is not known
    run -65 --separate-stderr pipe "state verify -m other a.state own"
    [ "${#lines[@]}" = 1 ]
    [[ $stderr == "state: own: the state was made with another tokenizer ("*") than "*"/other ("*")" ]]
    why=${stderr#state: }
    run -65 pipe "generate -m other --load-state own -n 1 x"
    [ "$output" = "generate: $why" ]
    # a model without a tokenizer, as where only layers are run
    rm other/tokenizer.json
    sed -i '/"tokenizer"/d' other/config.json
    pipe "echo Jane | tokenize -m bytes | embed -m other | mamba-layer -m other --dump-state own >/dev/null"
    run -0 pipe "state verify -m other own"
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

commands() { pipe "state --help" | sed -n '/^Commands:$/,/^$/s/^  \([a-z]*\) .*/\1/p'; }

@test "every command has a --help that fits a screen, and its options are in the man page" {
    [ "$(commands | wc -l)" = 12 ]
    for c in $(commands); do
        help=$(pipe "state $c --help")
        echo "$c: $help"
        [ "$(wc -l <<<"$help")" -le 24 ]
        [ "$(wc -L <<<"$help")" -le 80 ]
        [[ $help == "usage: state $c [options] "*"Example:"*"Exit status: 0 ok, 1 "*"man statepipe-state" ]]
        grep -q "^\.It Cm $c\$" "$TREE/man/state.1"
        sed -n "/^\.Cm $c\$/,/^\.Nm\$/p" "$TREE/man/state.1" >synopsis
        for o in $(sed -n '/^$/,/^$/s/^  \(-.,\|   \) \(--[a-z]*\).*/\2/p' <<<"$help"); do
            [ "$o" = --help ] || grep -q "^\.It.* -${o#--}\b" "$TREE/man/state.1"
        done
        [ "$c" = cut ] || run -2 pipe "state $c"
        [ "$c" = cut ] || [[ $output == "state: state $c takes "*" (see state $c --help)" ]]
        run -2 pipe "state $c --no-such-option x"
        [ "$output" = "state: unknown option --no-such-option (see state $c --help)" ]
        [ "$(pipe "state $c --version")" = "$(pipe "state --version")" ]
    done
    run -2 pipe "state frobnicate a.state"
    [ "$output" = "state: 'frobnicate' is not a command (see state --help)" ]
}

@test "completions know the commands and their options" {
    # shellcheck disable=SC1090
    source "$STATEPIPE_BUILD/completions/statepipe.bash"
    answer() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _statepipe
        echo "${COMPREPLY[*]}"
    }
    [ "$(answer statepipe state con)" = convert ]
    [ "$(answer statepipe state near --me)" = --metric ]
    [ "$(answer statepipe state near --metric "")" = "cosine l2" ]
    [ "$(answer statepipe state plot --format p)" = pgm ]
    [ "$(answer statepipe state --ver)" = --version ]
    [ -z "$(answer statepipe state mix --within)" ]
    for c in $(commands); do
        grep -q -- "-f -a $c -d" "$STATEPIPE_BUILD/completions/statepipe.fish"
        grep -q "^    'state $c')" "$STATEPIPE_BUILD/completions/_statepipe"
    done
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
