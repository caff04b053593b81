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
    for query, answers, kind, places in slots:
        assert query.count("?__") == 1 and "\n" not in query, query
        assert answers and all(answers) and len(set(answers)) == len(answers)
        kinds[kind] += 1
        unknown += not places
        assert (not places) == (answers == ["unknown"]), (query, answers, places)
        said = [d["text"].encode()[s:e].decode().replace("\u00ad", "") for s, e in places]
        said = [" ".join(text.split()) for text in said] or ["unknown"]
        assert said[0] == answers[0] and set(said) == set(answers), (query, answers, said)
n = sum(kinds.values())
assert n > 1300 and len(kinds) > 16, kinds # of 21, some of them rare
assert 0.35 < kinds["role"] / n < 0.6 and 0.12 < unknown / n < 0.23, (kinds, unknown)
P
}

@test "mkresume --slots: questions read well, and some have no answer" {
    run -0 pipe 'mkresume -n 3000 --seed 2 --slots 4 | python3 -c "
import collections, json, re, sys
n, none, several, lang = (collections.Counter() for _ in range(4))
for line in sys.stdin:
    d = json.loads(line)
    for query, answers, kind, places in d[\"slots\"]:
        n[kind] += 1
        none[kind] += not places
        several[kind] += len(answers) > 1
        lang[d[\"lang\"]] += not re.search(r\"[(][a-z ]+[)]|\\b(is|was|the|of|at|has|in|from|as|an?|and)\\b\", query)
        assert \"  \" not in query, query
        assert not re.search(r\"\\ba (M|MS|S|F|LL|H)[.]|\\ba (MBA|MSc|MFA|LLB|A\\w*)\\b\", query), query
        years = re.search(r\"(\\d{4}) (?:to|until|and) (\\d{4})\", query)
        assert not years or years.group(1) < years.group(2), query
total = sum(n.values())
assert len(n) == 21, n
assert 0.13 < sum(none.values()) / total < 0.22, none
for kind in (\"role\", \"employer\", \"inst\", \"degree\", \"year\", \"field\", \"job\"):
    assert 0.005 * n[kind] < none[kind] < 0.25 * n[kind], (kind, n, none)
assert none[\"student\"] < 0.4 * n[\"student\"] and n[\"student\"] > 0.01 * total, (n, none)
assert several[\"inst\"] > 0.05 * n[\"inst\"] and several[\"degree\"] > 0.02 * n[\"degree\"], several
for l in (\"da\", \"nb\", \"fi\", \"cs\", \"tr\", \"ro\", \"hu\", \"hr\", \"id\", \"ru\"):
    assert lang[l] > 5, (l, lang)"'
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
    for k, (query, answers, kind, places) in enumerate(d["slots"]):
        b = before.pop(0)
        assert b["id"] == "%s-%d" % (d["id"], k) and b["slots"] == [d["slots"][k]]
        assert b["text"] == "Q: %s\n\n%s" % (query, d["text"])
        n = len(b["text"].encode()) - len(d["text"].encode())
        assert b["spans"] == [[start + n, end + n, "answer"] for start, end in places]
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
    [ "$output" = "56d10b2c3b564fb7a372b49607d9aa7c22dd520ec7f5701510c3d6b367e53c6a  -" ]
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

@test "mkresume: training does not see the countries held out" {
    pipe 'mkresume -n 4000 --split train' >"$BATS_TEST_TMPDIR/train"
    pipe 'mkresume -n 500 --split heldout' >"$BATS_TEST_TMPDIR/heldout"
    python3 - "$BATS_TEST_TMPDIR" "$TREE/share/corpus/universities.tsv" <<'P'
import collections, json, sys
where = collections.defaultdict(set)
for line in open(sys.argv[2], encoding="utf8"):
    name, country = line.rstrip("\n").split("\t")[:2]
    where[name.lower()].add(country)
away = {name for name, countries in where.items() if countries <= {"KR", "EG"}}
n = {}
for split in ("train", "heldout"):
    docs = map(json.loads, open(f"{sys.argv[1]}/{split}", encoding="utf8"))
    n[split] = sum(" ".join(r["institution"]["text"].lower().split()) in away
                   for d in docs for r in d["education"] if r["institution"])
# a page says its own names now and then
assert n["train"] <= 4 and n["heldout"] > 40, n
P
}

@test "mkresume --layout takes one layout, and names an unknown one" {
    pipe 'mkresume -n 5 --layout prose' >"$BATS_TEST_TMPDIR/out"
    [ "$(grep -c '"layout": "prose"' "$BATS_TEST_TMPDIR/out")" = 5 ]
    run -2 --separate-stderr pipe 'mkresume --layout nonesuch'
    [[ $stderr == "mkresume: document 0: no layout 'nonesuch': there is no rule doc.nonesuch; to list all: grep -rEh '^(doc[.]|=== )' "* ]]
}

corpus() { # a corpus of one file, on standard input
    mkdir -p "$BATS_TEST_TMPDIR/c"
    cat >"$BATS_TEST_TMPDIR/c/x.rules"
}

refused() { # RULES MESSAGE: as printf writes the rules; the message behind the corpus's folder
    # shellcheck disable=SC2059
    printf "$1" | corpus
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/c/$2" ]
}

@test "mkresume: a mistake in the rules is named with file and line" {
    refused 'doc.a\n  {open\n' 'x.rules:2: braces do not match'
    refused '  alone\n' 'x.rules:1: an alternative before any rule'
    # Names that lead nowhere, though nothing draws them; of one region is enough, and text in a
    # list is none
    printf '{nowhere}\n' >"$BATS_TEST_TMPDIR/c/list.txt"
    refused 'l < list.txt\nb.US\n  {l}\n\nnever\n  {?10 {b}} \\{x\\} {%%upper {a|{Nick}}}\n' \
        'x.rules:6: there is no rule {Nick}'
    refused 'never\n  a\n  {%%uper a}\n' 'x.rules:3: there is no function {%uper a}'
}

@test "mkresume: a page stands for many, with its own columns and years" {
    mkdir -p "$BATS_TEST_TMPDIR/p"
    cp "$TREE"/share/corpus/* "$BATS_TEST_TMPDIR/p/"
    rm "$BATS_TEST_TMPDIR"/p/*.pages
    printf '%s\n' '=== two-schools DE en master+bachelor' >"$BATS_TEST_TMPDIR/p/x.pages"
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/p"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/p/x.pages:1: there is no level {master+bachelor}" ]
    printf '%s\n' '=== leeds UK en master' >"$BATS_TEST_TMPDIR/p/x.pages"
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/p"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/p/x.pages:1: there is no university of the region {UK}" ]
    cat >"$BATS_TEST_TMPDIR/p/x.pages" <<'END'
=== two-schools US en master bachelor
{name} 2020-2021 \{x\} tel 20155 { a|b|c}
⟦i1:University of Leeds⟧    here ⟦y1:2017 - 2019⟧
⟦d1:M.Sc.⟧                  {there|There}
{?60 ⟦i2:Hull⟧ ⟦d2:Bachelor⟧ of ⟦f2:Law⟧ ⟦y2:since 2024⟧
}
=== !one-school GB en bachelor bachelor
{name} ⟦i1,2:Hull⟧ ⟦d1:BA⟧ and ⟦d2:LLB⟧
END
    pipe "mkresume --corpus $BATS_TEST_TMPDIR/p -n 400 --layout two-schools --slots 9" >"$BATS_TEST_TMPDIR/docs"
    python3 - "$BATS_TEST_TMPDIR/docs" <<'P'
import json, re, sys
own, wide, braced, second, moved, asked = 0, 0, 0, 0, set(), set()
for line in open(sys.argv[1]):
    d = json.loads(line)
    raw = d["text"].encode()
    assert "⟦" not in d["text"] and "⟧" not in d["text"]
    records = d["education"]
    assert [r["degree"] and 1 for r in records] == [1] * len(records)
    second += len(records) == 2
    first = records[0]
    years = re.search(r"(\d{4})\W+(\d{4})", first["year"]["text"])
    assert int(years[2]) - int(years[1]) == 2
    moved.add(int(years[1]))
    own += first["institution"]["text"].lower() == "university of leeds"
    asked |= {(kind, a) for _, answers, kind, _ in d["slots"] for a in answers if kind == "field"}
    lines = d["text"].split("\n")
    here = [l for l in lines if " here " in l and l.find("here") == 23]
    wide += len(here)
    there = [l for l in lines if l.endswith(("  there", "  There"))]
    braced += sum(len(l) == 28 for l in there)
assert 40 < own < 130, own               # one in five
assert moved >= set(range(2003, 2018)), moved
assert 180 < second < 300, second
assert wide - own > 30, (wide, own)      # where there was room, the column is kept
assert braced > 300, braced              # in front of braces too, but for what damage does
assert ("field", "Law") in asked and len(asked) > 5, asked
P
    run -0 pipe "mkresume --corpus $BATS_TEST_TMPDIR/p -n 20 --layout one-school | grep -c '\"institution\", \[0, 1\]'"
    [ "$output" = 20 ]
    # held out, and drawn when the rule is
    printf 'layout\n  999* {written}\n  !999* {written}\n' >"$BATS_TEST_TMPDIR/p/y.rules"
    run -0 pipe "mkresume --corpus $BATS_TEST_TMPDIR/p -n 50 | grep -c '\"layout\": \"two-schools\"'"
    [ "$output" -gt 15 ]
    run -1 pipe "mkresume --corpus $BATS_TEST_TMPDIR/p -n 50 | grep -c one-school"
    run -1 pipe "mkresume --corpus $BATS_TEST_TMPDIR/p -n 50 --split heldout | grep -c two-schools"
}

@test "mkresume: a mistake in a page is named with file and line" {
    printf 'layout\n  a\n' | corpus
    wrong() { # PAGE MESSAGE [LINE]
        printf '%s\n' '=== good-one US en school' 'text' "$1" >"$BATS_TEST_TMPDIR/c/p.pages"
        run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
        echo "$stderr"
        [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/c/p.pages:${3:-3}: $2" ]
    }
    local form="is not NAME REGION LANGUAGE LEVEL...: a name of 3 to 39 letters, a region as US, a language as en, at most 12 levels"
    wrong '=== x US en' "'x US en' $form"
    wrong '=== nurse us en' "'nurse us en' $form"
    wrong '=== nurse' "'nurse' $form"
    wrong '=== good-one US en' "there is a layout good-one already"
    wrong $'=== nurse US en\n{open' "braces do not match" 4
    wrong $'=== nurse US en school\n⟦i1:X' "'⟦i1:X': the mark has no end" 4
    wrong $'=== nurse US en school\n⟦q1:X⟧' "'⟦q1:X⟧': the mark is none of i (institution), d (degree), y (year), f (field)" 4
    wrong $'=== nurse US en school\n⟦i2:X⟧ more' "'⟦i2:X⟧ more': the mark is of a record without a level" 4
    wrong $'=== nurse US en school\n⟦i:X⟧' "'⟦i:X⟧': the mark has no record's number from 1 to 9" 4
    wrong $'=== nurse US en school school\n⟦i2,1:X⟧' "'⟦i2,1:X⟧': the mark is of records that are no neighbours" 4
    wrong $'=== nurse US en school\n⟦i1 X⟧' "'⟦i1 X⟧': the mark has no ':' behind its records" 4
    wrong $'=== nurse US en school\n⟦i1:⟧' "'⟦i1:⟧': the mark is empty" 4
    wrong $'=== nurse US en school\n⟦i1:a ⟦d1:b⟧⟧' "'⟦i1:a ⟦d1:b⟧⟧': the mark has another one in it" 4
    printf 'text\n' >"$BATS_TEST_TMPDIR/c/p.pages"
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: $BATS_TEST_TMPDIR/c/p.pages:1: a page begins with '=== NAME ...'" ]
}

person() { # rules for one layout: LEVELS YEARS-SINCE DOC, then lines of questions
    printf '%s\n' 'region' '  US en' 'records' "  $1" 'career' "  $2" 'gap' '  0' 'abroad' '  1*' \
        'missing' '  1*' 'layout' '  a' 'noise' '  1*' 'name' '  Jane Doe' \
        'years.master' '  2' 'years.bachelor' '  3' 'years.school' '  3' 'inst.school' '  Eton' \
        'degree.school' '  Bachelor' 'field.school' '  Arts' 'inst.master' '  MIT' 'inst.bachelor' '  Yale' \
        'degree.master' '  M.Sc.' 'degree.bachelor' '  Bachelor of Arts' \
        'field.master' '  Physics' 'field.bachelor' '  Law' 'shown.inst' '  {%text}' \
        'shown.degree' '  {%text}' 'shown.field' '  {%text}' 'shown.year' '  {%y1}-{%ongoing now|{%y2}}' \
        'doc.a' "  $3" "${@:4}" | corpus
    pipe "mkresume -n 1 --corpus $BATS_TEST_TMPDIR/c --slots ${ASK:-1}" | python3 -c '
import json, sys
for query, answers, kind, places in json.loads(sys.stdin.read())["slots"]:
    print(query, "=", *sorted(answers), sep=" | ")'
}

@test "mkresume --slots: all that fits what a question says is an answer to it" {
    local doc='{name}\n{%each {%both {%inst} {%degree} {%year} {%field}\n}}'
    check() { # LEVELS SINCE DOC KIND QUESTION WANTED [MORE-RULES]
        [ "$(person "$1" "$2" "$3" ask "  $4" "ask.$4" "  $5" "${@:7}" | sed 's/[12][0-9][0-9][0-9]/Y/g')" = "$6" ]
    }
    check 'master bachelor' 9 "$doc" inst '{name} studied at ?__' 'Jane Doe studied at ?__ | = | MIT | Yale'
    check 'master+bachelor' 9 "$doc" degree 'At {%noted inst}: ?__' 'At MIT: ?__ | = | Bachelor of Arts | M.Sc.'
    check 'bachelor bachelor' 9 "$doc" inst 'Until {%y2}: ?__' 'Until Y: ?__ | = | Yale'
    check 'bachelor' 9 "$doc" degree '{%an} ?__ in {%noted field}' 'a ?__ in Law | = | Bachelor of Arts'
    check 'school' 9 "$doc" inst 'at {%the inst}{%noted inst}: ?__' 'at Eton: ?__ | = | Eton'
    check 'master' 9 "$doc" degree '{%an} ?__ in {%noted field}' 'an ?__ in Physics | = | M.Sc.'
    check 'master bachelor' 9 "$doc" inst '{%level lv|none} from ?__' 'master from ?__ | = | MIT' \
        lv.bachelor '  bachelor' lv.master '  master'
    # What goes on answers other questions than what is over.
    check 'master bachelor' 0 "$doc" student '{%an} ?__ student' 'an ?__ student | = | M.Sc.'
    check 'master' 0 '{name}, {%note role Chef}: {%inst}, {%year}, {%note student {%degree} student}' \
        role '{name} is ?__{%or student}' 'Jane Doe is ?__ | = | Chef | M.Sc. student'
    check 'master' 9 "$doc" student '{%an} ?__ student' ''
    check 'master' 0 "$doc" inst '{%ongoing studies|studied} at ?__' 'studies at ?__ | = | MIT'
    # Two jobs at one employer; and years that the text does not give are no part of a question.
    local jobs='{name}\n{%jobs 3-3 {%held {%note role Boss}|{%note job {%m1}{%y1}} {%note firm Acme}}\n}'
    [[ $(person bachelor 9 "$jobs" ask '  job' ask.job '  At {%noted firm} ?__') == *' | = | '*' | '* ]]
    check 'bachelor' 9 '{name}: {%inst}' inst 'Until {%y2}: ?__' ''
    ASK=20
    check '1*' 9 '{name}' role '{name} is ?__' 'Jane Doe is ?__ | = | unknown'
    check '1*' 9 '{name}{%note student X}' role '{name} is ?__{%or student}' 'Jane Doe is ?__ | = | X'
    ASK=1
    # A degree that is said in short may be any of those that begin so.
    check 'bachelor bachelor' 9 "$doc" year 'The {%noted degree}: ?__' 'The Bachelor of Arts: ?__ | = | Y | Y'
    check 'school bachelor' 9 "$doc" inst 'The {%noted degree}: ?__' 'The Bachelor: ?__ | = | Eton | Yale'
}

@test "mkresume --slots: what the CV does not say, however near, is unknown" {
    local doc='{name}\n{%each {%both {%inst} {%degree} {%year} {%field}\n}}'
    asked() { # LEVELS DOC KIND QUESTION WANTED [MORE-RULES]
        run -0 person "$1" 9 "$2" ask "  $3" "ask.$3" "  $4" "${@:6}"
        [ "$(sort <<<"$output")" = "$5" ]
    }
    ASK=20
    # Things of one record beside those of another
    asked 'master bachelor' "$doc" inst '{%noted degree} in {%noted field}: ?__' 'Bachelor of Arts in Law: ?__ | = | Yale
Bachelor of Arts in Physics: ?__ | = | unknown
M.Sc. in Law: ?__ | = | unknown
M.Sc. in Physics: ?__ | = | MIT'
    asked bachelor '{name}{%note role Cook} {%note employer Acme}, {%jobs 1-1 {%held A|{%note firm Bull}}}' \
        role 'at {%noted employer}: ?__' 'at Acme: ?__ | = | Cook
at Bull: ?__ | = | unknown'
    # Other people's universities, and employers that are no university of the person's
    asked bachelor "$doc{%note firm Acme}, {%note firm Yale}" unknown '{%foreign inst other}: ?__' \
        'Acme: ?__ | = | unknown
Eton: ?__ | = | unknown' other '  Eton' '  Yale'
    asked bachelor "$doc{%other {%echo inst}}" unknown '{%foreign inst other}: ?__' \
        'MIT: ?__ | = | unknown' other '  Yale' stranger '  master'
    # Degrees above those that there are
    local lv=(lv.bachelor '  bachelor' lv.master '  master' lv.doctor '  doctor')
    asked school "$doc" unknown '{%lacking lv|none} ?__' 'bachelor ?__ | = | unknown
doctor ?__ | = | unknown
master ?__ | = | unknown' "${lv[@]}"
    asked master "$doc" unknown '{%lacking lv|none} ?__' 'doctor ?__ | = | unknown' "${lv[@]}"
    asked 'doctor master' "$doc" unknown '{%lacking lv|none} ?__' 'none ?__ | = | unknown' "${lv[@]}" \
        years.doctor '  3' inst.doctor '  MIT' degree.doctor '  Ph.D.' field.doctor '  Law'
    # A year in which nothing was
    run -0 person bachelor 9 "$doc" ask '  unknown' ask.unknown '  {%y2} ?__'
    [[ $output == *' | unknown' ]]
}

@test "mkresume --slots: a degree by another of its names; the last job and the first" {
    local doc='{name}\n{%each {%both {%inst} {%degree} {%year} {%field}\n}}'
    ASK=20
    run -0 person 'master bachelor' 9 "$doc" ask '  inst' ask.inst '  {%an degree} {%noted degree} from ?__' \
        ask.same '  A;B' '  Master of Science;MSc'
    [ "$(sort <<<"$output")" = 'a Bachelor of Arts from ?__ | = | Yale
a Master of Science from ?__ | = | MIT
an M.Sc. from ?__ | = | MIT
an MSc from ?__ | = | MIT' ]
    local jobs='{name}\n{%jobs 3-3 {%note job J{%y2}{%m2}} {%y1} {%y2} }'
    run -0 person '1*' 9 "$jobs" ask '  lastjob' '  firstjob' ask.lastjob '  last ?__' ask.firstjob '  first ?__'
    last=$(sed -n 's/^last.*J//p' <<<"$output") first=$(sed -n 's/^first.*J//p' <<<"$output")
    [ "${last:0:4}" -gt "${first:0:4}" ] && [ "$(wc -l <<<"$output")" = 2 ]
    run -0 person '1*' 9 '{name}, b. {%born {%y1}}' ask '  born' ask.born '  born: ?__'
    [[ $output =~ ^'born: ?__ | = | '[0-9]{4}$ ]]
    # When a job was; not a time within it, nor of the one that goes on
    jobs='{name}\n{%jobs 3-3 {%note firm F{%m2}} {%note when {%y1}-{%y2}} {%past {%note when {%y1}-{%y2}}}\n}'
    run -0 person '1*' 9 "$jobs" ask '  left' '  joined' \
        ask.left '  {%noted firm} {%y1} to ?__' ask.joined '  {%noted firm} ?__ to {%y2}'
    [ -n "$output" ] && ! grep -Ev '^F[0-9]+ ([0-9]{4} to \?__|\?__ to [0-9]{4}) \| = \| [0-9]{4}$' <<<"$output"
    while read -r _ from _ to _ _ _ year; do
        if [ "$from" = '?__' ]; then [ "$year" -lt "$to" ]; else [ "$from" -lt "$year" ]; fi
    done <<<"$output"
}

@test "mkresume --slots: a or an, by its sound" {
    for pair in an:MBA an:M.Sc. a:Master an:MPhys an:'HR Manager' a:'HEAD CHEF' an:Executive \
        a:'University Lecturer' an:A.B. an:'O Levels' a:B.Sc. an:'LL.B.' a:Ph.D. a:'UX Designer' a:'European Diploma'; do
        run -0 person '1*' 5 "{%note job ${pair#*:}}" ask '  job' ask.job '  {%an} ?__'
        [ "$output" = "${pair%%:*} ?__ | = | ${pair#*:}" ]
    done
}

@test "mkresume: rules without end are stopped" {
    printf 'region\n  US en\nrecords\n  1*\ncareer\n  0\nlayout\n  a\nnoise\n  1*\ndoc.a\n  {doc.a}\n' | corpus
    run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
    [ "$stderr" = "mkresume: document 0: x.rules:12: rules nest over 64 deep" ]
}

@test "mkresume: what is found only when it is drawn is named with file and line too" {
    wrong() { # DOC MESSAGE
        printf '%s\n' region '  US en' records '  1*' career '  0' layout '  a' noise '  1*' doc.a "  $1" | corpus
        run -65 --separate-stderr pipe "mkresume --corpus $BATS_TEST_TMPDIR/c"
        [ "$stderr" = "mkresume: document 0: x.rules:12: $2" ]
    }
    wrong 'a {%repeat x A}' "'x' is not a number, or one from A to B (A-B)"
    wrong '{%pad far b}' "'far' is not a number, or one from A to B (A-B)"
    wrong '{%with nothing a}' '{%with ...}: cannot read its argument'
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
