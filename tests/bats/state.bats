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

@test "split and merge: layer by layer and in ranges, back to the same bytes" {
    make_state whole.state 7 0 $last
    run -0 pipe "state split -o part.%i.state whole.state"
    [ -z "$output" ]
    for layer in $(seq 0 $last); do
        run -0 pipe "state info part.$layer.state"
        echo "$layer: $output"
        [[ ${lines[0]} == "part.$layer.state: 3 tokens (read), layers $layer-$layer of $((last + 1)), "* ]]
    done
    [[ $output == *"last token 3, "* ]]
    run -0 pipe "state merge -o back.state $(printf 'part.%s.state ' $(seq $last -1 0))"
    cmp whole.state back.state
    # in ranges, to numbered files, and through a pipe
    pipe "state split -l 0 -l 1-$last -o n%n whole.state"
    run -0 pipe "cat n1 | state merge - n0 >back.state"
    cmp whole.state back.state
    pipe "state split -l 0 -l 1-$last whole.state >both"
    run -0 pipe "state merge both | cmp - whole.state"
    [ -z "$(ls -A | grep tmp)" ]
}

@test "merge: layers run by two processes, whose states make that of one" {
    pipe "printf 'Jane Doe\n' | tokenize -m $model | embed -m $model >hidden"
    pipe "mamba-layer -m $model --dump-state whole.state hidden >/dev/null"
    pipe "mamba-layer -m $model -l 0-0 --dump-state first.state hidden |
        mamba-layer -m $model -l 1-$last --dump-state rest.state >/dev/null"
    run -0 pipe "state merge -o both.state rest.state first.state"
    cmp both.state whole.state
    pipe "mamba-layer -m $model --load-state both.state hidden >x; mamba-layer -m $model --load-state whole.state hidden >y"
    cmp x y
}

@test "cut: the states that documents bring along, into files" {
    printf 'Jane Doe\n' >a.txt
    printf 'John Roe\n' >b.txt
    pipe "tokenize -m $model a.txt b.txt | embed -m $model >hidden"
    pipe "mamba-layer -m $model --emit-state --dump-state 'want.%i' hidden >stream"
    run -0 pipe "state cut stream"
    cmp a.txt.state want.a.txt
    cmp b.txt.state want.b.txt
    run -0 pipe "head -m $model --head lm --score stream | state cut -o 'n%n'"
    cmp n0 want.a.txt
    cmp n1 want.b.txt
    run -2 pipe "state cut -o one stream"
    [ "$output" = "state: -o one: several states would overwrite one another; use %i or %n (a number) in the name" ]
    run -65 pipe "mamba-layer -m $model hidden | state cut"
    [ "$output" = "state: no document brings a state: mamba-layer --emit-state adds them" ]
    head -c 3000 stream >cut.stream
    run -65 pipe "state cut cut.stream"
    [[ $output == "state: "*"cut.stream ends in the middle of"* ]]
    run -66 pipe "state cut nothere"
}

@test "split: layers that are not there, names that do not vary" {
    run -65 pipe "state split -l 0-0 -l 0 -o again.%i a.state"
    [ "$output" = "state: its file would be again.0, which is that of number 0 of this run already: use %n (the number) in the name" ]
    run -2 pipe "state split -l 0-$((last + 1)) -o x.state a.state"
    [ "$output" = "state: layers 0-$((last + 1)): the state has layers 0-$last" ]
    for bad in x 1- -1 2-1 0-99999999999 0x1 ' 0' ''; do
        run -2 pipe "state split '-l$bad' -o x.state a.state"
        [[ $output == "state: -l '$bad': write the first and the last layer, counted from 0, as in 0-11" ]] || [ -z "$bad" ]
    done
    run -2 pipe "state split -o x.state a.state"
    [ "$output" = "state: -o x.state: several states would overwrite one another; use %i or %n (a number) in the name" ]
    run -2 pipe "state split -o x.%q a.state"
    [ "$output" = "state: the file's name x.%q: %q is not one of %i (the id), %n (the number), %%" ]
    [ ! -e x.state ]
}

@test "merge refuses what does not belong together, and says which file" {
    make_state first.state 7 0 0
    make_state rest.state 9 1 $last
    other_last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$other/config.json") - 1))
    "$STATEPIPE_BUILD/check/state" --write "$other" other.state 1 1 $other_last
    fingerprint() { pipe "state info $1" | sed -n 's/^  model *\(.\{12\}\).*/\1/p'; }
    run -65 pipe "state merge -o out a.state first.state"
    [ "$output" = "state: first.state: layer 0 is in a.state too" ]
    run -65 pipe "state merge -o out first.state other.state"
    [ "$output" = "state: other.state: the state belongs to another model (fingerprint $(fingerprint other.state)) than first.state ($(fingerprint first.state))" ]
    model_of_four=$TREE/tests/golden/mamba-deep
    four() { "$STATEPIPE_BUILD/check/state" --write "$model_of_four" "$@"; }
    deep=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$model_of_four/config.json") - 1))
    [ "$deep" -ge 3 ]
    four f0 1 0 0
    four f3 1 3 3
    run -65 pipe "state merge -o out f3 f0"
    [ "$output" = "state: layers 1-2 are in none of the files" ]
    pipe "state convert -t bf16 -o half.state rest.state" 2>/dev/null
    run -65 pipe "state merge -o out first.state half.state"
    [ "$output" = "state: half.state: the state's origin is converted, that of first.state is read" ]
    [ ! -e out ]
}

@test "an output over an input is refused" {
    cp a.state b.state
    ln -s a.state link
    for c in "merge -o a.state a.state" "merge -o a.state b.state a.state" "split -l 0 -o a.state a.state" \
        "convert -t bf16 -o a.state a.state" "convert -t bf16 -o link a.state" "export -o a.state a.state" \
        "mix -o a.state b.state:1 a.state:1" "plot --format svg -o a.state a.state"; do
        run -2 pipe "state $c"
        echo "$c: $output"
        [ "$output" = "state: the output would replace the input a.state: write to another file" ]
        cmp a.state b.state
    done
    run -2 pipe "state convert -t bf16 - <a.state >>a.state"
    [ "$output" = "state: the output would replace the input -: write to another file" ]
    cmp a.state b.state
}

@test "binary output is refused on a terminal" {
    for c in "split a.state" "mix a.state:1" "plot --format pgm a.state"; do
        run -2 pipe "'$TREE/tests/bats/damage.py' pty state $c"
        echo "$c: $output"
        [[ $output == "state: the output is binary and standard output is a terminal"* ]]
    done
}

last_segment() { tail -c +$(($(LC_ALL=C grep -abo -P '\x93\xa9statepipe' "$1" | tail -n 1 | cut -d : -f 1) + 1)) "$1"; }

@test "convert: half the bytes, what is lost is said, and programs read it" {
    pipe "echo Jane Doe | tokenize -m $model | embed -m $model >hidden"
    pipe "mamba-layer -m $model --dump-state r.state hidden >plain"
    for t in bf16 f16; do
        run -0 --separate-stderr pipe "state convert -t $t -o $t.state r.state"
        [ -z "$output" ]
        echo "$stderr"
        [[ $stderr == "conv in $t: relative error at most "[0-9]*", rms 0.00"*" of "*" numbers have become 0
ssm  in $t: relative error at most "* ]]
        [ "$(stat -c %s $t.state)" -lt $(($(stat -c %s r.state) * 3 / 4)) ]
        # the size that info tells is that of the numbers in the file: all of it but names and padding
        pipe "state info -j $t.state | python3 -c 'import json, os; d = json.load(open(0))
assert 0 < os.stat(\"$t.state\").st_size - d[\"bytes\"] < 1000 + 500 * d[\"n_layer\"]'"
        run -0 pipe "state info $t.state"
        [[ ${lines[0]} == "$t.state: "*" tokens (converted), layers 0-$last of $((last + 1)), "*" MiB in $t" ]]
        run -0 pipe "state verify -m $model $t.state"
        run -1 pipe "state diff --within 0.01 r.state $t.state"
        [ "${lines[0]}" = "origin differs" ]
        # loaded, in-band too, and another state than the exact one
        pipe "mamba-layer -m $model --load-state $t.state hidden >loaded; cat $t.state hidden | mamba-layer -m $model >inband"
        pipe "mamba-layer -m $model --load-state r.state hidden >exact"
        cmp loaded inband
        run -1 cmp -s <(last_segment loaded) <(last_segment exact)
        # back to f32: the same numbers, still of origin converted
        run -0 --separate-stderr pipe "state convert -t f32 $t.state >back.state"
        [ -z "$stderr" ]
        run -1 pipe "state diff back.state r.state"
        run -0 pipe "state diff back.state $t.state"
        # a state dumped after it does not claim to be exact
        pipe "mamba-layer -m $model --load-state $t.state --dump-state after.state hidden >/dev/null"
        run -0 pipe "state info after.state"
        [[ ${lines[0]} == *"(converted)"*" in f32" ]]
    done
    run -2 pipe "state convert -o x r.state"
    [ "$output" = "state: say the type: --dtype f32, bf16 or f16" ]
    run -2 pipe "state convert -t int8 -o x r.state"
}

@test "export and import: the same bytes; a reader in Python finds names, shapes and numbers" {
    for t in f32 bf16 f16; do
        pipe "state convert -t $t -o x.state a.state" 2>/dev/null
        pipe "state export -o x.safetensors x.state"
        run -0 pipe "state import x.safetensors | cmp - x.state"
        pipe "state info -j x.state" >x.json
        run -0 python3 - $t <<'END'
import json, math, struct, sys
info, dtype = json.load(open("x.json")), sys.argv[1]
data = open("x.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
head = json.loads(data[8:8 + n])
meta = head.pop("__metadata__")
def half(b): return struct.unpack("<f", b"\0\0" + b)[0]
def numbers(name):
    t = head[name]
    raw = data[8 + n:][t["data_offsets"][0]:t["data_offsets"][1]]
    if t["dtype"] == "BF16":
        return t["shape"], [half(raw[i:i + 2]) for i in range(0, len(raw), 2)]
    return t["shape"], [x[0] for x in struct.iter_unpack("<f" if t["dtype"] == "F32" else "<e", raw)]
assert meta["statepipe"] == "statepipe state 1" and meta["format"] == "pt" and meta["dtype"] == dtype
assert meta["model"] == info["model"] and meta["n_tok"] == "3" and meta["last_id"] == "3"
assert len(head) == 2 * len(info["norms"]) + 1
for row in info["norms"]:
    shape, ssm = numbers(f"layers.{row['layer']}.ssm")
    assert shape == [info["d_inner"], info["d_state"]], shape
    assert head[f"layers.{row['layer']}.ssm"]["dtype"] == dtype.upper()
    assert math.isclose(math.hypot(*ssm), row["ssm"]["norm"], rel_tol=1e-8)
    shape, conv = numbers(f"layers.{row['layer']}.conv")
    assert shape == [info["d_conv"] - 1, info["d_inner"]], shape
    assert math.isclose(math.hypot(*conv), row["conv"]["norm"], rel_tol=1e-8)
print("fine")
END
        echo "$output"
        [[ $output == fine* ]]
    done
}

@test "export: the safetensors package opens it" {
    python3 -c 'import numpy, safetensors' 2>/dev/null || skip "python3 has no safetensors and numpy here"
    for t in f32 f16; do # numpy has no bf16
        pipe "state convert -t $t -o x.state a.state" 2>/dev/null
        pipe "state export -o x.safetensors x.state"
        pipe "state info -j x.state" >x.json
        run -0 python3 - <<'END'
import json, math
from safetensors import safe_open
info = json.load(open("x.json"))
with safe_open("x.safetensors", "np") as f:
    assert f.metadata()["statepipe"] == "statepipe state 1", f.metadata()
    for row in info["norms"]:
        x = f.get_tensor(f"layers.{row['layer']}.ssm").astype("f8")
        assert x.shape == (info["d_inner"], info["d_state"]), x.shape
        assert math.isclose((x * x).sum() ** 0.5, row["ssm"]["norm"], rel_tol=1e-8)
END
    done
}

@test "import: edited, damaged, foreign files" {
    pipe "state export -o x.safetensors a.state"
    cp x.safetensors y.safetensors
    printf 'xy' | dd of=y.safetensors bs=1 seek=$(($(stat -c %s y.safetensors) - 40)) conv=notrunc status=none
    run -65 pipe "state import -o y.state y.safetensors"
    [ "$output" = "state: y.safetensors: it is not as it was exported: damaged, or edited since; --edited takes it all the same, as a state of origin tuned" ]
    [ ! -e y.state ]
    run -0 pipe "state import --edited y.safetensors | state info -"
    [[ $output == "-: 3 tokens (tuned), layers 0-$last of"* ]]
    run -65 pipe "state import $model/model.safetensors"
    [ "$output" = "state: $model/model.safetensors: no state in safetensors: __metadata__ does not say \"statepipe\": \"statepipe state 1\"" ]
    head -c 900 x.safetensors >cut.safetensors
    run -65 pipe "state import cut.safetensors"
    run -65 pipe "state import a.state"
    run -66 pipe "state import nothere"
    : >empty
    run -65 pipe "state import empty"
    [ "$output" = "state: empty: not a safetensors file, or cut off within its header" ]
}

@test "import: from a pipe, and what comes through it is checked as a file is" {
    run -0 pipe "state export a.state | state import - | cmp - a.state"
    run -0 pipe "state import -o p.state <(state export a.state) && cmp p.state a.state"
    pipe "state export -o x.safetensors a.state"
    run -0 pipe "state import - <x.safetensors | cmp - a.state"
    head -c 900 x.safetensors >cut.safetensors
    run -65 pipe "cat cut.safetensors | state import -o y.state -"
    [[ $output == "state: standard input: "* ]]
    run -65 pipe "tr e f <x.safetensors | state import -o y.state -"
    run -65 pipe "state import -o y.state - </dev/null"
    [ "$output" = "state: standard input: not a safetensors file, or cut off within its header" ]
    run -66 pipe "state import -o y.state ."
    [ ! -e y.state ]
}

@test "mix: a weighted sum, through a pipe, with what it says of itself" {
    make_state b.state 2 0 $last
    run -0 pipe "state mix a.state:1 -o one.state"
    run -1 pipe "state diff one.state a.state"
    [ "${lines[0]}" = "prefix differs" ]
    [ "${lines[1]}" = "origin differs" ]
    [ "${lines[3]}" = "layer        conv          ssm   (||a - b|| / ||b||)" ]
    [ "$(grep -c ' 0            0$' <<<"$output")" = $((last + 1)) ]
    run -0 pipe "state mix a.state:0.5 b.state:0.5 -o - | state info -j -"
    python3 -c 'import json, sys
x = json.loads(sys.argv[1])
assert x["origin"] == "mixed" and x["n_tok"] == 6 and x["last"]["id"] == 3, x' "$output"
    # a - a is nothing; 2 a - a is a
    run -0 pipe "state mix a.state:2 a.state:-1 -o same.state; state mix a.state:1 a.state:-1 | state info -j -"
    [[ $output != *'"norm":'[1-9]* ]]
    pipe "state export same.state -o s; state export a.state -o t"
    run -0 cmp <(tail -c 200 s) <(tail -c 200 t)
    run -0 pipe "state mix /dev/stdin:0.5 b.state:0.5 <a.state | cmp - <(state mix -- -:0.5 b.state:0.5 <a.state)"
    # the same mixture has the same name, another weight another
    p() { pipe "state mix $1 | state info -" | sed -n 's/^  prefix *//p'; }
    [ "$(p 'a.state:0.7 b.state:0.3')" = "$(p 'a.state:.7 b.state:3e-1')" ]
    [ "$(p 'a.state:0.7 b.state:0.3')" != "$(p 'a.state:0.7 b.state:0.4')" ]
}

@test "a mixed state is loaded and stays mixed" {
    pipe "echo Jane Doe | tokenize -m $model | embed -m $model >hidden"
    pipe "mamba-layer -m $model --dump-state r.state hidden >/dev/null"
    pipe "state mix r.state:0.7 r.state:0.3 -o m.state"
    pipe "mamba-layer -m $model --load-state m.state --dump-state n.state hidden >/dev/null"
    run -0 pipe "state info n.state"
    [[ ${lines[0]} == *"(mixed)"* ]]
}

@test "mix refuses weights that are none, other models and other layers" {
    for w in "" : :x :1x ': 1' :inf :nan :0x1 :1e999 :1,5; do
        run -2 pipe "state mix 'a.state$w'"
        [ "$output" = "state: 'a.state$w' does not end in a weight: write FILE:NUMBER, as in a.state:0.7" ]
    done
    other_last=$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$other/config.json") - 1))
    "$STATEPIPE_BUILD/check/state" --write "$other" other.state 1 0 $other_last
    run -65 pipe "state mix a.state:0.5 other.state:0.5 -o out"
    [[ $output == "state: other.state: the state belongs to another model (fingerprint "*") than a.state ("*")" ]]
    make_state first.state 7 0 0
    run -65 pipe "state mix a.state:0.5 first.state:0.5 -o out"
    [ "$output" = "state: first.state: the state has layers 0-0, a.state has 0-$last" ]
    run -66 pipe "state mix a.state:0.5 nothere:0.5 -o out"
    [ ! -e out ]
}

@test "another tokenizer is refused by merge, mix and near" {
    pipe "echo Jane | tokenize -m $model | embed -m $model | mamba-layer -m $model --dump-state r.state >/dev/null"
    pipe "state export -o x r.state"
    t=$(pipe "state info r.state" | sed -n 's/^  tokenizer *//p')
    sed "s/$t/0123456789abcdef0123456789abcdef/" x >y
    pipe "state import --edited -o r.state x; state import --edited -o y.state y"
    message="the state was made with another tokenizer (0123456789ab) than"
    run -65 pipe "state mix r.state:1 y.state:1"
    [ "$output" = "state: y.state: $message r.state (${t:0:12})" ]
    run -65 pipe "state merge r.state y.state"
    [ "$output" = "state: y.state: $message r.state (${t:0:12})" ]
    run -1 pipe "state near r.state y.state"
    [ "$output" = "state: y.state: $message the query (${t:0:12})" ]
}

@test "near: the nearest first, in TSV and JSON; what cannot be compared is said" {
    make_state b.state 2 0 $last
    pipe "state mix a.state:0.9 b.state:0.1 -o ab.state"
    cp a.state same.state
    for m in cosine l2; do
        run -0 pipe "state near --metric $m a.state b.state ab.state same.state"
        [ "${#lines[@]}" = 3 ]
        [ "${lines[0]}" = "0	3	same.state" ]
        [[ ${lines[1]} == 0.*"	6	ab.state" ]]
        [[ ${lines[2]} == [01]*"	3	b.state" ]]
    done
    run -0 pipe "state near -n 2 -o jsonl a.state b.state ab.state same.state"
    [ "${lines[0]}" = '{"file":"same.state","distance":0,"n_tok":3,"origin":"read"}' ]
    [[ ${lines[1]} == '{"file":"ab.state","distance":0.'*',"n_tok":6,"origin":"mixed"}' ]]
    [ "${#lines[@]}" = 2 ]
    make_state first.state 7 0 0
    run -1 --separate-stderr pipe "state near a.state first.state nothere b.state $TREE/Makefile"
    [ "${#lines[@]}" = 1 ]
    [ "${stderr_lines[0]}" = "state: first.state: the state has layers 0-0, the query has 0-$last" ]
    [ "${stderr_lines[1]}" = "state: cannot open nothere: No such file or directory" ]
    [ "${#stderr_lines[@]}" = 3 ]
    run -66 pipe "state near nothere a.state"
}

@test "plot: an SVG that XML readers read, a PGM of the right size" {
    cp a.state 'a<b>&.state'
    pipe "state plot -o a.svg 'a<b>&.state'; state plot 'a<b>&.state' >b.svg; state plot -o a.pgm a.state"
    cmp a.svg b.svg
    run -0 python3 -c '
import xml.etree.ElementTree as e
root = e.parse("a.svg").getroot()
text = [x.text or "" for x in root.iter("{http://www.w3.org/2000/svg}text")]
assert root.tag.endswith("svg") and "a<b>&.state" in text, text
assert "layer" in text and "channel" in text and any("3 tokens (read)" in x for x in text)
f = open("a.pgm", "rb")
lines = [f.readline() for i in range(6)]
width, height = map(int, lines[4].split())
assert lines[0] == b"P5\n" and lines[5] == b"255\n" and all(x.startswith(b"# ") for x in lines[1:4])
assert height == 2 * 8 * ('$last' + 1) + 4 and len(f.read()) == width * height
print("fine")'
    [ "$output" = fine ]
    run -2 pipe "state plot -o a.png a.state"
    [ "$output" = "state: -o a.png: the name ends in neither .svg nor .pgm; give --format" ]
    run -0 pipe "state plot --format pgm -o picture a.state"
    cmp picture a.pgm
}

@test "making commands: cut, flipped, foreign, empty input leaves no output" {
    head -c 500 a.state >cut.state
    : >empty.state
    head -c 3000 "$model/model.safetensors" >binary.state
    for c in "merge -o out @" "split -l 0 -o out @" "convert -t bf16 -o out @" "export -o out @" \
        "mix -o out @:1" "plot --format svg -o out @"; do
        for f in cut empty binary; do
            run -65 pipe "state ${c//@/$f.state}"
            echo "$c $f: $output"
            [[ $output == "state: $f.state"* ]]
        done
        run -0 pipe "'$TREE/tests/bats/damage.py' flips a.state 6 bash -c 'cat >f.state; state ${c//@/f.state}'"
        [ "$output" = "65 6" ]
        [ -z "$(ls | grep '^out\|tmp')" ]
    done
}

@test "in a stream: a flipped bit is refused with the words of --load-state, wherever it is" {
    pipe "printf 'Jane Doe' | tokenize -m $model | embed -m $model >q
        mamba-layer -m $model --dump-state good q >/dev/null
        cat good q | mamba-layer -m $model >after; mamba-layer -m $model --load-state good q >again"
    cmp after again
    # in the last token's record, which layers do not take themselves, and in the frame
    last_at=$(pipe "inspect good" | awk '/ STATE .*last=true/ { print $1 }')
    end_at=$(pipe "inspect good" | awk '/ END / { print $1 }')
    for at in 150 $((last_at + 60)) $((end_at - 14)) $((end_at + 30)); do
        cp good bad
        printf 'Q' | dd of=bad bs=1 seek=$at conv=notrunc status=none
        run -65 --separate-stderr pipe "mamba-layer -m $model --load-state bad q >out"
        why=${stderr#mamba-layer: bad: }
        run -65 --separate-stderr pipe "cat bad q | mamba-layer -m $model >out"
        echo "$at: $why: $stderr"
        [ "$stderr" = "mamba-layer: standard input: $why" ]
        [[ $why == *damaged* ]]
        run -65 pipe "cat bad after | head -m $model --head lm --score >out"
        run -65 pipe "inspect bad"
        run -65 pipe "inspect --tee bad >out"
    done
    # cut off within the numbers of a layer, and between two records
    for n in 400 600 2000; do # of a convolution, of a state
        head -c $((162 + n)) good >bad
        run -65 --separate-stderr pipe "cat bad q | mamba-layer -m $model >out"
        [ "$stderr" = "mamba-layer: standard input: a new segment begins inside of a STATE record: what stands in front of it was cut off" ]
    done
    head -c $last_at good >bad
    run -65 --separate-stderr pipe "cat bad q | mamba-layer -m $model >out"
    [[ $stderr == "mamba-layer: standard input: a new segment starts before byte "*", but the one before has no END: an upstream program died, or a file was cut off" ]]
    run -65 --separate-stderr pipe "mamba-layer -m $model --load-state bad q >out"
    [ "$stderr" = "mamba-layer: bad ends in the middle of a segment after $last_at bytes: an upstream program died, the file was cut off, or it is damaged" ]
    for c in "q | mamba-layer -m $model" "q | mamba-layer -m $model -l 0-0" "q | inspect" \
        "after | head -m $model --head lm --score"; do
        run -0 pipe "cat good $c >/dev/null"
        run -0 pipe "'$TREE/tests/bats/damage.py' flips good 50 bash -c 'cat - $c'"
        echo "$c: $output"
        [ "$output" = "65 50" ]
    done
}

@test "making commands: a full disk, also under the final name" {
    ln -s /dev/full full
    for c in "merge a.state" "split -l 0 a.state" "convert -t bf16 a.state" "export a.state" "mix a.state:1" \
        "plot a.state"; do
        run -74 pipe "state $c >/dev/full"
        [[ $output == "state: "*"standard output: "*"No space left on device" ]]
        run -74 pipe "state $c $([[ $c == plot* ]] && echo --format svg) -o full"
        [[ $output == "state: "*"full: "*"No space left on device" ]]
        [ -c full ]
        run -74 pipe "state $c $([[ $c == plot* ]] && echo --format svg) -o nowhere/out"
        [[ $output == "state: cannot create nowhere/out."*".tmp: No such file or directory" ]]
    done
}
