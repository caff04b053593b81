# What DESIGN calls the invariants of states, over processes and files: splits, packing, layers and
# restored states show in no bit.
load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    cd "$BATS_TEST_TMPDIR"
}

# Rows of hidden states of the documents of a token stream. $1: model, $2: tokens, rest: options.
rows() {
    local model=$1 tokens=$2
    shift 2
    pipe "embed -m '$model' '$tokens' | mamba-layer -m '$model' $* | '$stream' rows hidden"
}

@test "every split into chunks of eight and more gives the same bits" {
    for name in mamba-odd falcon-tied; do
        model=$TREE/tests/golden/$name
        "$stream" tokens --vocab 97 --chunk 512 500 512 33 >whole
        rows "$model" whole >want
        for chunk in 8 64 100 509; do
            "$stream" tokens --vocab 97 --chunk $chunk 500 512 33 >split
            rows "$model" split >got
            # A last chunk of fewer than eight rows takes the decode path: other bits, near.
            python3 - $chunk <<'END'
import struct, sys
chunk = int(sys.argv[1])
a, b = (open(f).read().split("\n") for f in ("want", "got"))
assert len(a) == len(b)
n = at = 0
lengths = iter([500, 512, 33])
exact = True
for x, y in zip(a, b):
    if x.startswith("document"):
        n, at, exact = next(lengths), 0, True
        continue
    if at >= n - n % chunk and n % chunk < 8:
        exact = False
    if exact:
        assert x == y, (chunk, n, at)
    elif x:
        p = struct.unpack("<%df" % (len(x) // 8), bytes.fromhex(x))
        q = struct.unpack("<%df" % (len(y) // 8), bytes.fromhex(y))
        e = (sum((u - v) ** 2 for u, v in zip(p, q)) / sum(v * v for v in q)) ** 0.5
        assert e < 2e-6, (chunk, n, at, e)
    at += 1
END
        done
    done
}

@test "documents packed together have the bits of each alone" {
    model=$TREE/tests/golden/mamba-deep
    specs=$(python3 -c 'import random; random.seed(5); print(*(random.choice([1, 2, 7, 8, 30, 100, 300]) for _ in range(40)))')
    "$stream" tokens --vocab 130 $specs >all
    rows "$model" all >packed
    # One after another: each document waits until the one before it is written.
    i=0
    for n in $specs; do
        "$stream" tokens --vocab 130 --first $i $n >one
        rows "$model" one
        i=$((i + 1))
    done >alone
    cmp packed alone
}

@test "one process, one for each layer, other thread counts" {
    model=$TREE/tests/golden/mamba-deep
    "$stream" tokens --vocab 130 300 5 64 1 >tokens
    rows "$model" tokens >want
    layers=$(for i in 0 1 2 3 4 5 6; do printf ' | mamba-layer -m %s -l %d -j %d' "$model" $i $((i % 3 + 1)); done)
    pipe "embed -m $model tokens $layers | '$stream' rows hidden" >got
    cmp want got
}

# Documents of $2 tokens cut at $3: the first part's state is kept, the second starts from it.
@test "run(a + b) is run(b) from the dumped state of a, also through joined states of layers" {
    for name in tiny falcon-odd; do
        model=$TREE/tests/golden/$name
        for cut in 8 100 256; do
            "$stream" tokens --vocab 131 d0=300 >whole
            python3 - "$stream" $cut <<'END'
import io, runpy, sys
cut = int(sys.argv[2])
sys.argv = [sys.argv[1], "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
m = runpy.run_path(sys.argv[0])
ids = b"".join(t["ids"][2] for k, _, t in m["records"](open("whole", "rb").read()) if k == "CHUNK")
for name, part in ("a", ids[:4 * cut]), ("b", ids[4 * cut:]):
    n = len(part) // 4
    out = m["record"]("statepipe", {"version": [1, 0], "content": "tokens", "program": "x"})
    out += m["record"]("DOC", {"doc": 0, "id": "d0"})
    out += m["record"]("CHUNK", {"doc": 0, "pos": 0, "pass": 0, "last": True}, [("ids", "u32", [n], part)])
    out += m["record"]("DOCEND", {"doc": 0, "status": "ok", "n_tok": n})
    open(name, "wb").write(out + m["record"]("END", {"docs": 1, "errors": 0, "open": 0}))
END
            rows "$model" whole --dump-state whole.state | tail -n $((300 - cut)) >want
            rows "$model" a --dump-state a.state >/dev/null
            rows "$model" b --load-state a.state --dump-state b.state | tail -n $((300 - cut)) >got
            cmp want got
            cmp whole.state b.state # the same tokens read, the same prefix hash, the same numbers
            # As segments of the stream, one for each layer process.
            pipe "embed -m $model a | mamba-layer -m $model -l 0 --dump-state a0 | mamba-layer -m $model --dump-state a1 >/dev/null"
            pipe "embed -m $model b >b.hidden"
            last=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["num_hidden_layers"] - 1)' "$model/config.json")
            pipe "cat a0 a1 b.hidden | mamba-layer -m $model -l 0 | mamba-layer -m $model -l 1-$last | '$stream' rows hidden" | tail -n $((300 - cut)) >got
            cmp want got
            pipe "cat a0 a1 b.hidden | mamba-layer -m $model | '$stream' rows hidden" | tail -n $((300 - cut)) >got
            cmp want got
        done
    done
}

@test "a restored state is dumped again bit for bit" {
    model=$TREE/tests/golden/tiny
    "$stream" tokens a=77 >tokens
    "$stream" tokens a=0 >nothing
    rows "$model" tokens --dump-state one >/dev/null
    rows "$model" nothing --load-state one --dump-state two >/dev/null
    cmp one two
    # and in the stream, by one process or two: with what the head needs of the last token
    pipe "embed -m $model nothing >h; cat one h | mamba-layer -m $model --dump-state three >/dev/null"
    cmp one three
    pipe "cat one h | mamba-layer -m $model -l 0 --dump-state a | mamba-layer -m $model --dump-state b >/dev/null"
    pipe "state merge -o four a b"
    cmp one four
}

@test "one state answers many: every document starts from a copy" {
    model=$TREE/tests/golden/tiny
    "$stream" tokens a=50 >tokens
    rows "$model" tokens --dump-state s >/dev/null
    "$stream" tokens 9 9 >two
    "$stream" tokens 9 >one
    rows "$model" two --load-state s | sed -n 2,10p >first
    rows "$model" one --load-state s | sed -n 2,10p >alone
    cmp first alone
    rows "$model" one | sed -n 2,10p >fresh
    run -1 cmp -s alone fresh
}

@test "a later state in the stream replaces the earlier one" {
    model=$TREE/tests/golden/tiny
    "$stream" tokens a=50 >ta; "$stream" tokens --seed 3 b=20 >tb; "$stream" tokens q=9 >tq
    rows "$model" ta --dump-state sa >/dev/null
    rows "$model" tb --dump-state sb >/dev/null
    pipe "embed -m $model tq >q"
    pipe "cat sa q sb q | mamba-layer -m $model | '$stream' rows hidden" >got
    { rows "$model" tq --load-state sa; rows "$model" tq --load-state sb; } >want
    cmp want got
}

@test "an emitted state is the dumped one, also of layers in two processes" {
    model=$TREE/tests/golden/falcon-odd
    last=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["num_hidden_layers"] - 1)' "$model/config.json")
    "$stream" tokens --vocab 97 --open open a=300 b=5 open=20 c=64 >tokens
    pipe "embed -m $model tokens >hidden; mamba-layer -m $model --emit-state --dump-state %i.want hidden >whole"
    pipe "mamba-layer -m $model -l 0 --emit-state hidden | mamba-layer -m $model -l 1-$last --emit-state >split"
    for s in whole split; do
        # As they come out of the other filters too, which take no document's state for another's.
        pipe "cat $s | head -m $model --head lm --score >scores; head -m $model --head lm --score <(mamba-layer -m $model hidden) >plain"
        run -0 cmp <("$stream" records <plain) <("$stream" records <scores | grep -v ^STATE)
        for f in $s scores; do
            python3 - "$stream" $f <<'END'
import io, runpy, sys
b = open(sys.argv[2], "rb").read()
sys.argv = [sys.argv[1], "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
m = runpy.run_path(sys.argv[0])
name, order = None, []
for kind, f, t in m["records"](b):
    if kind == "DOC":
        name, n = f["id"], 0
    if kind == "STATE":
        n += 1
        order.append((name, f["layer"] if "layer" in f else "last", f["n_tok"]))
    if kind == "CHUNK":
        assert n == 0, "a CHUNK behind a STATE"
    if kind == "DOCEND":
        assert n > 2
for name, n_tok in ("a", 300), ("b", 5), ("open", 20), ("c", 64):
    layers = [o[1] for o in order if o[0] == name]
    assert layers == list(range(len(layers) - 1)) + ["last"], layers
    assert {o[2] for o in order if o[0] == name} == {n_tok}
END
        done
    done
    cmp whole split
}
