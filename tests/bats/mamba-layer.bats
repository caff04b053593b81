load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
    "$stream" tokens 300 5 257 1 0 9 >tokens
    pipe "embed tokens >hidden"
}

# A model with one weight that is not a number.
damaged() {
    cp -r "$STATEPIPE_MODEL" broken
    python3 - broken/model.safetensors "$1" <<'END'
import json, struct, sys
b = bytearray(open(sys.argv[1], "rb").read())
n = struct.unpack("<Q", b[:8])[0]
a, e = json.loads(b[8:8 + n])[sys.argv[2]]["data_offsets"]
b[8 + n + e - 4:8 + n + e] = struct.pack("<f", float("nan"))
open(sys.argv[1], "wb").write(b)
END
}

@test "hidden is replaced, the rest is kept, HELLO says how far" {
    run -0 pipe "mamba-layer hidden | '$stream' records"
    [[ "${lines[0]}" == *"'program': 'mamba-layer'"*"'next_layer': 2, 'n_layer': 2"* ]]
    [[ "${lines[2]}" == "CHUNK {'doc': 0, 'pos': 0, 'pass': 0, 'last': False} {'ids': 'u32[256]', 'span': 'u64[256, 2]', 'hidden': 'f32[256, 32]'}" ]]
    [[ "${lines[-1]}" == "END {'docs': 6, 'errors': 0"* ]]
    run -1 pipe "cmp <(mamba-layer hidden | '$stream' rows hidden) <('$stream' rows hidden <hidden) >/dev/null"
}

@test "what is computed does not depend on when the input comes" {
    run -0 pipe "cmp <(mamba-layer hidden) <(python3 -c '
import os, sys, time
b = open(\"hidden\", \"rb\").read()
for i in range(0, len(b), 30011):
    os.write(1, b[i:i + 30011]); time.sleep(0.005)' | mamba-layer)"
}

@test "-l splits the layers; a wrong layer is refused" {
    run -0 pipe "cmp <(mamba-layer -l 0 hidden | mamba-layer -l 1-1 | '$stream' rows hidden) \
                     <(mamba-layer hidden | '$stream' rows hidden)"
    run -0 pipe "cmp <(mamba-layer -l 0-0 hidden | mamba-layer) <(mamba-layer hidden)"
    run -65 --separate-stderr pipe "mamba-layer -l 1 hidden >/dev/null"
    [[ "$stderr" == "mamba-layer: the stream is to go into layer 0 next, but this program runs layers 1-1"* ]]
    run -65 --separate-stderr pipe "mamba-layer hidden | mamba-layer >/dev/null"
    [[ "$stderr" == *"every layer of the model has been run already"* ]]
    run -2 --separate-stderr pipe "mamba-layer -l 0-2 hidden >/dev/null"
    [[ "$stderr" == *"layers 0-2: the model has layers 0-1"* ]]
    for bad in 1-0 x 1- -1 0-1-2 99999999999999999999; do
        run -2 --separate-stderr pipe "mamba-layer -l $bad hidden >/dev/null"
        [[ "$stderr" == *"write the first and the last layer"* ]]
    done
}

@test "-j, --dtype, --wire" {
    run -0 pipe "cmp <(mamba-layer -j 1 hidden) <(mamba-layer -j 3 hidden)"
    run -0 pipe "cmp <(mamba-layer -j 1 --dtype bf16 hidden) <(mamba-layer -j 3 --dtype bf16 hidden)"
    pipe "mamba-layer hidden >f32; mamba-layer --dtype bf16 hidden >bf16"
    run -1 cmp -s f32 bf16
    run -0 "$stream" close hidden bf16 f32 0.02
    run -0 pipe "mamba-layer --wire bf16 hidden | '$stream' records"
    [[ "${lines[2]}" == *"'hidden': 'bf16[256, 32]'"* ]]
    run -0 pipe "embed --wire bf16 tokens | mamba-layer | '$stream' records"
    [[ "${lines[2]}" == *"'hidden': 'f32[256, 32]'"* ]]
}

@test "-v says what runs" {
    run -0 --separate-stderr pipe "mamba-layer -v -j 2 hidden >/dev/null"
    [[ "$stderr" == "mamba-layer: $STATEPIPE_MODEL, layers 0-1 of 2, products in f32; cpu: kernels "*", 2 threads, oneDNN "* ]]
    STATEPIPE_CPU=ref run -0 --separate-stderr pipe "mamba-layer -v -l 0 hidden >/dev/null"
    [[ "$stderr" == *"layers 0-0 of 2"*"kernels ref"* ]]
}

@test "--dump-state names files after documents and stays in its directory" {
    "$stream" tokens ../up=20 .hidden=3 a/b=4 ok-1.txt=5 >odd
    mkdir states
    run -0 pipe "embed odd | mamba-layer --dump-state states/%i.%n.state >/dev/null"
    run -0 pipe "LC_ALL=C ls -A states"
    [ "${lines[*]}" = "_._up.0.state _hidden.1.state a_b.2.state ok-1.txt.3.state" ]
    run -2 --separate-stderr pipe "mamba-layer --dump-state one.state hidden >/dev/null"
    [ "$stderr" = "mamba-layer: --dump-state one.state: a second document would overwrite the first one's state; use %i (its id) or %n (its number) in the name" ]
    [ ! -e one.state ]
    # choices have the id of their text
    echo '{"id": "q", "text": "The city is", "choices": [" Rome", " Oslo", " Bern"]}' >q
    run -2 --separate-stderr pipe "tokenize --jsonl q | embed | mamba-layer --dump-state 'c-%i' >/dev/null"
    [ "$stderr" = "mamba-layer: --dump-state c-%i: choices have the id of their text, whose state they would overwrite; use %n (the number) in the name" ]
    run -0 pipe "tokenize --jsonl q | embed | mamba-layer --dump-state c-%i.%n >/dev/null"
    [ "$(echo c-*)" = "c-q.0 c-q.1 c-q.2" ] # the last of them goes on with the text itself
    run -2 --separate-stderr pipe "mamba-layer --dump-state %q hidden >/dev/null"
    run -2 --separate-stderr pipe "mamba-layer --dump-state 100% hidden >/dev/null"
    run -74 --separate-stderr pipe "mamba-layer --dump-state nowhere/%n hidden >/dev/null"
    [[ "$stderr" == *"cannot create nowhere/0"* ]]
}

@test "--dump-state: letters of any script stay, and no state takes the place of another" {
    "$stream" tokens -- 'José Müller.txt=3' 'Ιωάννα=4' '李 明=5' '-v=6' $'tab\tand\u202e=7' >odd
    mkdir states
    run -0 pipe "embed odd | mamba-layer --dump-state states/%i.state >/dev/null"
    run -0 pipe "LC_ALL=C ls -A states"
    [ "${lines[*]}" = "José_Müller.txt.state _v.state tab_and_.state Ιωάννα.state 李_明.state" ]
    "$stream" tokens 'a b=20' a_b=3 'a/b=4' c=5 'a b=3' >odd
    pipe "embed odd >odd.hidden"
    run -1 --separate-stderr pipe "mamba-layer --emit-state --dump-state %i.state odd.hidden >out"
    [ "${#stderr_lines[@]}" = 3 ]
    [ "${stderr_lines[0]}" = "mamba-layer: document 'a_b': --dump-state: its file would be a_b.state, which is that of number 0 of this run already: use %n (the number) in the name" ]
    run -0 pipe "state info a_b.state c.state"
    [[ "${lines[0]}" == "a_b.state: 20 tokens "* ]]
    run -0 pipe "'$stream' records <out | grep -c ^DOCEND"
    [ "$output" = 2 ]
    run -0 pipe "mamba-layer --emit-state --dump-state %i.%n odd.hidden >out"
    [ "$(echo a_b.[0-9])" = "a_b.0 a_b.1 a_b.2 a_b.4" ]
    run -65 pipe "state cut -o cut.%i out"
    [ "$output" = "state: document 'a_b': its file would be cut.a_b, which is that of number 0 of this run already: use %n (the number) in the name" ]
    cmp cut.a_b a_b.0
    run -0 pipe "state cut -o cut.%i.%n out"
    for n in 0 1 2 4; do cmp cut.a_b.$n a_b.$n; done
    # Thousands of them, and names too long for a file.
    mkdir many
    "$stream" tokens $(seq -f 'd%g=1' 3000) d77=1 >odd
    run -1 --separate-stderr pipe "embed odd | mamba-layer --dump-state many/%i >/dev/null"
    [[ "$stderr" == "mamba-layer: document 'd77': --dump-state: its file would be many/d77, which is that of number 76 of"* ]]
    [ "$(ls many | wc -l)" = 3000 ]
    "$stream" tokens "$(printf '%0250d' 0)=3" ok=4 >odd
    run -1 --separate-stderr pipe "embed odd | mamba-layer --dump-state %i >/dev/null"
    [[ "$stderr" == *": --dump-state: the file's name has 250 bytes, more than 240: 000"*"...; use %n (the number) in place of %i" ]]
    [ -e ok ]
}

@test "a state of another model, of other layers, damaged, or no file: refused" {
    "$stream" tokens 40 >one
    pipe "embed one | mamba-layer --dump-state s >/dev/null; embed one | mamba-layer -l 0 --dump-state s0 >/dev/null"
    run -65 --separate-stderr pipe "mamba-layer --load-state s0 hidden >/dev/null"
    [[ "$stderr" == *"s0: the state has layers 0-0, but 0-1 are needed"* ]]
    other=$TREE/tests/golden/mamba-bias
    run -65 --separate-stderr pipe "embed -m $other one | mamba-layer -m $other --load-state s >/dev/null"
    [[ "$stderr" == *"the state belongs to another model"* ]]
    python3 -c 'b = bytearray(open("s", "rb").read()); b[-2000] ^= 1; open("bad", "wb").write(b)'
    run -65 --separate-stderr pipe "mamba-layer --load-state bad hidden >/dev/null"
    run -66 --separate-stderr pipe "mamba-layer --load-state none hidden >/dev/null"
    run -65 --separate-stderr pipe "mamba-layer -m $other hidden >/dev/null"
    [[ "$stderr" == *"the stream was made with another model"* ]]
}

@test "a weight that is not a number is found and named" {
    damaged backbone.layers.1.mixer.out_proj.weight
    run -65 --separate-stderr pipe "embed -m broken tokens | mamba-layer -m broken >/dev/null"
    [[ "$stderr" == *"tensor backbone.layers.1.mixer.out_proj.weight holds NaN or infinity"* ]]
}

@test "hidden states that are not numbers fail their document, not the run" {
    python3 - <<'END'
import struct
b = open("hidden", "rb").read()
at = b.rfind(b"\x93\xa6DOCEND") - 40 # among the last document's hidden states
open("bad", "wb").write(b[:at] + struct.pack("<f", float("nan")) * 4 + b[at + 16:])
END
    run -1 --separate-stderr pipe "mamba-layer bad | '$stream' records"
    [[ "$stderr" == "mamba-layer: document 'd5': \`hidden\` holds NaN or infinity" ]]
    [[ "${lines[-2]}" == "ERR {'stage': 'mamba-layer', 'code': 'data'"* ]]
    [[ "${lines[-1]}" == "END {'docs': 6, 'errors': 1"* ]]
    run -0 pipe "cmp <(mamba-layer bad | '$stream' rows hidden) \
                     <(mamba-layer hidden | '$stream' rows hidden | sed '/document d5/q')"
}

@test "documents left open go on later; one that is not open fails" {
    "$stream" tokens --open a a=40 b=3 >first
    "$stream" tokens --seed 2 --cont a a=50 b=4 >second
    run -0 pipe "embed first second | mamba-layer --dump-state %i.%n >/dev/null"
    run -0 pipe "state info a.0"
    [[ "${lines[0]}" == "a.0: 90 tokens "* ]]
    run -0 pipe "embed first | mamba-layer --dump-state %i.open >/dev/null" # nothing more came
    run -0 pipe "state info a.open"
    [[ "${lines[0]}" == "a.open: 40 tokens "* ]]
    run -1 --separate-stderr pipe "embed second | mamba-layer | '$stream' records"
    [[ "$stderr" == "mamba-layer: document 'a': it goes on with a document that was not left open" ]]
    [[ "${lines[1]}" == "DOC "* && "${lines[2]}" == "ERR "* && "${lines[3]}" == "DOC "* ]]
}

@test "--dump-state of a document that goes on is written once" {
    if ldd "$STATEPIPE_BUILD/bin/mamba-layer" | grep -q libasan; then skip "a sanitizer is linked in"; fi
    [ -e "$STATEPIPE_BUILD/inject.so" ] || make -s -C "$TREE" BUILD="$STATEPIPE_BUILD" "$STATEPIPE_BUILD/inject.so"
    "$stream" tokens --open a a=40 >first
    "$stream" tokens --open a --cont a a=1 >more
    "$stream" tokens --cont a a=1 >end
    for n in 2 3; do # its syncing and its renaming are one file's
        run pipe "embed first more more end | INJECT=sync:$n INJECT_LOG=hit.$n \
            LD_PRELOAD=$STATEPIPE_BUILD/inject.so mamba-layer --dump-state s >/dev/null"
    done
    [ -e hit.2 ] && [ ! -e hit.3 ]
    run -0 pipe "state info s"
    [[ "${lines[0]}" == "s: 43 tokens "* ]]
}

@test "no input, no stream, a cut stream, another content, no such file" {
    run -65 --separate-stderr pipe "mamba-layer </dev/null"
    run -65 --separate-stderr pipe "mamba-layer <'$BATS_TEST_FILENAME'"
    run -65 --separate-stderr pipe "mamba-layer <(python3 -c 'import sys; sys.stdout.buffer.write(open(\"hidden\", \"rb\").read()[:9000])') >/dev/null"
    run -65 --separate-stderr pipe "mamba-layer tokens >/dev/null"
    [[ "$stderr" == *"reads a stream of hidden, but stream.py wrote one of tokens"* ]]
    run -66 --separate-stderr pipe "mamba-layer nowhere >/dev/null"
    run -69 --separate-stderr pipe "mamba-layer --device cuda hidden >/dev/null"
}

@test "a full disk is noticed; a closed pipe ends it" {
    run -74 --separate-stderr pipe "mamba-layer hidden >/dev/full"
    [[ "$stderr" == *"No space left on device"* ]]
    "$stream" tokens 20000 >long
    run -141 pipe "embed long | mamba-layer | true"
}

@test "an idle pipe uses no CPU time" {
    mkfifo in
    pipe "(python3 -c 'import sys; sys.stdout.buffer.write(open(\"hidden\", \"rb\").read()[:-60])'; sleep 1) >in" &
    run -65 pipe "bash -c 'mamba-layer <in >/dev/null; s=\$?; times; exit \$s' 2>/dev/null"
    python3 - "${lines[-1]}" <<'END'
import re, sys
used = sum(int(m) * 60 + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", sys.argv[1]))
assert used < 0.5, used
END
}
