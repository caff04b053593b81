load common

setup() {
    stream="$BATS_TEST_DIRNAME/stream.py"
    golden=$TREE/tests/golden/tokens
    cd "$BATS_TEST_TMPDIR"
}

# Text in NFC without the golden tokenizer's tokens that take white space along.
plain_text() {
    python3 -c 'import json, sys, unicodedata
for line in open(sys.argv[1], encoding="utf-8"):
    text = unicodedata.normalize("NFC", json.loads(line)["text"])
    if "<" not in text and text.isascii() | (max(text, default="a") < "\u0700"): sys.stdout.buffer.write(text.encode() + b"\n")' \
        "$golden/lines.jsonl"
}

@test "bytes: exact, whatever they are" {
    head -c 100000 /dev/urandom >file
    pipe "tokenize -m bytes file | detokenize" | cmp - file
    pipe "tokenize -m bytes --chunk 3 --pad 5 --repeat 3 file | detokenize -m bytes" | cmp - file
    pipe "tokenize -m bytes --pad 300 file | detokenize" | cmp - file
    pipe "tokenize -m bytes /dev/null | detokenize" | cmp - /dev/null
}

@test "byte-level BPE: exact for text in NFC" {
    plain_text >file
    [ "$(wc -c <file)" -gt 10000 ]
    pipe "tokenize -m '$golden/bpe.json' file | detokenize -m '$golden/bpe.json'" | cmp - file
    printf 'e\xcc\x81' >file
    [ "$(pipe "tokenize -m '$golden/bpe.json' file | detokenize -m '$golden/bpe.json'")" = $'\xc3\xa9' ]
}

@test "WordPiece: words and punctuation, special tokens on request" {
    printf 'University of Paris, it is!  2014' >file
    run -0 pipe "tokenize -m '$golden/wordpiece.json' file | detokenize -m '$golden/wordpiece.json'"
    [ "$output" = "[CLS] university of paris, it is! 2014 [SEP]" ]
    run -0 pipe "tokenize -m '$golden/wordpiece.json' file | detokenize -s -m '$golden/wordpiece.json'"
    [ "$output" = "university of paris, it is! 2014" ]
}

@test "-0 ends documents; a second stream may follow" {
    printf a >a
    printf b >b
    pipe "{ tokenize -m bytes a b; tokenize -m bytes b; } | detokenize -0" | od -An -c | grep -q 'a  *\\0  *b  *\\0  *b  *\\0'
}

@test "errors: another tokenizer, an unknown id, no stream, an upstream program that died" {
    echo a >a
    run -65 --separate-stderr pipe "tokenize -m bytes a | detokenize -m '$golden/bpe.json'"
    [[ "$stderr" == "detokenize: the stream was made with another tokenizer ("* ]]
    run -1 --separate-stderr pipe "'$stream' tokens --vocab 100000 3 | detokenize -m '$golden/bpe.json'"
    [[ "$stderr" == "detokenize: document "*"is not in the vocabulary of "* ]]
    run -65 pipe "echo text | detokenize"
    run -65 pipe "tokenize -m bytes a | head -c 200 | detokenize"
    run -66 pipe "detokenize none"
    run -74 pipe "tokenize -m bytes a | detokenize >/dev/full"
}

@test "the stream's own directory is used only when nothing else is said" {
    pipe 'tokenize -m "$TREE/share/model" $TREE/share/samples/prose.txt' >"$BATS_TEST_TMPDIR/tokens"
    pipe 'detokenize' <"$BATS_TEST_TMPDIR/tokens" | cmp - "$TREE"/share/samples/prose.txt
    STATEPIPE_MODEL=$TREE/tests/golden/tokens/bert.json run pipe "detokenize <$BATS_TEST_TMPDIR/tokens"
    [ "$status" -ne 0 ]
    run pipe "detokenize -m bytes <$BATS_TEST_TMPDIR/tokens"
    [ "$status" -eq 65 ]
    [[ "$output" == *"made with another tokenizer ("*") than bytes ("* ]]
}
