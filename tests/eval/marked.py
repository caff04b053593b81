#!/usr/bin/env python3
"""Gold records, or questions, from CVs that are marked by hand.

    marked.py FILE... >GOLD.jsonl                  as score.py reads it
    marked.py --questions FILE... >QUESTIONS.jsonl as `fill --jsonl` and score_slots.py read it

A line "=== ID GROUP" begins a CV; lines "? QUERY = ANSWER | ANSWER" behind it ask something; its
text follows. In the text ⟦i1:University of Leeds⟧ is the institution of record 1, d the degree, y
the year; ⟦i1,2:MIT⟧ belongs to two records. The marks are taken out. Standard library only.

written/*.txt hold 115 CVs of invented persons by writers who had not seen the corpus. a.txt was
looked at while layouts were added to it; b.txt, and c.txt, which is harder, were not. Never train
on them.
"""
import json
import re
import sys

FIELD = {"i": "institution", "d": "degree", "y": "year"}
MARK = re.compile(r"⟦([idy])(\d+(?:,\d+)*):|⟧")


def unmarked(name, marked):
    """The text, and its records in the order of their first fields."""
    text, at, opened, records = "", 0, None, {}
    for m in MARK.finditer(marked):
        text += marked[at:m.start()]
        at = m.end()
        if (opened is None) != bool(m[1]):
            sys.exit(f"marked: {name}: marks do not match before {marked[at:at + 40]!r}")
        if m[1]:
            opened = FIELD[m[1]], m[2].split(","), len(text)
            continue
        field, numbers, start = opened
        opened = None
        for number in numbers:
            record = records.setdefault(int(number), dict.fromkeys(FIELD.values()))
            if record[field]:
                sys.exit(f"marked: {name}: record {number} has two of {field}")
            record[field] = {"text": text[start:], "start": start, "end": len(text)}
    if opened:
        sys.exit(f"marked: {name}: a mark is open at the end")
    first = {n: min(f["start"] for f in r.values() if f) for n, r in records.items()}
    return text + marked[at:], [records[n] for n in sorted(records, key=lambda n: (first[n], n))]


def documents(path):
    with open(path, encoding="utf-8") as file:
        for part in re.split("^=== ", file.read(), flags=re.M)[1:]:
            head, body = part.split("\n", 1)
            name, group = head.split()
            asked = []
            while body.startswith("? "):
                line, body = body.split("\n", 1)
                query, answers = line[2:].split(" = ", 1)
                asked.append((query, answers.split(" | ")))
            text, records = unmarked(name, body)
            yield name, group, text, records, asked


def main(paths, questions):
    for path in paths:
        for name, group, text, records, asked in documents(path):
            if questions:
                for i, (query, answers) in enumerate(asked):
                    kind = "unknown" if answers == ["unknown"] else "answer"
                    print(json.dumps({"id": f"{name}-{i}", "doc": text, "query": query, "answers": answers,
                                      "kind": kind}, ensure_ascii=False))
            else:
                print(json.dumps({"id": name, "group": group, "text": text, "education": records},
                                 ensure_ascii=False))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    ask = arguments[:1] == ["--questions"]
    if not arguments[ask:] or arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    main(arguments[ask:], ask)
