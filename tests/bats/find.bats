load common

# fill with a model that finds answers in documents. One is trained here, in seconds, on lines of a letter and a
# number:
#     a=?__     the question: which number stands behind a? c never stands there
#     b 34
#     a 12
setup_file() {
    cd "$BATS_FILE_TMPDIR" || return
    cat >config.json <<'END'
{"model_type": "mamba", "hidden_size": 24, "num_hidden_layers": 2, "state_size": 8, "conv_kernel": 4,
 "intermediate_size": 48, "time_step_rank": 2, "vocab_size": 264, "eos_token_id": 0,
 "statepipe": {"format": 1, "tokenizer": "bytes", "delay": 2, "fill_template": "{query}\n{doc}",
  "heads": {"slot": {"type": "tag", "labels": ["O", "B-answer", "I-answer"]}}}}
END
    awk 'BEGIN { srand(1); for (i = 0; i < 16000; i++) {
            asked = substr("abc", 1 + int(rand() * 3), 1); first = substr("ab", 1 + int(rand() * 2), 1)
            doc = span = ""
            for (k = 0; k < 2; k++) {
                name = k == 0 ? first : first == "a" ? "b" : "a"
                at = 6 + 5 * k + 2
                if (name == asked) span = "[" at ", " at + 2 ", \"answer\"]"
                doc = doc name " " 10 + int(rand() * 90) "\\n"
            }
            printf "{\"text\": \"%s=?__\\n%s\", \"spans\": [%s]}\n", asked, doc, span } }' >lines.jsonl
    pipe "tokenize -m bytes --jsonl --pad 2 lines.jsonl | train --config config.json --batch 512 --lr 1e-2 \
        --steps 600 -j 1 -o model" 2>/dev/null
}

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    model=$BATS_FILE_TMPDIR/model
    printf 'b 34\na 12\n' >doc
}

fill() { "$STATEPIPE_BUILD/bin/fill" -m "$model" "$@"; }

@test "the answer is the stretch of the document that the question asks for, or unknown" {
    run -0 fill --doc doc -q 'a=?__' -q 'b=?__' -q 'c=?__' -n 1
    [ "$(cut -f 3 <<<"$output" | paste -sd ' ')" = "12 34 unknown" ]
    [ "$(awk '$2 > 0.9' <<<"$output" | wc -l)" = 3 ]
    run -0 fill --doc doc -q 'a=?__' -o filled
    [ "$output" = "a=12" ]
}

@test "answers are in order of p, each once, and their p is at most 1 together" {
    fill --doc doc -q 'a=?__' -n 50 >out
    [ "$(wc -l <out)" -gt 5 ]
    # "unknown" may stand second with more than the first has
    grep -v unknown out | cut -f 1 | sort -rg -c
    [ -z "$(cut -f 2 out | sort | uniq -d)" ]
    grep -q "unknown$" out
    awk '{ sum += $1 } END { exit !(sum > 0.99 && sum < 1.001) }' out
}

@test "jsonl: each line has its document, or that of --doc; they may be asked together or alone" {
    for i in 10 25 38 41 57 69 77 83 94; do
        printf '{"id": "%s", "doc": "b 34\\na %s\\n", "query": "a=?__"}\n' $i $i
    done >lines
    echo '{"id": "12", "query": "a=?__"}' >>lines
    fill --jsonl --doc doc -n 1 lines >together
    [ "$(cut -f 1 together)" = "$(cut -f 3 together)" ]
    while read -r line; do fill --jsonl --doc doc -n 1 <<<"$line"; done <lines | cmp - together
    fill --jsonl --doc doc -o jsonl lines | python3 -c '
import json, sys
for line in sys.stdin:
    d = json.loads(line)
    assert d["id"] == d["answers"][0]["text"] and d["answers"][0]["p"] > 0.9, d'
}

@test "the tags are those of the pipe, which reads question and document as one text" {
    printf 'a=?__\nb 34\na 12\n' >text
    pipe "tokenize -m $model text | embed -m $model | mamba-layer -m $model | head -m $model" >scores
    "$BATS_TEST_DIRNAME/stream.py" rows scores <scores | grep -v "^document" >rows
    run -0 python3 - <<'END'
import struct
rows = [struct.unpack("<3f", bytes.fromhex(line)) for line in open("rows")]
assert len(rows) == 18, len(rows)
first = max(range(len(rows)), key=lambda t: rows[t][1] - rows[t][0]) - 2
print(open("text").read()[first:first + 2])
END
    [ "$output" = 12 ]
}

@test "long documents, and bytes that are no text" {
    awk 'BEGIN { for (i = 0; i < 200000; i++) print "b 34" }' >long
    run -0 fill --doc long -q 'c=?__' -n 1
    run -65 --separate-stderr fill --doc <(printf 'a\0b') -q 'a=?__'
    [[ $stderr == *"binary, not text"* ]]
    printf 'b 34\na 12\xff\n' >invalid
    run -0 --separate-stderr fill --doc invalid -q 'b=?__' -n 1
    [[ $output == *34 ]]
    [ "$stderr" = "fill: invalid: invalid UTF-8 at byte 9, replaced (1 time in all); of another encoding? iconv -f latin1 -t utf-8 (UTF-16: -f utf-16)" ]
}

@test "an empty document says nothing: unknown, among others too" {
    printf ' \n\n' >blank
    for empty in blank /dev/null; do
        run -0 --separate-stderr fill --doc "$empty" -q 'a=?__' -q 'b=?__'
        [ "$output" = $'a=?__\t1.0000\tunknown\nb=?__\t1.0000\tunknown' ]
    done
    printf '{"doc": "%s", "query": "a=?__"}\n' 'b 34\na 12\n' '' 'b 34\na 56\n' ' ' >lines
    run -0 --separate-stderr fill --jsonl -n 1 lines
    [ "$(cut -f 1,3 <<<"$output")" = $'1\t12\n2\tunknown\n3\t56\n4\tunknown' ]
    [ -z "$stderr" ]
}

@test "a PDF is read as cv reads it" {
    make_pdf 'a 12' >p.pdf
    pdftotext -layout p.pdf text
    fill --doc text -q 'a=?__' >by_text
    run -0 --separate-stderr fill --doc p.pdf -q 'a=?__'
    [ "$output" = "$(cat by_text)" ]
    run -0 fill --doc - -q 'a=?__' <p.pdf
    [ "$output" = "$(cat by_text)" ]
    make_pdf '' >blank.pdf
    run -65 --separate-stderr fill --doc blank.pdf -q 'a=?__'
    [ "$stderr" = "fill: blank.pdf: no text in it; a scan? run ocrmypdf first" ]
    run -65 --separate-stderr fill p.pdf
    [ "$stderr" = "fill: p.pdf: the text is a PDF file, not text; pdftotext -layout FILE - first (--doc FILE does that)" ]
    echo '{"doc": "%PDF-1.4", "query": "a=?__"}' >lines
    run -65 --separate-stderr fill --jsonl lines
    [[ $stderr == "fill: 1: the document is a PDF file, not text; "* ]]
}

@test "refused: what only a language model can do" {
    run -65 --separate-stderr fill -q 'a=?__'
    [[ $stderr == *"no document: this model finds answers in one; give --doc FILE, or \"doc\" in the line"* ]]
    run -2 --separate-stderr fill -q 'a=?__' some.state
    [[ $stderr == *"finds answers in documents, behind the question: give --doc FILE, and no state"* ]]
    run -2 --separate-stderr fill -q 'a=?__' --load-state some.state
    [[ $stderr == *"give --doc FILE, and no state"* ]]
    run -2 --separate-stderr fill -q 'a=?__' --doc doc --choices 12,34
    [[ $stderr == *"--choices and --until need a language model"* ]]
    run -65 --separate-stderr fill -q 'a=?__ b=?__' --doc doc
    [[ $stderr == *"2 slots in the text: this model answers one at a time"* ]]
}

@test "a model that answers no questions may have one in its folder fill" {
    cp -r "$TREE/share/model" tagger
    rm -rf tagger/fill
    cp -r "$model" tagger/fill
    model=tagger run -0 fill --doc doc -q 'a=?__' -n 1
    [[ $output == *12 ]]
    STATEPIPE_MODEL=tagger run -0 "$STATEPIPE_BUILD/bin/fill" --doc doc -q 'a=?__' -n 1
    [[ $output == *12 ]]
    rm tagger/fill/model.safetensors
    model=tagger run -66 --separate-stderr fill --doc doc -q 'a=?__'
    [[ $stderr == *"tagger/fill has neither model.safetensors"* ]]
    rm -r tagger/fill
    model=tagger run -2 --separate-stderr fill --doc doc -q 'a=?__'
    [[ $stderr == *"tagger is no language model and finds no answers"* ]]
}

@test "a template with the question behind the document is no template for finding" {
    cp -r "$model" turned
    sed -i 's/"{query}[^"]*"/"{doc}{query}"/' turned/config.json
    model=turned
    run -65 --separate-stderr fill --doc doc -q 'a=?__'
    [[ $stderr == *"its {query} stands behind the {doc}"* ]]
}
