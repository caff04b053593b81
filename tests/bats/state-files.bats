load common
load state_setup

# The last state of a stream: from its header on
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
