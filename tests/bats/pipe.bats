load common

# The whole pipe with a tiny model of random weights and bytes for tokens: what matters here is what
# the programs promise each other, not what the records say.
setup() {
    export STATEPIPE_MODEL=$TREE/tests/golden/tiny
    cd "$BATS_TEST_TMPDIR" || return
    printf 'Jane Doe\n2014 - 2018: B.Sc., University of X\n' >a.txt
    printf 'John Roe\nM.A. (ÉTH Zürich), since 2019\n' >b.txt
    : >empty.txt
    rest='embed | mamba-layer | head | extract'
}

# Runs a program and notes its largest resident set in MiB.
write_peak() {
    cat >peak.py <<'END'
import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as f:
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024, file=f)
sys.exit(status)
END
}

@test "a text gives one line of JSON, whose spans are slices of it" {
    run -0 pipe "tokenize a.txt b.txt | $rest >out"
    run -0 python3 - <<'END'
import json
lines = [json.loads(l) for l in open("out", encoding="utf-8")]
assert [l["id"] for l in lines] == ["a.txt", "b.txt"]
n = 0
for l in lines:
    source = open(l["id"], "rb").read()
    for e in l["education"]:
        assert list(e) == ["institution", "degree", "year", "p"]
        assert 0.35 <= e.pop("p") <= 1
        for f in filter(None, e.values()):
            a, b = f["span"]
            assert " ".join(source[a:b].decode("utf-8", "replace").split()) == f["text"]
            assert 0 < f["p"] <= 1
            n += 1
assert n > 5
END
}

@test "an empty document has no records, and no document is no line" {
    run -0 pipe "tokenize empty.txt | $rest"
    [ "$output" = '{"id": "empty.txt", "education": []}' ]
    run -0 pipe "tokenize --lines empty.txt | $rest"
    [ -z "$output" ]
}

@test "documents come out in order, each as if it had come alone" {
    pipe "tokenize a.txt empty.txt b.txt a.txt | $rest >together"
    for f in a.txt empty.txt b.txt a.txt; do pipe "tokenize $f | $rest"; done >apart
    cmp together apart
}

@test "--lines: a document per line" {
    run -0 pipe "seq 40 | tokenize --lines | $rest"
    [ "${#lines[@]}" = 40 ]
}

@test "neither threads nor the cut into reads change a byte" {
    pipe "cat a.txt b.txt a.txt b.txt | tokenize | embed | mamba-layer -j 1 | head -j 1 | extract >one"
    pipe "{ for i in 1 2; do for f in a.txt b.txt; do dd if=\$f bs=7 status=none; done; done; } |
        tokenize | embed | mamba-layer -j 2 | head -j 2 | extract >two"
    cmp one two
}

@test "layers split over two processes give the same bytes" {
    pipe "tokenize a.txt b.txt | $rest >whole"
    pipe "tokenize a.txt b.txt | embed | mamba-layer -l 0 | mamba-layer -l 1 | head | extract >split"
    cmp whole split
}

@test "cat of two streams is a stream" {
    for f in a b; do pipe "tokenize $f.txt | embed | mamba-layer | head >$f.scores"; done
    pipe "cat a.scores b.scores | extract >joined"
    pipe "extract a.scores b.scores >operands"
    pipe "tokenize a.txt b.txt | $rest >whole"
    cmp joined whole
    cmp operands whole
}

@test "records as a stream reach inspect" {
    run -0 pipe "tokenize a.txt | embed | mamba-layer | head | extract -o msgpack | inspect"
    [[ "$output" == *'content="records"'*'DOC '*'RECORD '*'END '* ]]
}

@test "only the program that fails speaks, and all end with its status" {
    run -66 --separate-stderr pipe "tokenize none.txt | $rest"
    [ -z "$output" ]
    [ "$stderr" = "tokenize: cannot open none.txt: No such file or directory" ]
    run -66 --separate-stderr bash -c "PATH=$STATEPIPE_BUILD/bin:\$PATH; tokenize none.txt | $rest"
    [[ "$stderr" != *$'\n'* ]]
    run -66 --separate-stderr pipe "tokenize a.txt | embed | mamba-layer -m none | head | extract"
    [ "${#stderr_lines[@]}" = 1 ]
    [[ "$stderr" == "mamba-layer: "* ]]
}

@test "programs in a wrong order, or one left out: 65 and what to do" {
    run -65 --separate-stderr pipe "tokenize a.txt | mamba-layer | head | extract"
    [[ "$stderr" == "mamba-layer: mamba-layer reads a stream of hidden, but tokenize wrote one of tokens"* ]]
    run -65 --separate-stderr pipe "tokenize a.txt | embed | head | extract"
    [[ "$stderr" == "head: "*"mamba-layer missing"* ]]
    run -65 --separate-stderr pipe "extract <a.txt"
    [[ "$stderr" == *"looks like text: run "* ]]
}

@test "an upstream program that is killed: 65 without pipefail, and no record of the half document" {
    pipe "tokenize a.txt b.txt | embed | mamba-layer | head >scores"
    size=$(stat -c %s scores)
    for part in 3 2; do
        dd if=scores of=cut bs=1 count=$((size - size / part)) status=none
        run -65 --separate-stderr pipe "extract <cut"
        [ "${#lines[@]}" -le 1 ]
        [ "${#stderr_lines[@]}" = 1 ]
    done
    # Killed by hand, while it waits for the rest of a stream.
    pipe "tokenize a.txt b.txt | embed >hidden"
    mkfifo in
    exec 9<>in
    dd if=hidden bs=1 count=$(($(stat -c %s hidden) / 2)) status=none >&9
    run -65 --separate-stderr bash -c "PATH=$STATEPIPE_BUILD/bin:\$PATH
        (mamba-layer <in & sleep 0.5; kill -9 \$!) | head | extract"
    exec 9>&-
}

@test "a closed downstream ends every program quietly" {
    for line in 'tokenize --lines' 'tokenize --lines | embed' 'tokenize --lines | embed | mamba-layer'; do
        run --separate-stderr bash -c "PATH=$STATEPIPE_BUILD/bin:\$PATH; yes a b c | $line | true"
        [ -z "$stderr" ]
    done
    run --separate-stderr bash -c \
        "PATH=$STATEPIPE_BUILD/bin:\$PATH; yes a b c | tokenize --lines | $rest | sed 3q"
    [ "${#lines[@]}" = 3 ]
    [ -z "$stderr" ]
}

@test "a full disk at the end: 74 there, one message" {
    run -74 --separate-stderr pipe "tokenize a.txt | $rest >/dev/full"
    [ "$stderr" = "extract: writing standard output: No space left on device" ]
}

@test "memory up to head does not grow with the document" {
    needs_plain_memory
    write_peak
    yes 'B.Sc. of X, 2014 and more of the same ' | dd bs=1 count=200000 iflag=fullblock status=none >long.txt
    pipe "python3 peak.py 1 tokenize long.txt | python3 peak.py 2 embed |
        python3 peak.py 3 mamba-layer | python3 peak.py 4 head | extract -o tsv | wc -l"
    # Held, its hidden states would be 25 MiB; python itself is some 12.
    for stage in 1 2 3 4; do
        echo "stage $stage: $(cat $stage) MiB"
        [ "$(cat $stage)" -lt 28 ]
    done
}

@test "the shipped model finds the records of the sample CVs, in texts and in a PDF" {
    export STATEPIPE_MODEL=$TREE/share/model
    cp "$TREE"/share/samples/{jane-doe,lebenslauf,no-education}.txt "$TREE"/share/samples/two-column.pdf .
    run -0 pipe "tokenize jane-doe.txt lebenslauf.txt no-education.txt | $rest -o tsv | cut -f 2,5,6"
    [ "${lines[0]}" = $'University of Wisconsin-Madison\t2012\t2014' ]
    [ "${lines[1]}" = $'Carroll University\t2008\t2012' ]
    [[ "$output" == *$'Universität Stuttgart\t2015\t2018'*$'Hochschule Esslingen\t2011\t2015'* ]]
    [ "${#lines[@]}" = 5 ]
    command -v pdftotext || skip "no pdftotext here"
    run -0 pipe "statepipe cv -o tsv two-column.pdf | cut -f 2,5,6"
    [[ "$output" == *$'Delft University of Technology\t2014\t2016'* ]]
    [[ "$output" == *$'Universitat Politecnica de Valencia\t2009\t2013'* ]]
}

@test "binary input: invalid bytes are reported and replaced, the pipe goes on" {
    printf 'a\377b\000c \303' >binary
    run -0 --separate-stderr pipe "tokenize binary | $rest"
    [[ "$output" == '{"id": "binary", "education": ['* ]]
}

@test "every output format of the whole pipe is well formed" {
    printf '<b>"x", & y</b>\n\033[2J\n' >>a.txt
    pipe "tokenize a.txt b.txt | embed | mamba-layer | head >scores"
    pipe "extract -o jsonl scores >out.jsonl; extract -o csv -H scores >out.csv
        extract -o tsv -H scores >out.tsv; extract -o html scores >out.html
        extract -o ansi scores >out.ansi"
    python3 - <<'END'
import csv, json
from html.parser import HTMLParser

n = sum(len(json.loads(l)["education"]) for l in open("out.jsonl", encoding="utf-8"))
rows = list(csv.reader(open("out.csv", newline="", encoding="utf-8")))
assert len(rows) == n + 1 and {len(r) for r in rows} == {10}
rows = [l.rstrip("\n").split("\t") for l in open("out.tsv", encoding="utf-8")]
assert len(rows) == n + 1 and {len(r) for r in rows} == {10}

class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.stack, self.text = [], ""
    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.stack.append(tag)
    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
    def handle_data(self, data):
        if "pre" in self.stack:
            self.text += data

page = Page()
page.feed(open("out.html", encoding="utf-8").read())
page.close()
assert not page.stack
assert '<b>"x", & y</b>' in page.text and "\033" not in page.text
ansi = open("out.ansi", encoding="utf-8").read()
assert "\033[2J" not in ansi
END
}
