# mkresume: the same CVs for the same numbers, gold spans that are what they say.
load common

@test "mkresume writes as many documents as asked, each a JSON object" {
    run -0 pipe 'mkresume -n 7 | python3 -c "
import json, sys
docs = [json.loads(l) for l in sys.stdin]
assert len(docs) == 7, len(docs)
assert len({d[\"id\"] for d in docs}) == 7
assert all({\"id\", \"text\", \"spans\", \"education\", \"lang\", \"layout\"} == set(d) for d in docs)"'
}

@test "mkresume: spans are bytes of the text and agree with the records" {
    run -0 pipe 'mkresume -n 400 --split all | python3 -c "
import json, sys
n = 0
for line in sys.stdin:
    d = json.loads(line)
    raw = d[\"text\"].encode()
    for start, end, label, records in d[\"spans\"]:
        piece = raw[start:end].decode()
        assert piece and piece == piece.strip(\" \r\n\t\"), (d[\"id\"], piece)
        assert label in (\"institution\", \"degree\", \"year\") and records
        n += 1
    for r in d[\"education\"]:
        for v in r.values():
            assert v is None or raw[v[\"start\"]:v[\"end\"]].decode() == v[\"text\"]
assert n > 1000, n"'
}

@test "mkresume --slots: answers stand in the CV where they are said to, and the documents stay" {
    pipe 'mkresume -n 300 --split all --slots 5' >"$BATS_TEST_TMPDIR/asked"
    pipe 'mkresume -n 300 --split all' >"$BATS_TEST_TMPDIR/plain"
    python3 - "$BATS_TEST_TMPDIR" <<'P'
import collections, json, sys
kinds, unknown = collections.Counter(), 0
for line, plain in zip(open(sys.argv[1] + "/asked"), open(sys.argv[1] + "/plain")):
    d = json.loads(line)
    slots = d.pop("slots")
    assert d == json.loads(plain)
    assert len({q for q, *_ in slots}) == len(slots) <= 5
    for query, answers, kind, place in slots:
        assert query.count("?__") == 1 and "\n" not in query, query
        assert answers and all(answers) and len(set(answers)) == len(answers)
        kinds[kind] += 1
        unknown += place is None
        assert (place is None) == (answers[0] == "unknown"), (query, answers, place)
        if place:
            said = d["text"].encode()[place[0]:place[1]].decode().replace("\u00ad", "")
            assert answers[0] == " ".join(said.split()), (query, answers, said)
n = sum(kinds.values())
assert n > 1300 and len(kinds) == 13, kinds
assert 0.35 < kinds["role"] / n < 0.6 and 0.03 < unknown / n < 0.2, (kinds, unknown)
P
}

@test "mkresume --form: answers are labelled in the text, behind the CV or in it" {
    pipe 'mkresume -n 100 --slots 3 --form after' >"$BATS_TEST_TMPDIR/after"
    pipe 'mkresume -n 100 --slots 3 --form before' >"$BATS_TEST_TMPDIR/before"
    pipe 'mkresume -n 100 --slots 3' | python3 -c '
import json, sys
before = [json.loads(l) for l in open(sys.argv[1] + "/before")]
for plain, line in zip(sys.stdin, open(sys.argv[1] + "/after")):
    d, a = json.loads(plain), json.loads(line)
    wanted = d["text"] + "".join(f"\nQ: {q}\nA: {s[0]}\n" for q, s, *_ in d["slots"])
    assert a["text"] == wanted
    assert a["spans"][:len(d["spans"])] == d["spans"]
    raw = wanted.encode()
    assert [raw[s:e].decode() for s, e, label in a["spans"][len(d["spans"]):]] == \
        [s[0] + "\n" for _, s, *_ in d["slots"]]
    for k, (query, answers, kind, place) in enumerate(d["slots"]):
        b = before.pop(0)
        assert b["id"] == "%s-%d" % (d["id"], k) and b["slots"] == [d["slots"][k]]
        assert b["text"] == "Q: %s\n\n%s" % (query, d["text"])
        n = len(b["text"].encode()) - len(d["text"].encode())
        assert b["spans"] == ([[place[0] + n, place[1] + n, "answer"]] if place else [])
assert not before' "$BATS_TEST_TMPDIR"
}

@test "mkresume --form marked: the same as before, but for a mark behind what the question has too" {
    pipe 'mkresume -n 600 --slots 3 --form before' >"$BATS_TEST_TMPDIR/before"
    pipe 'mkresume -n 600 --slots 3 --form marked' | python3 -c '
import json, sys
marks = inside = 0
for plain, line in zip(open(sys.argv[1] + "/before"), sys.stdin):
    b, m = json.loads(plain), json.loads(line)
    assert m["text"].replace("\1", "") == b["text"]
    marks += m["text"].count("\1")
    for (s, e, _), (t, f, _) in zip(b["spans"], m["spans"], strict=True):
        said = m["text"].encode()[t:f].decode()
        inside += "\1" in said
        assert said.replace("\1", "") == b["text"].encode()[s:e].decode() and said[-1] != "\1"
assert marks > 500 and inside > 0, (marks, inside)' "$BATS_TEST_TMPDIR"
}

@test "mkresume is deterministic, and --skip enters the same series" {
    pipe 'mkresume -n 20 --seed 5' >"$BATS_TEST_TMPDIR/a"
    pipe 'LC_ALL=C.UTF-8 mkresume -n 20 --seed 5' | cmp - "$BATS_TEST_TMPDIR/a"
    pipe 'mkresume -n 5 --seed 5 --skip 15' | cmp - <(tail -n 5 "$BATS_TEST_TMPDIR/a")
    run ! cmp <(pipe 'mkresume -n 20 --seed 6') "$BATS_TEST_TMPDIR/a"
}

@test "mkresume writes the same on every machine" {
    # A change of the corpus changes this on purpose; put the new digest in.
    run -0 pipe 'mkresume -n 500 --seed 7 --split all --slots 3 | sha256sum'
    [ "$output" = "764c5302d961ce47a8c3bc47b5063f9f7395d55cdfc9e75c2474390e59c36a17  -" ]
}

@test "mkresume: training does not see the lines held out of the lists" {
    pipe 'mkresume -n 300 --split train' >"$BATS_TEST_TMPDIR/train"
    pipe 'mkresume -n 300 --split heldout' >"$BATS_TEST_TMPDIR/heldout"
    python3 - "$BATS_TEST_TMPDIR" "$TREE/share/corpus/universities.tsv" <<'P'
import json, sys
listed = {l.split("\t")[0] for l in open(sys.argv[2], encoding="utf8")}
seen = {}
for split in ("train", "heldout"):
    docs = map(json.loads, open(f"{sys.argv[1]}/{split}", encoding="utf8"))
    seen[split] = {r["institution"]["text"] for d in docs for r in d["education"]
                   if r["institution"]} & listed
assert len(seen["train"]) > 50 and len(seen["heldout"]) > 20, seen
known = open(sys.argv[2].replace("universities.tsv", "inst.rules"), encoding="utf8").read()
both = {n for n in seen["train"] & seen["heldout"] if n not in known}
assert len(both) <= 2, both  # a composed name may happen to be a listed one
P
}

@test "mkresume --layout takes one layout, and names an unknown one" {
    pipe 'mkresume -n 5 --layout prose' >"$BATS_TEST_TMPDIR/out"
    [ "$(grep -c '"layout": "prose"' "$BATS_TEST_TMPDIR/out")" = 5 ]
    run -2 --separate-stderr pipe 'mkresume --layout nonesuch'
    [ "$stderr" = "mkresume: document 0: no layout 'nonesuch': there is no rule doc.nonesuch" ]
}

corpus() { # a corpus of one file, on standard input
    mkdir -p "$BATS_TEST_TMPDIR/c"
    cat >"$BATS_TEST_TMPDIR/c/x.rules"
}

@test "mkresume: a mistake in the rules is named with file and line" {
    printf 'doc.a\n  {open\n' | corpus
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/c/x.rules:2: braces do not match" ]
    printf '  alone\n' | corpus
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/c/x.rules:1: an alternative before any rule" ]
}

@test "mkresume: rules without end are stopped" {
    printf 'region\n  US en\nrecords\n  1*\ncareer\n  0\nlayout\n  a\nnoise\n  1*\ndoc.a\n  {doc.a}\n' | corpus
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: document 0: rules nest over 64 deep" ]
}

@test "mkresume: no corpus, a bad option, an operand, a full disk" {
    run -66 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/none"
    [[ $stderr == *"no *.rules files there"* ]]
    run -2 pipe 'mkresume --split test'
    run -2 pipe 'mkresume extra'
    run -2 --separate-stderr pipe 'mkresume --form after'
    [[ $stderr == "mkresume: --form after: ask for questions with --slots N"* ]]
    run -74 pipe 'mkresume >/dev/full'
    run -0 pipe 'mkresume --help'
    [[ $output == *--split* ]]
}

@test "mkresume: two degrees of one institution are there in any layout" {
    for layout in linkedin europass indeed table prose latex jsonresume themes; do
        pipe "mkresume --layout $layout -n 150"
    done >"$BATS_TEST_TMPDIR/cvs"
    run -0 python3 - "$BATS_TEST_TMPDIR/cvs" <<'END'
import collections, json, sys
shared = collections.Counter()
for line in open(sys.argv[1], encoding="utf-8"):
    doc = json.loads(line)
    name = [r["institution"] and r["institution"]["text"] for r in doc["education"]]
    shared[doc["layout"]] += any(a and a == b for a, b in zip(name, name[1:]))
assert len(shared) == 8 and min(shared.values()) >= 3, shared
END
}
