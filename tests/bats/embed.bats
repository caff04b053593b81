load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    model=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
    "$stream" tokens 30 1 0 >tokens
}

# Arguments: model directory to make, Python statements over `t`, a dict of tensor name to bytearray.
damaged() {
    cp -r "$model" "$1"
    python3 - "$1/model.safetensors" "$2" <<'END'
import json, struct, sys
path, edit = sys.argv[1:]
b = bytearray(open(path, "rb").read())
n = struct.unpack("<Q", b[:8])[0]
for name, e in json.loads(b[8:8 + n]).items():
    if name in edit:
        a = 8 + n + e["data_offsets"][0]
        b[a:a + 4] = struct.pack("<f", float("nan"))
open(path, "wb").write(b)
END
}

@test "adds hidden, keeps the rest, names the model" {
    run -0 pipe "embed -m '$model' tokens | '$stream' records"
    [[ "${lines[0]}" == *"'content': 'hidden', 'program': 'embed'"*"'model_dir': '$model'"*"'n_layer': 2"* ]]
    [[ "${lines[2]}" == *"'ids': 'u32[30]', 'span': 'u64[30, 2]', 'hidden': 'f32[30, 32]'"* ]]
    [ "${#lines[@]}" = 11 ]
    [[ "${lines[10]}" == "END {'docs': 3"* ]]
}

@test "hidden is the row of the embedding matrix" {
    run -0 pipe "embed -m '$model' tokens | '$stream' rows hidden | tail -n 2"
    pipe "'$stream' rows ids <tokens" | grep -v document | tail -n 1 >id
    python3 - "$model/model.safetensors" "$(cat id)" "${lines[0]}" <<'END'
import json, struct, sys
b = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", b[:8])[0]
a = json.loads(b[8:8 + n])["backbone.embeddings.weight"]["data_offsets"][0]
i = struct.unpack("<I", bytes.fromhex(sys.argv[2]))[0]
assert b[8 + n + a + i * 128:][:128].hex() == sys.argv[3]
END
}

@test "--wire bf16 halves the tensor" {
    run -0 pipe "embed --wire bf16 -m '$model' tokens | '$stream' records"
    [[ "${lines[2]}" == *"'hidden': 'bf16[30, 32]'"* ]]
}

@test "the model comes from -m, else from the environment" {
    STATEPIPE_MODEL=$model run -0 pipe "embed <tokens | cmp - <(embed -m '$model' tokens)"
}

@test "several files are several segments; - is standard input" {
    run -0 pipe "embed -m '$model' tokens - <tokens | '$stream' records | grep -c statepipe"
    [ "$output" = 2 ]
}

@test "an id that the model does not know fails its document, not the run" {
    "$stream" tokens --vocab 300 200 5 >bad
    run -1 --separate-stderr pipe "embed -m '$model' bad | '$stream' records"
    [[ "${lines[2]}" == "ERR {'stage': 'embed', 'code': 'data'"* ]]
    [[ "$stderr" == "embed: document 'd0': token id "*": the model knows ids below 264 only"* ]]
    [[ "${lines[3]}" == "DOC {'doc': 1, 'id': 'd1'}"* ]]
}

@test "a damaged embedding fails the document" {
    damaged broken backbone.embeddings.weight
    "$stream" tokens --vocab 1 3 >zeros
    run -1 --separate-stderr pipe "embed -m broken zeros >/dev/null"
    [[ "$stderr" == *"the embedding of token id 0 holds NaN or infinity"* ]]
}

@test "a stream of another model is refused, and one of another content" {
    pipe "embed -m '$model' tokens >hidden"
    run -65 --separate-stderr pipe "embed -m '$model' hidden >/dev/null"
    [[ "$stderr" == *"embed reads a stream of tokens, but embed wrote one of hidden"* ]]
}

@test "no input, no stream, a cut stream, no such file, no model" {
    run -65 --separate-stderr pipe "embed -m '$model' </dev/null"
    run -65 --separate-stderr pipe "embed -m '$model' <'$BATS_TEST_FILENAME'"
    run -65 --separate-stderr pipe "embed -m '$model' <(head -c 700 tokens) >/dev/null"
    run -66 --separate-stderr pipe "embed -m '$model' nowhere >/dev/null"
    [[ "$stderr" == "embed: cannot open nowhere: No such file or directory" ]]
    run -66 --separate-stderr pipe "embed -m nowhere tokens >/dev/null"
}

@test "a full disk is noticed; a closed pipe ends it" {
    run -74 --separate-stderr pipe "embed -m '$model' tokens >/dev/full"
    [[ "$stderr" == *"No space left on device"* ]]
    "$stream" tokens 20000 >long
    run -141 pipe "embed -m '$model' long | true"
}
