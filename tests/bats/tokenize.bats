load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    golden=$TREE/tests/golden/tokens
    model=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
}

records() { pipe "tokenize $1 | '$stream' records"; }
# 60 kB of the golden lines: many scripts, added tokens, control characters.
varied() {
    python3 -c 'import json, sys
for line in open(sys.argv[1], encoding="utf-8"): sys.stdout.buffer.write(json.loads(line)["text"].encode() + b"\n")' \
        "$golden/lines.jsonl" 2>/dev/null | head -c "${1:-60000}"
}
# Standard input to standard output in writes of random sizes, with pauses.
dribble() {
    python3 -c 'import os, random, sys, time
rng, data, at = random.Random(int(sys.argv[1])), sys.stdin.buffer.read(), 0
while at < len(data):
    n = 1 if sys.argv[2] == "1" else rng.randint(1, int(sys.argv[2]))
    os.write(1, data[at:at + n])
    at += n
    if rng.random() < 0.002: time.sleep(0.002)' "$@"
}

@test "a document: DOC, TEXT, CHUNK, DOCEND" {
    printf 'H\xc3\xa9!' >text
    run -0 records "-m bytes text"
    echo "$output"
    [[ "${lines[0]}" == "statepipe {"*"'content': 'tokens', 'program': 'tokenize', 'model_dir': ''"* ]]
    [[ "${lines[1]}" == "DOC {'id': 'text', 'name': 'text', 'doc': 0}"* ]]
    [[ "${lines[2]}" == "TEXT {'doc': 0, 'off': 0}"*"'text': 'u8[4]'"* ]]
    [[ "${lines[3]}" == "CHUNK {'doc': 0, 'pos': 0, 'pass': 0, 'last': True}"*"'ids': 'u32[4]', 'span': 'u64[4, 2]'"* ]]
    [[ "${lines[4]}" == "DOCEND {'doc': 0, 'status': 'ok', 'n_tok': 4}"* ]]
    [[ "${lines[5]}" == "END {'docs': 1, 'errors': 0, 'open': 0}"* ]]
    [ "${#lines[@]}" = 6 ]
}

@test "an empty document has no chunk; no operand and - are standard input" {
    run -0 records "-m bytes </dev/null"
    [[ "${lines[1]}" == DOC* && "${lines[2]}" == "DOCEND {'doc': 0, 'status': 'ok', 'n_tok': 0}"* && "${#lines[@]}" = 4 ]]
    echo ab >file
    pipe "tokenize -m bytes <file >a; tokenize -m bytes - <file >b; cmp a b"
    run -0 records "-m bytes file - file <file"
    [ "$(grep -c ^DOCEND <<<"$output")" = 3 ]
}

@test "ids and spans of each tokenizer" {
    printf 'Hello  <mask> caf\xc3\xa9' >text
    pipe "tokenize -m bytes text | '$stream' rows ids" >ids
    grep -v document ids | head -n 1 | grep -qx 48000000
    # <mask> takes the spaces before it along, and so does its span; the others have none.
    pipe "tokenize --bare -m '$golden/wordpiece.json' text | '$stream' rows span" | grep -v document >span
    grep -qx 05000000000000000d00000000000000 span
    pipe "tokenize -m '$golden/bpe.json' text | '$stream' rows span" | grep -v document | tail -n 1 |
        grep -q '1300000000000000$'
}

@test "a model directory: HELLO names it, its config gives passes, delay and padding" {
    cp -r "$model" m
    cp "$golden/bpe.json" m/tokenizer.json
    python3 - m/config.json <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
c["eos_token_id"] = 7
c["statepipe"] = {**c.get("statepipe", {}), "format": 1, "passes": 2, "delay": 3}
c["statepipe"].pop("tokenizer", None)
json.dump(c, open(sys.argv[1], "w"))
END
    printf 'a b' >text
    run -0 records "-m m text"
    echo "$output"
    [[ "${lines[0]}" == *"'model_dir': '$PWD/m'"*"'n_layer': 2"* ]]
    [[ "${lines[1]}" == *"'pad': 3, 'passes': 2"* ]]
    [[ "${lines[3]}" == "CHUNK {'doc': 0, 'pos': 0, 'pass': 0}"*"u32[2]"* ]]
    [[ "${lines[4]}" == "CHUNK {'doc': 0, 'pos': 2, 'pass': 1, 'last': True}"*"u32[5]"* ]]
    pipe "tokenize -m m text | '$stream' rows ids" | grep -v document | tail -n 3 >pad
    [ "$(sort -u pad)" = 07000000 ]
    STATEPIPE_MODEL=$PWD/m pipe "tokenize text" >a
    pipe "tokenize -m m text" >b
    cmp a b
    run -0 records "-m m --repeat 1 --pad 0 text"
    [[ "${lines[3]}" == *"u32[2]"* && "${#lines[@]}" = 6 ]]
}

@test "chunks are of --chunk tokens, padding included" {
    printf '%01000d' 0 >text
    run -0 records "-m bytes --pad 24 text"
    [ "$(grep -c "^CHUNK.*u32\[256\]" <<<"$output")" = 4 ]
    [ "$(grep -c ^CHUNK <<<"$output")" = 4 ]
    run -0 records "-m bytes --chunk 999 text"
    [[ "$(grep ^CHUNK <<<"$output")" == *"u32[999]"*"'pos': 999"*"u32[1]"* ]]
}

@test "TEXT is the source, in pieces of 64 KiB, each before the chunks that it covers" {
    { varied; varied; head -c 3000 /dev/urandom; head -c 200000 /dev/zero | tr '\0' ' '; varied; } >text
    for tok in bytes "$golden/bpe.json" "$golden/wordpiece.json"; do
        pipe "tokenize -m '$tok' text 2>/dev/null" >out
        python3 - "$BATS_TEST_DIRNAME" out text <<'END'
import struct, sys
sys.path.insert(0, sys.argv[1])
import stream
text, n_token = b"", 0
for kind, fields, tensors in stream.records(open(sys.argv[2], "rb").read()):
    if kind == "TEXT":
        piece = tensors["text"][2]
        assert fields["off"] == len(text) and len(piece) <= 65536
        text += piece
    if kind == "CHUNK":
        n = tensors["ids"][1][0]
        span = struct.unpack("<%dQ" % (2 * n), tensors["span"][2])
        assert max(span) <= len(text), (max(span), len(text))
        assert all(a <= z for a, z in zip(span[::2], span[1::2]))
        n_token += n
assert text == open(sys.argv[3], "rb").read()
assert n_token > 5000
END
    done
}

@test "what is written does not depend on how the input arrives" {
    { varied 12000; head -c 1000 /dev/urandom; printf '\xe4\xb8'; } >text
    for tok in bytes "$golden/bpe.json" "$golden/wordpiece.json"; do
        pipe "tokenize --id x -m '$tok' - <text 2>/dev/null" >whole
        for how in "1 3" "2 50" "3 5000"; do
            dribble $how <text | pipe "tokenize --id x -m '$tok' - 2>/dev/null" >parts
            cmp whole parts
        done
    done
}

@test "whole chunks and ends of documents are written before a read would block" {
    mkfifo in
    pipe "tokenize -m bytes --chunk 4 in" >out &
    exec 9>in
    printf 'abcdef' >&9
    for _ in $(seq 100); do
        "$stream" records <out 2>/dev/null | grep -q ^CHUNK && break
        sleep 0.05
    done
    "$stream" records <out 2>/dev/null | grep "^CHUNK.*u32\[4\]"
    exec 9>&-
    wait
    [ "$("$stream" records <out | grep -c ^CHUNK)" = 2 ]
}

@test "--lines: a document each, empty ones too" {
    printf 'one\n\nthree\r\nlast' >text
    run -0 records "-m bytes --lines text"
    [ "$(grep -c ^DOCEND <<<"$output")" = 4 ]
    [[ "$(grep "^DOC " <<<"$output")" == *"'id': '1', 'name': 'text'"*"'id': '4'"* ]]
    [ "$(grep ^DOCEND <<<"$output" | grep -o "n_tok': [0-9]*" | tr -dc '0-9\n' | paste -sd,)" = 3,0,6,4 ]
    run -0 records "-m bytes --lines --id '%f:%n%%' text"
    [[ "$output" == *"'id': 'text:2%'"* ]]
}

@test "--jsonl: text, id, spans in bytes or code points, slots and label" {
    printf '%s\n' '{"id":"x","text":"h\u00e9llo","spans":[[1,3,"A",[0]],[2,5,"B"]],"slots":[["q",["a"]]],"label":"z"}' '' \
        '{"text":"n","id":12}' '{"text":""}' >in
    run -0 records "-m bytes --jsonl --span-unit codepoint in"
    echo "$output"
    [[ "${lines[1]}" == *"'id': 'x'"*"'bytes': 6"*"[1, 4, 'A', [0]]"*"[3, 6, 'B']"*"'slots': [['q', ['a']]]"*"'label': 'z'"* ]]
    [[ "$output" == *"'id': '12'"*"'id': '4'"* ]]
    sed -i 's/\[1,3,/[0,3,/; s/\[2,5,/[3,5,/' in
    run -0 records "-m bytes --jsonl in"
    [[ "${lines[1]}" == *"[0, 3, 'A', [0]], [3, 5, 'B']"* ]]
}

@test "--jsonl: a span that cuts a character counts something else, which is said" {
    printf '{"text": "ä€x", "spans": [[%s, %s, "L"]]}\n' 0 2 2 5 5 6 0 1 2 4 3 5 >in
    run -1 --separate-stderr pipe "tokenize -m bytes --jsonl in >out"
    said="cuts a character: spans that count characters want --span-unit codepoint"
    [ "${stderr_lines[0]}" = "tokenize: in: line 4: a span of bytes 0 to 1 $said" ]
    [ "${stderr_lines[1]}" = "tokenize: in: line 5: a span of bytes 2 to 4 $said" ]
    [ "${stderr_lines[2]}" = "tokenize: in: line 6: a span of bytes 3 to 5 $said" ]
    [ "${#stderr_lines[@]}" = 3 ]
    run -0 --separate-stderr pipe "sed 1q in | tokenize -m bytes --jsonl --span-unit codepoint >out"
    [ -z "$stderr" ]
}

@test "--jsonl: a bad line fails that document only" {
    printf '%s\n' '{"text":"a"}' 'junk' '{"text":1}' '{"text":"ab","spans":[[0,3,"L"]]}' '{"text":"ab","spans":[[2,1,"L"]]}' \
        '{"text":"ab","spans":[[0,1]]}' "{\"text\":\"$(printf '%0200d' 0)\"}" '{"text":"z"}' >in
    run -1 --separate-stderr pipe "tokenize -m bytes --jsonl --max-doc 150 in >out"
    "$stream" records <out >records
    cat records
    [ "$(grep -c ^ERR records)" = 6 ]
    [ "$(grep -c ^DOCEND records)" = 2 ]
    grep -q "^END {'docs': 8, 'errors': 6" records
    [[ "${stderr_lines[0]}" == "tokenize: in: line 2: JSON: byte "*"not JSON" ]]
    [ "${stderr_lines[1]}" = 'tokenize: in: line 3: no string "text"' ]
    [ "${stderr_lines[2]}" = 'tokenize: in: line 4: a span lies outside of the text' ]
    [ "${stderr_lines[5]}" = 'tokenize: in: line 7: a line of more than 150 bytes (--max-doc)' ]
    [ "${#stderr_lines[@]}" = 6 ]
}

@test "invalid UTF-8 is replaced, reported once with its place, and spans are the source's" {
    printf 'ab\xff\xe4\xb8 c' >text
    run -0 --separate-stderr pipe "tokenize -m '$golden/bpe.json' text >out"
    [ "$stderr" = "tokenize: text: invalid UTF-8 at byte 2, replaced (2 times in all); of another encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)" ]
    "$stream" records <out | grep -q "TEXT.*u8\[7\]"
    "$stream" rows span <out | tail -n 1 | grep -q 0600000000000000'.*'0700000000000000
    run -1 --separate-stderr pipe "tokenize --invalid refuse -m '$golden/bpe.json' text >out"
    [ "$stderr" = "tokenize: text: invalid UTF-8 at byte 2 (--invalid replace goes on)" ]
    "$stream" records <out | grep -q "^ERR.*'exit': 1, 'doc': 0"
    run -0 --separate-stderr pipe "tokenize --invalid refuse -m bytes text >out"
    [ -z "$stderr" ]
}

@test "a PDF file is refused as a document, however it comes in pieces" {
    make_pdf text >p.pdf
    echo text >text
    said="a PDF file and not text; \`statepipe cv\` reads it, and so does pdftotext -layout FILE - | tokenize"
    run -1 --separate-stderr pipe "tokenize -m bytes p.pdf text >out"
    [ "$stderr" = "tokenize: p.pdf: $said" ]
    "$stream" records <out | grep -q "^ERR.*'exit': 1, 'doc': 0"
    [ "$("$stream" records <out | grep -c ^DOCEND)" = 1 ]
    run -1 --separate-stderr pipe "{ printf %%P; sleep 0.1; printf DF; sleep 0.1; printf -- -1.4; } | tokenize -m bytes >out"
    [ "$stderr" = "tokenize: standard input: $said" ]
    for text in %PDF '%PDF 1.4 is a version' ' %PDF-1.4' %; do
        run -0 --separate-stderr pipe "printf %s '$text' | tokenize -m bytes | detokenize"
        [ "$output" = "$text" ]
    done
}

@test "--open leaves the last document open, without padding" {
    echo a >text
    run -0 records "-m bytes --open --pad 2 text text"
    [ "$(grep -c "^DOCEND.*'ok', 'n_tok': 4" <<<"$output")" = 1 ]
    [ "$(grep -c "^DOCEND.*'open', 'n_tok': 2" <<<"$output")" = 1 ]
    [[ "$output" == *"END {'docs': 2, 'errors': 0, 'open': 1}"* ]]
    run -2 pipe "tokenize -m bytes --open --lines text"
}

@test "the post-processor's tokens stand around a document, --bare leaves them out" {
    echo >text
    run -0 records "-m '$golden/wordpiece.json' text"
    [[ "${lines[3]}" == *"u32[2]"* ]]
    run -0 records "-m '$golden/wordpiece.json' --bare text"
    [[ "${lines[3]}" == DOCEND* ]]
}

@test "choices: tokens of both texts without as many as the first has, in bytes of the whole" {
    cat >items.jsonl <<'END'
{"id": "a", "text": "The quick brown ", "choices": ["fox jumps", "foxes"]}
{"id": "b", "text": "jum", "choices": ["ps over", " "]}
{"text": "", "choices": ["x"]}
END
    for tok in bytes "$golden/bpe.json" "$golden/wordpiece.json"; do
        pipe "tokenize -m '$tok' --chunk 3 --jsonl items.jsonl >choices"
        python3 - "$stream" "$tok" <<'END'
import io, json, os, runpy, struct, subprocess, sys
script, tok = sys.argv[1:]
sys.argv = [script, "records"]
sys.stdin = io.TextIOWrapper(io.BytesIO(b""))
records = runpy.run_path(script)["records"]

def read(data):
    for kind, fields, tensors in records(data):
        if kind == "DOC":
            doc = {"fields": fields, "ids": [], "span": [], "text": b""}
        if kind == "TEXT":
            assert fields["off"] == doc.get("off", fields["off"] - len(doc["text"])) + len(doc["text"])
            doc.setdefault("off", fields["off"])
            doc["text"] += tensors["text"][2]
        if kind == "CHUNK":
            doc.setdefault("pos", fields["pos"])
            for key, form in ("ids", "I"), ("span", "Q"):
                data = tensors[key][2]
                doc[key] += struct.unpack("<%d%s" % (len(data) // (4 if form == "I" else 8), form), data)
        if kind == "DOCEND":
            doc["end"] = fields
            yield doc
        if kind == "END":
            assert (fields["docs"], fields["open"]) in ((8, 3), (1, 0)), fields

def encode(text):  # alone, without what the post-processor puts behind it
    line = json.dumps({"text": text}).encode()
    run = lambda *options: next(read(subprocess.run(
        [os.environ["STATEPIPE_BUILD"] + "/bin/tokenize", "-m", tok, "--jsonl", *options], input=line, stdout=subprocess.PIPE).stdout))
    full, bare = run(), run("--bare")
    n_prefix = (len(full["ids"]) - len(bare["ids"])) // 2
    return full["ids"][:n_prefix] + bare["ids"], full["span"][:2 * n_prefix] + bare["span"]

docs = iter(list(read(open("choices", "rb").read())))
for line in open("items.jsonl"):
    d = json.loads(line)
    text = d["text"].rstrip()
    doc = next(docs)
    ids, _ = encode(text)
    assert doc["ids"] == ids and doc["text"] == text.encode() and doc["end"]["status"] == "open"
    for i, choice in enumerate(d["choices"]):
        doc, n = next(docs), len(text.encode())
        both, span = encode(d["text"] + choice)
        assert doc["ids"] == both[len(ids):], (doc, both)
        assert doc["span"] == [max(s, n) for s in span[2 * len(ids):]]
        assert doc["text"] == (d["text"] + choice).encode()[n:]
        assert doc.get("off", n) == n and doc.get("pos", len(ids)) == len(ids)
        fork = doc["fields"].get("fork", False)
        assert doc["fields"]["cont"] and doc["fields"]["choice"] == i
        assert fork == (i + 1 < len(d["choices"]))
assert next(docs, None) is None
END
    done
    # Read twice: the text is, the choices belong to the last reading.
    run -0 records "-m bytes --repeat 2 --jsonl items.jsonl"
    [[ "$output" == *"CHUNK {'doc': 1, 'pos': 30, 'pass': 1, "* ]]
    for bad in '[]' '"a"' '[1]' '["a", null]' '{}'; do
        run -1 --separate-stderr pipe "echo '{\"text\": \"a\", \"choices\": $bad}' | tokenize -m bytes --jsonl >out"
        [[ "$stderr" == *'line 1: "choices" is not an array of strings' ]]
    done
    # A text that fails has no choices.
    run -1 --separate-stderr pipe "printf '{\"text\": \"a\\xff\", \"choices\": [\"b\"]}' |
        tokenize -m bytes --jsonl --invalid refuse >out"
    [ "$("$stream" records <out | grep -c ^DOC)" -le 1 ]
}

@test "20 MB of one line without a space: no more memory than for a page" {
    needs_plain_memory
    head -c 20000000 /dev/zero | tr '\0' x >text
    for tok in bytes "$golden/bpe.json" "$golden/wordpiece.json"; do
        (ulimit -v 200000; pipe "tokenize -m '$tok' text | tail -c 20 >/dev/null")
    done
}

@test "errors: usage, missing files, bad tokenizers, a full disk, a terminal" {
    echo a >text
    run -66 --separate-stderr pipe "tokenize -m bytes none >out"
    [ "$stderr" = "tokenize: cannot open none: No such file or directory" ]
    "$stream" records <out | grep -q "^ERR.*'exit': 66"
    run -66 --separate-stderr pipe "tokenize -m none text >out"
    mkdir empty
    run -66 --separate-stderr pipe "tokenize -m empty text >out"
    [ "$stderr" = "tokenize: empty has neither tokenizer.json nor vocab.txt" ]
    echo '{"model":{"type":"Unigram"}}' >t.json
    run -65 --separate-stderr pipe "tokenize -m t.json text >out"
    [ "$stderr" = "tokenize: t.json: the model 'Unigram' is not supported" ]
    run -74 pipe "tokenize -m bytes text >/dev/full"
    run -2 pipe "tokenize --lines --jsonl text"
    run -2 pipe "script -qec 'tokenize -m bytes text' /dev/null >/dev/null"
    head -c 2000000 /dev/zero >big
    run -141 pipe "tokenize -m bytes big | true"
}
