# mamba-layer --cache: documents start from states that were kept of the same tokens, and of no
# others.
load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny STATEPIPE_JOBS=1
    cd "$BATS_TEST_TMPDIR"
    "$stream" tokens a=2000 >a
    pipe "embed a >a.hidden; mamba-layer a.hidden >a.want"
}

cached() { pipe "mamba-layer -v --cache C --cache-every 512 $*"; }

# What -v says of the cache.
hits() { sed -n 's/^mamba-layer: document //p' <<<"$stderr"; }

# The last rows of hidden states in $2, as many as $1 has, are within 2e-6 of those of $1.
near() {
    python3 - "$1" "$2" <<'END'
import struct, sys
got, want = ([l for l in open(f) if not l.startswith("document")] for f in sys.argv[1:])
want = want[len(want) - len(got):]
assert got
for g, w in zip(got, want):
    p, q = (struct.unpack("<%df" % (len(x) // 8), bytes.fromhex(x.strip())) for x in (g, w))
    assert (sum((u - v) ** 2 for u, v in zip(p, q)) / sum(v * v for v in q)) ** 0.5 < 2e-6
END
}

# A document of $1 tokens, left open, and $2 more: h, and what comes of it without a cache.
in_two_parts() {
    "$stream" tokens --open a a="$1" >first
    "$stream" tokens --seed 2 --cont a a="$2" >second
    pipe "embed first second >h; mamba-layer --dump-state %i.want h >want"
}

@test "the first time nothing is left out, and states of the beginning are kept" {
    run -0 --separate-stderr cached "a.hidden >out"
    [ "$(hits)" = "" ]
    cmp out a.want
    run -0 pipe "ls C | sed 's/\.[0-9a-f]*\.[0-9a-f]*\.state//' | sort"
    model=$(pipe "state info C/*.1024.*" | sed -n 's/^ *model *\(.\{16\}\).*/\1/p')
    [ "$output" = "$model.f32.1024
$model.f32.1536
$model.f32.1999
$model.f32.512
lock" ]
    # Each is the state file of those tokens.
    for n in 512 1024 1999; do
        "$stream" tokens a=$n >part
        pipe "embed part | mamba-layer --dump-state part.state >/dev/null"
        run -0 pipe "state diff --within 2e-6 part.state C/*.$n.*"
    done
}

@test "the second time the last token is read, behind the one before it" {
    cached "a.hidden >/dev/null" 2>/dev/null
    run -0 --separate-stderr cached "a.hidden >out"
    [ "$(hits)" = "'a': 1999 tokens are in the cache and not read again" ]
    run -0 pipe "'$stream' records <out"
    [ "${lines[2]}" = "CHUNK {'doc': 0, 'pos': 1998, 'pass': 0, 'last': True} {'ids': 'u32[2]', 'span': 'u64[2, 2]', 'hidden': 'f32[2, 32]'}" ]
    pipe "'$stream' rows hidden <out >got; '$stream' rows hidden <a.want >want"
    near got want
    cmp <(sed -n 2p got) <(tail -n 2 want | sed -n 1p) # the mark's own row, kept with the state
}

@test "another last token costs one token; another one before costs what is behind the last state" {
    "$stream" tokens a=2000@1999 >x
    "$stream" tokens --seed 2 a=2000@1999 >y
    "$stream" tokens --seed 3 a=2000@1500 >z
    pipe "embed x >x.hidden; embed y >y.hidden; embed z >z.hidden"
    cached "x.hidden >/dev/null" 2>/dev/null
    run -0 --separate-stderr cached "y.hidden >out"
    [ "$(hits)" = "'a': 1999 tokens are in the cache and not read again" ]
    pipe "'$stream' rows hidden <out >got; mamba-layer y.hidden | '$stream' rows hidden >want"
    near got want
    run -0 --separate-stderr cached "z.hidden >out"
    [ "$(hits)" = "'a': 1024 tokens are in the cache and not read again" ]
    pipe "'$stream' rows hidden <out >got; mamba-layer z.hidden | '$stream' rows hidden >want"
    cmp got <(tail -n 977 want | sed 1idocument\ a) # eight rows and more: the same bits
}

@test "another last token costs one token at any length, also where the last chunk is full" {
    for n in 255 256 257 511 512 513; do
        head -c $((n - 1)) "$BATS_TEST_FILENAME" | tee x >y
        printf 1 >>x
        printf 2 >>y
        for f in x y; do pipe "tokenize -m bytes --id a $f | embed >$f.hidden"; done
        pipe "mamba-layer x.hidden >x.want; mamba-layer y.hidden | '$stream' rows hidden >y.want"
        for every in 256 4096; do
            rm -rf C
            run -0 --separate-stderr pipe "mamba-layer -v --cache C --cache-every $every x.hidden >out"
            [ "$(hits)" = "" ]
            cmp out x.want
            run -0 --separate-stderr pipe "mamba-layer -v --cache C --cache-every $every y.hidden >out"
            [ "$(hits)" = "'a': $((n - 1)) tokens are in the cache and not read again" ]
            pipe "'$stream' rows hidden <out >got"
            near got y.want
        done
    done
}

# The numbers of tokens of the states that are kept.
kept() { ls C | sed -n 's/.*\.f32\.\([0-9]*\)\..*/\1/p' | sort -n | tr '\n' ' '; }

@test "a full last chunk with padding, after a mark, left open, before an error" {
    python3 -c 'print("The prompt. " * 42 + "The end.", end="")' >text # 512 tokens
    head -c 509 text >less
    pipe "tokenize -m bytes --mark 480 text | embed >h; tokenize -m bytes --pad 3 less | embed >pad.h"
    pipe "mamba-layer h >want; mamba-layer pad.h >pad.want"
    pipe "mamba-layer --cache C h >out"
    cmp out want
    [ "$(kept)" = "480 511 " ]
    rm -rf C
    pipe "mamba-layer --cache C pad.h >out"
    cmp out pad.want
    [ "$(kept)" = "508 " ]
    # A document that is left open may end there.
    rm -rf C
    in_two_parts 512 512
    run -0 --separate-stderr pipe "mamba-layer --cache C --dump-state %i.got h >out"
    cmp a.got a.want
    cmp out want
    [ "$(kept)" = "511 1023 " ]
    rm -rf C
    # What came before damage is written.
    "$stream" tokens a=600 | pipe "embed >h"
    head -c 80000 h >cut # inside of the third chunk
    for cache in "" "--cache C"; do
        run -65 pipe "mamba-layer $cache cut >out 2>/dev/null"
        pipe "'$stream' rows hidden <out >'got$cache'"
    done
    [ "$(wc -l <got)" = 513 ]
    cmp got "got--cache C"
    [ "$(kept)" = "" ]
}

@test "a document fails while its chunks that waited are let go" {
    # Byte A overflows, b does not.
    cp -r "$TREE/tests/golden/tiny" m
    python3 - <<'END'
import array, json, struct
f = "m/model.safetensors"
b = bytearray(open(f, "rb").read())
n = 8 + struct.unpack("<Q", b[:8])[0]
at = {k: v["data_offsets"] for k, v in json.loads(b[8:n]).items() if k != "__metadata__"}
s = n + at["backbone.embeddings.weight"][0] + 65 * 128
b[s : s + 128] = struct.pack("<16f", *[3.4e38] * 16) + struct.pack("<16f", *[-3.4e38] * 16)
s, e = (n + x for x in at["backbone.layers.1.mixer.out_proj.weight"])
w = array.array("f", bytes(b[s:e]))
top = max(map(abs, w))
b[s:e] = array.array("f", [x * (1.72e38 / top) for x in w]).tobytes()
open(f, "wb").write(b)
END
    export STATEPIPE_MODEL=m
    python3 -c 'print("b" * 60000, end="")' >long
    python3 -c 'print("b" * 20000 + "A" + "b" * 30000, end="")' >fails
    pipe "tokenize -m bytes long | embed | mamba-layer --cache C --cache-every 60000 >/dev/null"
    [ -n "$(ls C/*.59999.*)" ]
    pipe "tokenize -m bytes fails long | embed >h"
    run -1 --separate-stderr pipe "mamba-layer h >want"
    run -1 --separate-stderr pipe "mamba-layer -v --cache C --cache-every 60000 h >out"
    [ "$(hits)" = "'fails': layers 0-1 give NaN or infinity
'long': 60000 tokens are in the cache and not read again" ]
    cmp <("$stream" records <out | sed '/^DOCEND/,$d;/^ERR/q') <("$stream" records <want | sed '/^DOCEND/,$d;/^ERR/q')
}

@test "documents after a hit are computed as ever; states and scores of a hit are right" {
    "$stream" tokens a=2000 b=30 c=700 >abc
    pipe "embed abc >h; mamba-layer --dump-state %i.want h >want"
    cached "a.hidden >/dev/null" 2>/dev/null
    run -0 --separate-stderr cached "--emit-state --dump-state %i.got h >out"
    [ "$(hits)" = "'a': 1999 tokens are in the cache and not read again" ]
    for d in a b c; do run -0 pipe "state diff --within 2e-6 $d.got $d.want"; done
    cmp b.got b.want
    cmp <("$stream" rows hidden <out | sed -n '/document b/,$p') <("$stream" rows hidden <want | sed -n '/document b/,$p')
    # What the last token's score says of the others is the same, though they are not scored again.
    run -0 pipe "head --head lm --score out | '$stream' records | grep \"DOCEND.*'doc': 0\""
    [[ "$output" == *"'n_scored': 1"* ]]
}

@test "when the input comes decides nothing" {
    cached "a.hidden >/dev/null" 2>/dev/null
    cached "a.hidden >at.once" 2>/dev/null
    pipe "python3 -c '
import os, time
b = open(\"a.hidden\", \"rb\").read()
for i in range(0, len(b), 30011):
    os.write(1, b[i:i + 30011]); time.sleep(0.005)' | mamba-layer --cache C --cache-every 512 >slowly"
    cmp at.once slowly
}

@test "marks: the state before a byte is kept" {
    python3 -c 'print("The prompt. " * 40 + "The question?")' >text
    for mark in 480 300 256 64; do
        rm -rf C
        pipe "tokenize -m bytes --mark $mark text | embed | mamba-layer --cache C >/dev/null"
        ls C | grep "\.f32\.$mark\."
    done
    rm -rf C
    run -0 --separate-stderr pipe "tokenize -m bytes --mark 480 text | embed | mamba-layer --cache C >/dev/null"
    { head -c 480 text; echo "Something else?"; } >other
    run -0 --separate-stderr pipe "tokenize -m bytes other | embed | mamba-layer -v --cache C >/dev/null"
    [ "$(hits)" = "'other': 480 tokens are in the cache and not read again" ]
    # Lines of JSON say their own, in the units of their spans.
    rm -rf C
    python3 -c 'import json; print(json.dumps({"text": "ä" * 60 + "b" * 80, "marks": [60, 100]}))' >jsonl
    pipe "tokenize -m bytes --jsonl --span-unit codepoint jsonl | embed | mamba-layer --cache C >/dev/null"
    run -0 pipe "ls C | sed -n 's/.*\.f32\.\([0-9]*\)\..*/\1/p' | sort -n"
    [ "$output" = "120
160
199" ]
    run -1 --separate-stderr pipe "tokenize -m bytes --jsonl <<<'{\"text\": \"abc\", \"marks\": [4]}' >/dev/null"
    [[ "$stderr" == *"a mark lies outside of the text"* ]]
}

@test "what is not known by its tokens is neither kept nor found" {
    # Other types of products have other states.
    cached "a.hidden >/dev/null" 2>/dev/null
    run -0 --separate-stderr cached "--dtype bf16 a.hidden >/dev/null"
    [ "$(hits)" = "" ]
    rm -rf C
    # Hidden states that are not the embedding's, rows without ids.
    pipe "embed --wire bf16 a >half; embed a | mamba-layer -l 0 >/dev/null"
    "$stream" tokens --noids a=300 >noids.tokens
    run -0 --separate-stderr cached "half >/dev/null"
    [ "$(ls C)" = "" ]
    # A document that starts from a state counts its tokens too.
    "$stream" tokens b=100 >b
    pipe "embed b | mamba-layer --dump-state b.state >/dev/null"
    cached "--load-state b.state a.hidden >want" 2>/dev/null
    run -0 pipe "ls C | sed -n 's/.*\.f32\.\([0-9]*\)\..*/\1/p' | sort -n | tr '\n' ' '"
    [ "$output" = "512 1024 1536 2048 2099 " ]
    run -0 --separate-stderr cached "a.hidden >/dev/null"
    [ "$(hits)" = "" ]
    run -0 --separate-stderr cached "--load-state b.state a.hidden >/dev/null"
    [ "$(hits)" = "'a': 1999 tokens are in the cache and not read again" ]
}

@test "open documents go on, and their ends are kept" {
    in_two_parts 700 500
    run -0 --separate-stderr cached "--dump-state %i.miss h >miss"
    cmp a.miss a.want
    cmp miss want
    run -0 --separate-stderr cached "--dump-state %i.hit h >hit"
    [ "$(hits)" = "'a': 699 tokens are in the cache and not read again" ]
    run -0 pipe "state diff --within 2e-6 a.hit a.want"
}

@test "eight processes on one cache: no wrong hit" {
    run -0 "$BATS_TEST_DIRNAME/crowd.py" "$STATEPIPE_BUILD/bin" 8
    [[ "$output" == "8 processes, 80 documents read, "*" starts from the cache: no wrong state" ]]
}

@test "a damaged entry is left out with a warning, and written anew" {
    cached "a.hidden >/dev/null" 2>/dev/null
    entry=$(echo C/*.1999.*)
    cp "$entry" good
    for at in 12 3000 -3; do
        python3 - "$entry" $at <<'END'
import sys
b = bytearray(open(sys.argv[1], "rb").read())
b[int(sys.argv[2])] ^= 16
open(sys.argv[1], "wb").write(b)
END
        run -0 --separate-stderr cached "a.hidden >out"
        [[ "$stderr" == *"mamba-layer: cache C: removed, and written again when it is read the next time: $entry"* ]]
        [ "$(hits)" = "'a': 1536 tokens are in the cache and not read again" ]
        run -0 pipe "state diff --within 2e-6 $entry good" # written anew
        cp good "$entry"
    done
    : >"$entry"
    run -0 --separate-stderr cached "a.hidden >out"
    [ "$(hits)" = "'a': 1536 tokens are in the cache and not read again" ]
    # A whole state under another's name.
    cp "$(echo C/*.1536.*)" "$entry"
    run -0 --separate-stderr cached "a.hidden >out"
    [[ "$stderr" == *"is not the state that its name says"* ]]
    [ "$(hits)" = "'a': 1536 tokens are in the cache and not read again" ]
}

@test "where the only state found is damaged, the output is that without a cache, byte for byte" {
    seq 1000 >text
    pipe "tokenize text | embed >h; mamba-layer h >want"
    cached "h >out" 2>/dev/null
    cmp out want
    entry=$(echo C/*.3584.*)
    for f in C/*; do [ "$f" = "$entry" ] || rm "$f"; done
    printf 'QQQQ' | dd of="$entry" bs=1 seek=3000 conv=notrunc status=none
    run -0 --separate-stderr cached "h >out"
    [[ "$stderr" == *"cache C: removed"* ]]
    cmp out want
}

@test "what has not been used for the longest time makes room" {
    # Each of these has two states of about 7 KiB; 1 MiB holds about 70 of them.
    size() { du -b C | cut -f 1; }
    "$stream" tokens $(seq -f 'd%g=600' 60) >all
    pipe "embed all >h"
    pipe "mamba-layer --cache C --cache-every 512 --cache-max 1 h >/dev/null"
    [ "$(size)" -le $((1048576 + 16384)) ]
    [ "$(size)" -gt $((1048576 / 2)) ]
    # The oldest is used, then others come: it stays, and those that were used after it go.
    pipe "embed <(\"$stream\" tokens --first 59 d=600) >last.hidden; embed <(\"$stream\" tokens --first 59 d=599) | mamba-layer --dump-state last.state >/dev/null"
    prefix=$(pipe "state info last.state" | sed -n 's/^ *prefix *//p')
    last=$(ls C/*".599.$prefix."*)
    touch -d '2 hours ago' C/*.state
    touch -d '3 hours ago' "$last" C/*.512.*
    n=$(ls C/*.512.* | wc -l)
    pipe "mamba-layer -v --cache C --cache-every 512 --cache-max 1 last.hidden 2>log >/dev/null"
    grep "599 tokens are in the cache" log
    pipe "embed <(\"$stream\" tokens --seed 2 d=600 e=600) | mamba-layer --cache C --cache-every 512 --cache-max 1 >/dev/null"
    [ -e "$last" ]
    gone=$((n + 2 - $(ls C/*.512.* | wc -l)))
    [ "$gone" -ge 3 ] && [ "$gone" -le 4 ]
    # Nothing fits: said once, and no error.
    run -0 --separate-stderr pipe "mamba-layer --cache D --cache-max 0 a.hidden >out"
    [[ "$stderr" == "mamba-layer: cache D: one state has "*" bytes, and all of them may have 0" ]]
    cmp out a.want
}

@test "a cache that cannot be written to saves nothing and breaks nothing" {
    if ldd "$STATEPIPE_BUILD/bin/mamba-layer" | grep -q libasan; then skip "a sanitizer is linked in"; fi
    [ -e "$STATEPIPE_BUILD/inject.so" ] || make -s -C "$TREE" BUILD="$STATEPIPE_BUILD" "$STATEPIPE_BUILD/inject.so"
    for kind in write sync open; do
        for n in 1 2 3 4 5 6 8 11 15 20 30; do
            rm -rf C hit
            run --separate-stderr pipe "INJECT=$kind:$n INJECT_LOG=$PWD/hit LD_PRELOAD=$STATEPIPE_BUILD/inject.so mamba-layer --cache C --cache-every 512 a.hidden >out"
            [ -e hit ] || break
            [ "$status" != 0 ] || cmp out a.want
            [ "$status" = 0 ] || [ "$status" = 74 ] || [ "$status" = 66 ]
            run -0 --separate-stderr cached "a.hidden >out"
            run -0 pipe "ls C | grep -c tmp || true"
            [ "$output" = 0 ]
        done
    done
    : >file
    run -74 --separate-stderr pipe "mamba-layer --cache file a.hidden >/dev/null"
    [[ "$stderr" == "mamba-layer: the cache file: Not a directory" ]]
    run -74 --separate-stderr pipe "mamba-layer --cache no/where a.hidden >/dev/null"
}

@test "options that do not go together" {
    run -2 --separate-stderr pipe "mamba-layer --cache C -l 0 a.hidden >/dev/null"
    [[ "$stderr" == *"--cache needs all layers in one process"* ]]
    run -2 --separate-stderr pipe "mamba-layer --cache C --checkpoint F -o OUT a.hidden"
    [[ "$stderr" == *"--cache and --checkpoint exclude each other"* ]]
    run -2 --separate-stderr pipe "mamba-layer --cache-every 512 a.hidden >/dev/null"
    [[ "$stderr" == *"--cache-every and --cache-max need --cache DIR"* ]]
}
