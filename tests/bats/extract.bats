load common

setup() {
    scores="$BATS_TEST_DIRNAME/scores.py"
    cv='Jane {N-year:2020 – Present}: {B-degree:Ph.D.}, [{B-institution:University of X}](#)
{N-institution:ETH   Zürich}, {B-degree:M.Sc.} {B-year:2017-20}, {S-degree:BSc}'
}

@test "jsonl: text, byte spans, years as numbers, null for what is not there" {
    run -0 pipe "'$scores' '$cv' | extract"
    run -0 python3 - "$output" <<'END'
import json, sys
d = json.loads(sys.argv[1])
assert d["id"] == "doc0" and len(d["education"]) == 3
a, b, c = d["education"]
assert a["institution"]["text"] == "University of X"
assert a["year"]["text"] == "2020 – Present"
assert (a["year"]["start"], a["year"]["end"]) == (2020, "present")
assert a["year"]["span"] == [5, 21]
assert a["degree"]["span"] == [23, 28] and a["degree"]["text"] == "Ph.D."
assert b["institution"]["text"] == "ETH Zürich"
assert c["institution"] == b["institution"] and c["year"] is None
assert all(0.9 < a[f]["p"] <= 1 for f in ("institution", "degree", "year"))
assert abs(a["p"] - sum(a[f]["p"] for f in ("institution", "degree", "year")) / 3) < 2e-4
END
}

@test "delay: the tag of a token is read so many rows later" {
    run -0 pipe "cmp <('$scores' --delay 5 '$cv' | extract) <('$scores' '$cv' | extract)"
}

@test "passes: only the last one counts" {
    run -0 pipe "cmp <('$scores' --passes 3 '$cv' | extract) <('$scores' '$cv' | extract)"
}

@test "one document's records do not leak into the next" {
    run -0 pipe "'$scores' '$cv' nothing '{N-degree:BSc}' | extract -o tsv | cut -f 1,3"
    [ "$output" = $'doc0\tPh.D.\ndoc0\tM.Sc.\ndoc0\tBSc\ndoc2\tBSc' ]
}

@test "tsv with a header line" {
    run -0 pipe "'$scores' '{N-institution:A  B} {B-degree:M.A.} {B-year:2011-14}' | extract -o tsv -H"
    [ "${lines[0]}" = $'id\tinstitution\tdegree\tyear\tstart\tend\tp_institution\tp_degree\tp_year\tp' ]
    [[ "${lines[1]}" == $'doc0\tA B\tM.A.\t2011-14\t2011\t2014\t0.99'* ]]
}

@test "csv quotes commas and quotes" {
    run -0 pipe "'$scores' '{N-institution:U of \"X\", Y}' | extract -o csv"
    [[ "$output" == 'doc0,"U of ""X"", Y",,,,,0.99'* ]]
}

@test "html escapes the document and marks the spans" {
    run -0 pipe "'$scores' '<b>&\"{N-degree:B.A.}</b>' | extract -o html"
    [[ "$output" == *'&lt;b&gt;&amp;&quot;<mark class="degree"'*'>B.A.</mark>&lt;/b&gt;'* ]]
    [ "${lines[0]}" = '<!DOCTYPE html>' ]
    [ "${lines[-1]}" = '</html>' ]
}

@test "ansi shows control characters instead of sending them to the terminal" {
    run -0 pipe "'$scores' \$'a\\e[2Jb {N-degree:B.A.}' | extract -o ansi"
    [[ "$output" == *$'a␛[2Jb \e[1;32mB.A.\e[0m'* ]]
}

@test "jsonl escapes, and replaces what is not UTF-8" {
    export TEXT=$'{N-institution:A "q" \\ \xff B}'
    run -0 pipe "'$scores' \"\$TEXT\" | extract"
    [[ "$output" == *'"text": "A \"q\" \\ '$'\xef\xbf\xbd'' B"'* ]]
}

@test "table: p, years as numbers, a line for documents without records" {
    run -0 pipe "'$scores' '$cv' nothing | extract -o table"
    [ "${lines[1]}" = '  1.00  2020-present  Ph.D.  University of X' ]
    [ "${lines[4]}" = 'doc1: no records' ]
}

@test "msgpack: a stream of records that passes on its documents" {
    run -0 pipe "'$scores' '$cv' | extract -o msgpack | tr -c '[:print:]' '\n' | grep -c RECORD"
    [ "$output" = 3 ]
    run -0 pipe "'$scores' '$cv' | extract -o msgpack | inspect"
    [[ "$output" == *records* ]]
}

@test "--min-p leaves out what is less sure" {
    run -0 pipe "'$scores' '$cv' | extract --min-p 0.99999"
    [ "$output" = '{"id": "doc0", "education": []}' ]
}

@test "--record-p leaves out records that are unsure on the whole" {
    run -0 pipe "'$scores' 'word {N-degree:BSc}' | extract --recall 0 --record-p 0.9 -o tsv | cut -f 3"
    [ "$output" = BSc ]
    run -0 pipe "'$scores' 'word {N-degree:BSc}' | extract --recall 0 --record-p 1 -o tsv"
    [ -z "$output" ]
    pair=$'{N-degree:BSc}\n\n\n{N-degree:MSc} {B-institution:ETH}'; export pair
    run -0 pipe "'$scores' --doubt degree=0.2,institution+degree=0.7 \"\$pair\" | extract -o tsv | cut -f 3,10"
    [[ "$output" =~ ^BSc$'\t'0.79..$ ]]
    run -0 pipe "'$scores' --doubt institution+degree=0.6 \"\$pair\" | extract --record-p 0.3 -o tsv | cut -f 3,10"
    [[ "$output" == $'BSc\t0.99'*$'\nMSc\t0.39'* ]]
    run -0 pipe "'$scores' --calibration 0.5 0.25 'word {N-degree:BSc}' | extract --recall 0 -o tsv | cut -f 3,10"
    raw=$(pipe "'$scores' 'word {N-degree:BSc}' | extract --recall 0 -o tsv | cut -f 10")
    run -0 python3 -c 'import math, sys; raw, p = map(float, sys.argv[1:]); print(abs(p - 1 / (1 + math.exp(-0.5 * math.log(raw / (1 - raw)) - 0.25))) < 0.02)' "$raw" "${output#*$'\t'}"
    [ "$output" = True ]
    run -2 --separate-stderr pipe "extract --record-p 2"
    [ "$stderr" = "extract: --record-p: '2' is not a number from 0 to 1" ]
}

@test "--recall favours fields by so much, and does not change what they are sure of" {
    # The mark's tag scores 9, none 0; what it takes to lose against that is not in its p.
    run -0 pipe "'$scores' 'word {N-degree:BSc}' | extract --recall -8 -o tsv | cut -f 3,8"
    [[ "$output" == $'BSc\t0.99'* ]]
    run -0 pipe "'$scores' 'word {N-degree:BSc}' | extract --recall -10 -o tsv"
    [ -z "$output" ]
    run -2 pipe "extract --recall x"
}

@test "a class head: classes, best first" {
    run -0 pipe "'$scores' --type class 'a b' | extract"
    [ "$output" = '{"id": "doc0", "class": [{"label": "cv", "p": 0.9999}, {"label": "job", "p": 0.0001}]}' ]
    run -0 pipe "'$scores' --type class 'a b' | extract -o tsv -H"
    [ "$output" = $'id\tlabel\tp\ndoc0\tcv\t0.9999\ndoc0\tjob\t0.0001' ]
    run -2 pipe "'$scores' --type class 'a b' | extract -o html"
    [[ "$output" == "extract: -o html cannot show classes"* ]]
}

@test "surprisal: a colour for each level, the legend, the mean over what is known" {
    run -0 pipe "'$scores' --bits=-1,0.5,1,3.9,20 'one two three four five' | extract"
    c=$'\e[38;5;16;48;5;' r=$'\e[0m'
    [ "${lines[0]}" = "bits of surprise: 0-1 ${c}144m 1-2 $r${c}143m 2-4 $r${c}178m 4-6 $r${c}214m 6-9 $r${c}208m 9-12 $r${c}202m 12-16 $r${c}196m 16 and more $r" ]
    [ "${lines[1]}" = "==> doc0 <== 6.35 bits a token, 1.10 a byte; 4 tokens, perplexity 81.57" ]
    [ "${lines[2]}" = "one two${c}144m three$r${c}143m four$r${c}196m five$r" ]
    # Colours end with the line.
    run -0 pipe "'$scores' --bits 9 \$'a\nb' | extract -o ansi"
    [ "${lines[2]}" = "${c}208ma$r" ]
    run -0 pipe "'$scores' --bits 9,9 \$'a\n\n b' | extract -o ansi"
    [[ "$output" == *"${c}208ma$r"$'\n\n'"${c}208m b$r" ]]
    run -0 pipe "'$scores' --bits=-1 one | extract -o ansi"
    [[ "$output" == *"==> doc0 <== no token with something before it"$'\n'"one" ]]
}

@test "surprisal: a page that stands alone, escaped, for light and dark" {
    run -0 pipe "'$scores' --bits=-1,0.25,7 '<b>&\" x </b>' | extract -o html"
    [ "${lines[0]}" = '<!DOCTYPE html>' ]
    [ "${lines[-1]}" = '</html>' ]
    [[ "$output" == *'<span class="s0" title="nothing before it">&lt;b&gt;&amp;&quot;</span>'* ]]
    [[ "$output" == *'<span class="s0" title="0.25 bits, p 0.84"> x</span>'* ]]
    [[ "$output" == *'<span class="s4" title="7.00 bits, p 0.0078"> &lt;/b&gt;</span>'* ]]
    [[ "$output" == *'prefers-color-scheme: dark'* ]]
    [[ "$output" != *http* && "$output" != *'src='* ]]
    [ "$(grep -c 'class="legend"' <<<"$output")" = 1 ]
}

@test "surprisal: tokens that share a character are one; the page's text is the document" {
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny text=$BATS_TEST_TMPDIR/text
    printf 'caf\xc3\xa9 \xf0\x9f\x98\x80 <a>\n\n  \xe6\x97\xa5\xe6\x9c\xac' >"$text"
    pipe "tokenize '$text' | embed | mamba-layer | head --head lm --surprisal >'$BATS_TEST_TMPDIR/s'"
    pipe "extract -o html '$BATS_TEST_TMPDIR/s' >'$BATS_TEST_TMPDIR/page'"
    python3 - "$text" "$BATS_TEST_TMPDIR/page" <<'END'
import html, re, sys
text, page = (open(f, encoding="utf-8").read() for f in sys.argv[1:])
body = page[page.index("<pre>\n") + 6:page.index("</pre>")]
assert html.unescape(re.sub("<[^>]*>", "", body)) == text + "\n"
pieces = re.findall('<span class="s\\d" title="([^"]*)">([^<]*)</span>', body)
assert [html.unescape(p) for _, p in pieces] == list(text)
tokens = [int((re.search(r"(\d+) tokens", t) or [0, 1])[1]) for t, _ in pieces]
assert tokens == [len(c.encode()) for c in text], tokens
END
    # A chunk may end inside a character, and the text in a byte that is none.
    printf 'a\xc3\xa9\xff' >"$text"
    run -0 pipe "tokenize --chunk 2 '$text' 2>/dev/null | embed | mamba-layer |
        head --head lm --surprisal | extract -o html | grep -c 'é</span>.*�</span>'"
    [ "$output" = 1 ]
}

@test "surprisal: what came after a state says so, and is another" {
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR"
    printf 'a text that comes first' >first
    printf ' and another' >second
    pipe "tokenize first | embed | mamba-layer --dump-state s >/dev/null"
    pipe "tokenize second | embed >hidden"
    pipe "{ mamba-layer hidden; mamba-layer --load-state s hidden; } |
        head --head lm --surprisal >both"
    run -0 pipe "extract both"
    [ "$(grep -c '^==> second <== ' <<<"$output")" = 2 ]
    [[ "${lines[1]}" == "==> second <== "*"; 11 tokens, perplexity "* && "${lines[1]}" != *state* ]]
    [[ "${lines[3]}" == "==> second <== "*"; 12 tokens, perplexity "*"; after a state of 23 tokens" ]]
    run -0 pipe "extract -o html both | grep -c 'after a state of 23 tokens</p>'"
    [ "$output" = 1 ]
    # In front of records a state goes on with the stream.
    run -0 pipe "cat s hidden | mamba-layer | head | extract -o msgpack | tr -c '[:print:]' '\n' | grep -c STATE"
    [ "$output" = 1 ]
}

@test "choices: lines of each text, the best by each measure" {
    export STATEPIPE_MODEL=$TREE/tests/golden/choices
    cd "$BATS_TEST_TMPDIR"
    echo '{"id": "q \"1\"", "text": "The quick brown fox jumps over the", "choices": [" lazy, \"dog\"", " moon\nlight", "he"]}
        {"id": 2, "text": "one", "choices": [" two"]}' >items
    pipe "tokenize --jsonl items | embed | mamba-layer | head --head lm --choices >choices"
    pipe "extract choices >jsonl"
    python3 - <<'END'
import json
a, b = map(json.loads, open("jsonl"))
assert a["id"] == 'q "1"' and [c["text"] for c in a["choices"]] == [' lazy, "dog"', " moon\nlight", "he"]
assert [c["greedy"] for c in a["choices"]] == [False, False, True]
for d in a, b:
    for c in d["choices"]:
        assert abs(c["per_token"] - c["loglik"] / c["tokens"]) < 1e-6
        assert abs(c["per_byte"] - c["loglik"] / len(c["text"])) < 1e-6
    for best, key in ("best", "loglik"), ("best_per_token", "per_token"), ("best_per_byte", "per_byte"):
        values = [c[key] for c in d["choices"]]
        assert d[best] == values.index(max(values))
assert a["best"] == 2 and len(b["choices"]) == 1
END
    run -0 pipe "extract -o tsv -H choices"
    [ "${lines[0]}" = $'id\tchoice\ttext\tloglik\tper_token\tper_byte\ttokens\tgreedy' ]
    [ "${#lines[@]}" = 5 ]
    [[ "${lines[3]}" == $'q "1"\t2\the\t-1.39'*$'\t1\t1' ]]
    run -0 pipe "extract -o csv choices"
    [[ "${lines[0]}" == '"q ""1""",0,"lazy, ""dog""",-'* ]]
    run -0 pipe "extract -o table choices"
    [[ "${lines[3]}" == "*     -1.39"*"greedy  he" ]]
    # Where one of them is lost, nothing is said of the others.
    run -1 --separate-stderr pipe "extract --max-doc 5 choices"
    [[ "$output" == '{"id": "2", '* && "${#lines[@]}" = 1 ]]
}

@test "formats that cannot show what the head gives: exit 2" {
    export STATEPIPE_MODEL=$TREE/tests/golden/choices
    for format in jsonl tsv csv table msgpack; do
        run -2 --separate-stderr pipe "'$scores' --bits 1 'a b' | extract -o $format"
        [ "$stderr" = "extract: -o $format cannot show surprisal; use ansi or html" ]
    done
    for format in html ansi msgpack; do
        run -2 --separate-stderr pipe "echo '{\"text\": \"a\", \"choices\": [\"b\"]}' | tokenize --jsonl | embed | mamba-layer |
            head --head lm --choices | extract -o $format"
        [ "$stderr" = "extract: -o $format cannot show choices; use jsonl, tsv, csv or table" ]
    done
}

@test "a language model's scores are refused with what to do" {
    run -65 pipe "'$scores' --type lm 'a b' | extract"
    [[ "$output" == *"language model head 'lm'"*"head --head NAME"* ]]
}

@test "a document that failed upstream is dropped; exit 1" {
    run -1 --separate-stderr pipe "'$scores' --err '$cv' '{N-degree:BSc}' | extract -o tsv | cut -f 1,3"
    [ "$output" = $'doc1\tBSc' ]
}

@test "a document longer than --max-doc fails alone, with its name" {
    run -1 --separate-stderr pipe "'$scores' 'long long long' '{N-degree:BSc}' | extract --max-doc 10"
    [[ "$output" == '{"id": "doc1"'* ]]
    [ "${#lines[@]}" = 1 ]
    [[ "$stderr" == "extract: document 'doc0': its text is longer than 10 bytes"* ]]
}

@test "a stream cut off: what is complete is written; exit 65" {
    run -65 --separate-stderr pipe "'$scores' --cut '$cv' | extract -o tsv | wc -l"
    [ "$output" = 3 ]
    [[ "$stderr" == *"ends in the middle"* ]]
}

@test "no stream: empty, text and binary input exit 65 with a hint" {
    for input in /dev/null "$BATS_TEST_FILENAME" /bin/true; do
        run -65 --separate-stderr pipe "extract <'$input'"
        [ -z "$output" ]
        [[ "$stderr" == "extract: standard input "* ]]
    done
}

@test "operands: files one after another, - is standard input, a missing one exits 66" {
    pipe "'$scores' '{N-degree:BSc}'" >"$BATS_TEST_TMPDIR/a"
    run -0 pipe "extract -o tsv '$BATS_TEST_TMPDIR/a' - <'$BATS_TEST_TMPDIR/a' | wc -l"
    [ "$output" = 2 ]
    run -66 pipe "extract '$BATS_TEST_TMPDIR/none'"
    [[ "$output" == "extract: cannot open $BATS_TEST_TMPDIR/none: "* ]]
}

@test "records of a document are written before the next one is waited for" {
    marker=$BATS_TEST_TMPDIR/late
    run -65 pipe "{ '$scores' --cut '{N-degree:BSc}'; sleep 1; touch '$marker'; } | extract -o tsv |
        { read -r line; [ ! -e '$marker' ] && echo \"early: \$line\"; }"
    [[ "$output" == "early: doc0"*BSc* ]]
}

@test "a full disk is noticed: exit 74" {
    run -74 pipe "'$scores' '$cv' | extract >/dev/full"
    [[ "$output" == "extract: writing standard output: No space left on device" ]]
    run -74 pipe "'$scores' '$cv' | extract -o msgpack >/dev/full"
}

@test "a closed pipe ends it quietly" {
    run -141 --separate-stderr pipe "yes '{N-degree:BSc}' | sed 3000q | tr '\n' '\0' |
        xargs -0 '$scores' | extract -o html | true"
    [ -z "$stderr" ]
}

@test "usage errors exit 2; --help and --version exit 0" {
    run -2 pipe "extract --nonsense"
    run -2 pipe "extract -o xml"
    run -0 pipe "extract --help"
    [[ "$output" == *"-o, --output"*"Exit status:"* ]]
    [ "${#lines[@]}" -le 24 ]
    run -0 pipe "extract --version"
    [[ "$output" == "extract (statepipe) "* ]]
}

@test "at a terminal: a table, and no waiting for a stream to be typed" {
    pipe "'$scores' '{N-degree:BSc}'" >"$BATS_TEST_TMPDIR/a"
    run -0 script -qec "$STATEPIPE_BUILD/bin/extract $BATS_TEST_TMPDIR/a" /dev/null
    [ "$output" = $'doc0:\r\n  1.00  -  BSc  -\r' ]
    run -2 script -qec "$STATEPIPE_BUILD/bin/extract -o msgpack $BATS_TEST_TMPDIR/a" /dev/null
    for name in embed mamba-layer head extract inspect; do
        run -2 script -qec "$STATEPIPE_BUILD/bin/$name >/dev/null" /dev/null
        [[ "$output" == "$name: standard input is a terminal; pipe a stream"* ]]
    done
}
