#!/usr/bin/env python3
"""Gold records, or questions, from CVs that are marked by hand.

    marked.py FILE... >GOLD.jsonl                  as score.py reads it
    marked.py --questions FILE... >QUESTIONS.jsonl as `fill --jsonl` and score_slots.py read it

A line "=== ID LANGUAGE" begins a CV; lines "? QUERY = ANSWER | ANSWER" behind it ask something; its
text follows. In the text ⟦i1:University of Leeds⟧ is the institution of record 1, d the degree, y
the year; ⟦i1,2:MIT⟧ belongs to two records. The marks are taken out. The kind of a question is
"unknown" where that is the answer, else what "? [KIND] QUERY" says, else what its words and answer
look like, as `mkresume --slots` names them, or "answer". Standard library only.

written/*.txt hold 115 CVs of invented persons by writers who had not seen the corpus. a.txt was
looked at while layouts were added to it; b.txt, and c.txt, which is harder, were not. Never train
on them.
"""
import json
import re

import commandline

FIELD = {"i": "institution", "d": "degree", "y": "year"}
MARK = re.compile(r"⟦([idy])(\d+(?:,\d+)*):|⟧")
QUESTION = re.compile(r"\? (?:\[(?P<kind>\w+)\] )?(?P<query>.*?) = (?P<answers>.*)")
STUDY = r"(?:degree|diploma|\b[BM]\.?A|Sc\b|LLB|Ph\.? ?D|bachelor|master|stud[eiy]|univers|graduat|school)"
# What a question asks for, by its words: the first that fits.
KINDS = (
    ("employer", r"(?:works? (?:for|at)|employed (?:by|at)|employer(?: is|:)|arbeitet (?:bei|für)|employeur.*) "
     r"\?__"),
    ("city", r"(?:lives in|is from|based in|resides in|wohnt in|habite (?:à )?|vive (?:in|en|a)|city.*) ?\?__"),
    ("inst", rf"{STUDY}.*(?:from|by|at(?: the)?|is the|an (?:der|die)|aan de|à l['’]|nell['’]|en la) ?\?__"),
    ("field", rf"(?:{STUDY}.* in|studying|studied|branch.*:|field.*|major.*) \?__|\?__ studiert"),
    ("degree", r"(?:has|holds|received|earned|got|obtained|completed) an? \?__|degree.* \?__"),
    ("role", r"(?:works?|working|job|position|role|position of|title|arbeitet|lavora|travaille|trabaja)\b.*\?__|"
     r"(?:\b(?:is|ist|est|es|è|as|als|como|come)\b).*\?__"),
)


def damaged(name, what):
    commandline.fail(commandline.BAD_DATA, f"{name}: {what}")


def unmarked(name, marked):
    """The text, and its records in the order of their first fields."""
    text, at, opened, records = "", 0, None, {}
    for m in MARK.finditer(marked):
        text += marked[at:m.start()]
        at = m.end()
        if (opened is None) != bool(m[1]):
            damaged(name, f"marks do not match before {marked[at:at + 40]!r}")
        if m[1]:
            opened = FIELD[m[1]], m[2].split(","), len(text)
            continue
        field, numbers, start = opened
        opened = None
        for number in numbers:
            record = records.setdefault(int(number), dict.fromkeys(FIELD.values()))
            if record[field]:
                damaged(name, f"record {number} has two of {field}")
            record[field] = {"text": text[start:], "start": start, "end": len(text)}
    if opened:
        damaged(name, "a mark is open at the end")
    first = {n: min(f["start"] for f in r.values() if f) for n, r in records.items()}
    return text + marked[at:], [records[n] for n in sorted(records, key=lambda n: (first[n], n))]


def kind_of(query, answers):
    if answers == ["unknown"]:
        return "unknown"
    if re.fullmatch(r"\D*(19|20)\d\d", answers[0]):
        return "year"
    return next((kind for kind, pattern in KINDS if re.search(pattern, query, re.I)), "answer")


def documents(path):
    for part in re.split("^=== ", commandline.read(path), flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        if len(head.split()) != 2:
            damaged(head, "a CV begins with === ID LANGUAGE")
        name, lang = head.split()
        asked = []
        while body.startswith("? "):
            line, body = body.split("\n", 1)
            m = QUESTION.fullmatch(line)
            if not m:
                damaged(name, f"no question with an answer: {line!r}")
            answers = m["answers"].split(" | ")
            asked.append((m["query"], answers, m["kind"] or kind_of(m["query"], answers)))
        text, records = unmarked(name, body)
        yield name, lang, text, records, asked


def main():
    parser = commandline.Parser(__doc__)
    parser.add_argument("--questions", action="store_true")
    parser.add_argument("files", metavar="FILE", nargs="+")
    args = parser.parse_args()
    for name, lang, text, records, asked in (d for path in args.files for d in documents(path)):
        if args.questions:
            for i, (query, answers, kind) in enumerate(asked):
                print(json.dumps({"id": f"{name}-{i}", "doc": text, "query": query, "answers": answers,
                                  "kind": kind}, ensure_ascii=False))
        else:
            print(json.dumps({"id": name, "lang": lang, "text": text,
                              "education": records}, ensure_ascii=False))


if __name__ == "__main__":
    main()
