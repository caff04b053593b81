# Models with layers that read windows of a document from right to left: what a row depends on, and
# where states of such a model are exact.
load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    cd "$BATS_TEST_TMPDIR"
    make_model model 0
    make_model above 1
    export STATEPIPE_MODEL=$PWD/model STATEPIPE_JOBS=1
    head -c 700 "$TREE/LICENSE" >long # byte-level: token 0 is byte 0
}

# make_model DIR LAYER: the tiny model, this layer of its two reversed in windows of 64.
make_model() {
    cp -r "$TREE/tests/golden/tiny" "$1"
    python3 - "$1/config.json" "$2" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
own = c["statepipe"]
own.update(format=2, reverse=64, reverse_layers=[int(sys.argv[2])])
del own["heads"]["lm"]
json.dump(c, open(sys.argv[1], "w"))
END
}

# The rows that a pipe ends with, documents behind one another.
rows() { pipe "$1 | '$stream' rows hidden | sed /^document/d"; }

# Prints which rows of two documents differ, as FIRST-LAST, or as numbers where there are gaps.
different() {
    python3 - "$1" "$2" <<'END'
import sys
a, b = (open(f).readlines() for f in sys.argv[1:])
assert len(a) == len(b) == 700
d = [i for i in range(700) if a[i] != b[i]]
print("%d-%d" % (d[0], d[-1]) if d and d == list(range(d[0], d[-1] + 1)) else d)
END
}

# long in two parts, the second from the state after $1 bytes: first.state, second.state, rows `parts`.
in_two_parts() {
    head -c "$1" long >first
    tail -c +$(($1 + 1)) long >second
    rows "tokenize --open first | embed | mamba-layer --dump-state first.state" >parts
    rows "tokenize second | embed | mamba-layer --load-state first.state --dump-state second.state" >>parts
}

# A document left open after $1 tokens goes on as one from its state.
goes_on() {
    "$stream" tokens --open a a="$1" >open
    "$stream" tokens --seed 2 --cont a a=300 >cont
    "$stream" tokens --seed 2 a=300 >alone
    pipe "embed open | mamba-layer --dump-state a.state >/dev/null"
    rows "embed alone | mamba-layer --load-state a.state" >want
    cmp want <(rows "embed open cont | mamba-layer" | tail -n 300)
}

# Of a state's file: which layers are zeros, and the hash of what all others hold.
layers() {
    python3 - "$BATS_TEST_DIRNAME" "$1" <<'END'
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from stream import records
for kind, fields, t in records(open(sys.argv[2], "rb").read()):
    if kind == "STATE" and "layer" in fields:
        b = t["conv"][2] + t["ssm"][2]
        print(fields["layer"], hashlib.md5(b).hexdigest() if any(b) else "zero")
END
}

@test "-v says which layers are reversed, of those that are run" {
    pipe "tokenize long | embed >h"
    run -0 --separate-stderr pipe "mamba-layer -v h >/dev/null"
    [[ $stderr == *"layers 0-1 of 2, 0 reversed in windows of 64 tokens, products in f32"* ]]
    run -0 --separate-stderr pipe "mamba-layer -l 0 h | mamba-layer -v -l 1 >/dev/null"
    [[ $stderr == *"layers 1-1 of 2, products in f32"* ]]
}

@test "chunks, packing, threads and layers over processes do not show" {
    "$stream" tokens 1 63 64 65 255 256 257 1000 >all
    for m in model above; do
        export STATEPIPE_MODEL=$PWD/$m
        pipe "embed all >h"
        rows "mamba-layer h" >want
        cmp want <(rows "mamba-layer -j 2 h")
        cmp want <(rows "mamba-layer -l 0 h | mamba-layer -l 1")
        i=0
        for n in 1 63 64 65 255 256 257 1000; do
            "$stream" tokens --first $i d$i=$n >one
            rows "embed one | mamba-layer"
            i=$((i + 1))
        done >got
        cmp want got
        rows "tokenize long | embed | mamba-layer" >want
        cmp want <(rows "tokenize --chunk 128 long | embed | mamba-layer")
    done
}

@test "a token of a window changes what is before it, and nothing in front of the window" {
    rows "tokenize long | embed | mamba-layer -l 0" >want
    for at in 127 128 191; do
        { head -c $at long; printf '\001'; tail -c +$((at + 2)) long; } >other
        rows "tokenize other | embed | mamba-layer -l 0" >got
        [ "$(different got want)" = "$((at / 64 * 64))-$at" ] || [ "$(different got want)" = "[$at]" ]
    done
}

@test "behind whole windows a state is exact, to the bit; of reversed layers it holds zeros" {
    for m in model above; do
        export STATEPIPE_MODEL=$PWD/$m
        rows "tokenize long | embed | mamba-layer --dump-state long.state" >want
        for n in 64 192 256 448 512; do
            in_two_parts $n
            cmp parts want
            cmp second.state long.state
        done
        # In front of the stream; one layer a process; the document left open and gone on with.
        rows "cat first.state <(tokenize second | embed) | mamba-layer" | cmp - <(tail -n 188 parts)
        rows "tokenize second | embed | mamba-layer -l 0 --load-state first.state |
            mamba-layer -l 1 --load-state first.state" | cmp - <(tail -n 188 parts)
        goes_on 256
    done
    export STATEPIPE_MODEL=$PWD/model
    rows "tokenize long | embed | mamba-layer --dump-state model.state" >/dev/null
    [[ "$(layers model.state)" =~ ^"0 zero"$'\n'"1 "[0-9a-f]{32}$ ]]
    [[ "$(layers long.state)" =~ ^"0 "[0-9a-f]{32}$'\n'"1 zero"$ ]]
}

@test "inside of a window a new one begins: what the windows see is all that differs" {
    STATEPIPE_MODEL=$PWD/above
    rows "tokenize long | embed | mamba-layer --dump-state long.state" >want
    in_two_parts 100
    # Windows of the parts: 0-63, 64-99, 100-163, ... 612-675, 676-699; of the whole: ... 640-699.
    [ "$(different parts want)" = 64-675 ]
    # The layer below is forward, and exact everywhere.
    [ "$(layers second.state)" = "$(layers long.state)" ]
    goes_on 100
}

@test "a run with checkpoints that is killed ends with the same bytes" {
    "$stream" tokens --open o --open p o=700 3000 5 p=64 >first
    "$stream" tokens --seed 2 --cont o o=900 5000 257 0 >second
    for m in model above; do
        export STATEPIPE_MODEL=$PWD/$m
        rm -f F OUT
        pipe "embed first second >hidden; mamba-layer --emit-state hidden >want"
        run -0 "$BATS_TEST_DIRNAME/crash.py" 1 5 want "$STATEPIPE_BUILD/bin/mamba-layer" \
            --emit-state --checkpoint F --every 500 -o OUT hidden
        [[ "$output" == "5 kills in "*": nothing lost" ]]
        # At a place that is known: what is written down holds, a third of the way.
        run pipe "(command -p head -c 600000 hidden; kill -9 \$BASHPID) |
            mamba-layer --emit-state --checkpoint F --every 500 -o OUT"
        [ -e F ]
        run -0 --separate-stderr pipe "mamba-layer -v --emit-state --checkpoint F --every 500 -o OUT hidden"
        [[ "$stderr" == *"goes on behind the first "* ]]
        cmp OUT want
    done
}

kept() { ls C | sed -n 's/.*\.f32\.\([0-9]*\)\..*/\1/p' | sort -n | tr '\n' ' '; }
# cached HITS NAME [OPTION...]: what comes of $2.h with the cache, to the bit, after a hit of so much.
cached() {
    run -0 --separate-stderr pipe "mamba-layer -v --cache C --cache-every 300 ${*:3} $2.h >out"
    [ "$(sed -n "s/^mamba-layer: document .*: \([0-9]*\) tokens.*/\1/p" <<<"$stderr")" = "$1" ]
    rows "mamba-layer ${*:3} $2.h" >want
    rows "cat out" >got
    [ "$(wc -l <got)" = $(($(wc -l <want) - ${1:-1} + 1)) ]
    cmp got <(tail -n "$(wc -l <got)" want)
}

@test "the cache keeps states behind whole windows, and uses no others" {
    "$stream" tokens a=1000@900 >a
    "$stream" tokens --seed 2 a=1000@900 >b
    "$stream" tokens a=930@900 >shorter
    "$stream" tokens a=896@900 >whole
    "$stream" tokens a=700@100 >other
    "$stream" tokens a=100 >hundred
    "$stream" tokens a=28 >more
    { # of 300, 20 and 900 tokens
        "$stream" tokens --open a a=300
        "$stream" tokens --seed 2 --cont a --open a a=20
        "$stream" tokens --seed 3 --cont a a=900
    } >cut
    head -c 440 long >text
    for m in model above; do
        export STATEPIPE_MODEL=$PWD/$m
        rm -rf C
        pipe "tokenize --mark 200 text >marked
            for f in a b shorter whole other hundred more cut marked; do embed \$f >\$f.h; done"
        cached "" a
        [ "$(kept)" = "256 576 896 960 " ]
        cached 960 a
        cached 896 b
        cached 896 shorter
        cached 896 whole
        cached "" other
        [ "$(kept)" = "256 256 576 576 640 896 960 960 " ]
        # From a state, or with a window cut, tokens do not tell what was read: here two windows,
        # or 100 tokens and 28.
        rm -rf C
        pipe "mamba-layer --dump-state s hundred.h >/dev/null
            mamba-layer --load-state s --dump-state t more.h >/dev/null"
        cached "" a --load-state t
        [ "$(kept)" = "" ]
        cached "" cut
        [ "$(kept)" = "256 " ]
        rm -rf C
        cached "" marked
        [ "$(kept)" = "192 256 384 " ]
        cached 384 marked
    done
}

@test "what reversed layers cannot do is refused" {
    run -1 --separate-stderr pipe "tokenize --chunk 100 long | embed | mamba-layer >/dev/null"
    [[ "$stderr" == *"begins inside a window of the reversed layers"*"a multiple of 64"* ]]
    # A state that has something where this model has nothing.
    pipe "tokenize long | embed | mamba-layer --dump-state s >/dev/null; state export -o s.safetensors s"
    python3 - <<'END'
import json, struct
b = bytearray(open("s.safetensors", "rb").read())
n = 8 + struct.unpack("<Q", b[:8])[0]
at = n + json.loads(b[8:n])["layers.0.ssm"]["data_offsets"][0]
b[at:at + 4] = struct.pack("<f", 1)
open("s.safetensors", "wb").write(b)
END
    pipe "state import --edited -o t s.safetensors" # of origin tuned
    run -65 --separate-stderr pipe "tokenize long | embed | mamba-layer --load-state t >/dev/null"
    [[ "$stderr" == *"t: the state has numbers other than 0 for layer 0, which is reversed and has no state"* ]]
    run -65 pipe "cat t <(tokenize long | embed) | mamba-layer >/dev/null"
    run -65 pipe "state verify -m model t"
    run -0 pipe "state verify -m model s"
    # A language model would have read what it predicts.
    sed 's/"heads": {/"heads": {"lm": {"type": "lm"}, /' model/config.json >lm.json
    mv lm.json model/config.json
    run -65 --separate-stderr pipe "tokenize long | embed | mamba-layer >/dev/null"
    [[ "$stderr" == *'"reverse" and a language model'* ]]
}

@test "training: what follows a word tells its tag, without a delay" {
    python3 - >lines.jsonl <<'END'
import json, random
random.seed(1)
for i in range(600):
    text, spans = "", []
    for k in range(12):
        word = "".join(random.choices("abcdefgh", k=random.randint(2, 4)))
        if random.random() < 0.4:
            spans.append([len(text), len(text) + len(word), "degree", [k]])
            word += "!"
        text += word + " "
    print(json.dumps({"id": str(i), "text": text, "spans": spans}))
END
    cat >config.json <<'END'
{"model_type": "mamba", "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "conv_kernel": 4,
 "intermediate_size": 32, "time_step_rank": 1, "vocab_size": 264, "statepipe": {"format": 2, "tokenizer": "bytes",
 "reverse": 32, "reverse_layers": [1], "heads": {"tags": {"type": "tag", "labels": ["O", "N-degree", "I-degree"]}}}}
END
    pipe "tokenize -m bytes --jsonl lines.jsonl >s"
    options="--config config.json --batch 512 --lr 2e-2 --warmup 5 -j 1"
    run -0 --separate-stderr pipe "train $options --steps 80 -o out s"
    run -0 pipe "printf 'abc defg! hagb ce! ga' | tokenize -m out | embed -m out | mamba-layer -m out |
        head -m out | extract -o tsv | cut -f 3"
    [ "$output" = $'defg\nce' ]
    # Documents are cut into pieces of whole windows, and states go from piece to piece.
    run -0 --separate-stderr pipe "train $options --max-len 64 --steps 2 -o cut s"
    run -2 --separate-stderr pipe "train $options --max-len 100 --steps 2 -o cut2 s"
    [[ "$stderr" == *"has to be a multiple of 32, the window of the model's reversed layers"* ]]
    # A language model of it reads forward.
    run -0 --separate-stderr pipe "train --init out ${options#* * } --task lm --steps 2 -o lm s"
    run -1 grep reverse lm/config.json
    grep '"reverse": 32' out/config.json
    grep '"format": 2' out/config.json # nothing that would run it forward reads it
}

@test "fill: answers that only what follows tells, in documents together or alone" {
    # a=?__ asks for the number in front of a; the windows of 16 bytes cut documents.
    cat >config.json <<'END'
{"model_type": "mamba", "hidden_size": 24, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4,
 "intermediate_size": 48, "time_step_rank": 2, "vocab_size": 264, "eos_token_id": 0,
 "statepipe": {"format": 2, "tokenizer": "bytes", "reverse": 16, "fill_template": "{query}\n{doc}",
  "heads": {"slot": {"type": "tag", "labels": ["O", "B-answer", "I-answer"]}}}}
END
    python3 - >lines.jsonl <<'END'
import json, random
random.seed(1)
for i in range(16000):
    asked, names = random.choice("abc"), random.sample("ab", 2)
    text, spans = asked + "=?__\n", []
    for name in names:
        if name == asked:
            spans.append([len(text), len(text) + 2, "answer"])
        text += "%d %s\n" % (random.randint(10, 99), name)
    print(json.dumps({"text": text, "spans": spans}))
END
    run -0 --separate-stderr pipe "tokenize -m bytes --jsonl lines.jsonl |
        train --config config.json --batch 512 --lr 1e-2 --steps 600 -j 1 -o slots"
    printf '34 b\n12 a\n' >doc
    run -0 pipe "fill -m slots --doc doc -q 'a=?__' -q 'b=?__' -q 'c=?__' -n 1 | cut -f 3"
    [ "$output" = $'12\n34\nunknown' ]
    for i in 10 25 38 57 94; do
        printf '{"id": "%s", "doc": "%s a\\n34 b\\n", "query": "a=?__"}\n' $i $i
    done >asked
    pipe "fill -m slots --jsonl -n 3 asked" >together
    while read -r line; do pipe "fill -m slots --jsonl -n 3" <<<"$line"; done <asked | cmp - together
    [ "$(grep -c '^\([0-9]*\)	[0-9.]*	\1$' together)" = 5 ]
}
