#!/usr/bin/env python3
"""Masked-slot questions made from the gold records of CVs.

    questions.py GOLD.jsonl >QUESTIONS.jsonl
    questions.py --slots CVS.jsonl >QUESTIONS.jsonl
    questions.py --unanswerable TEMPLATES GOLD.jsonl >QUESTIONS.jsonl

With --slots the questions are those that `mkresume --slots` asked of its CVs. Else GOLD holds
{"id", "text", "education"} per line, as for score.py. A question is {"id", "doc", "query",
"answers", "kind"}, as `fill --jsonl` reads it and score_slots.py scores it: for every record the
institution, degree or year is asked, given what else is known of it. Answers are the gold text and
its alternatives; where several records fit the question, those of all of them. Of years the last
one is asked, or all of them. With --unanswerable every CV is asked what TEMPLATES (unanswerable.txt)
has, where the answer is "unknown". No random numbers: the same input gives the same output.
Standard library only.
"""
import json
import re

import commandline
from score import load_records

YEAR = re.compile(r"(?<!\d)(?:1[6-9]|20)\d\d(?!\d)")
NO_NAME = re.compile(
    r"(?i)web|curriculum|vitae|lebenslauf|resume|\bcv\b|profil|skip to|education|qualification|daten|"
    r"occupation|sales|engineer|@|\d|http|www|[|:·]")
NAMED = re.compile(r"^\W*Name\s*:?\s{2,}(\w.*?)\s*$|^\W*Name\s*:\s*(\w.*?)\s*$", re.M)

# kind, what has to be known, the question
FORMS = (
    ("institution", ("degree",), "{name} has a {degree} from ?__"),
    ("institution", ("year",), "{name} studied at ?__ until {end}"),
    ("degree", ("institution",), "{name} received a ?__ from {institution}"),
    ("year", ("institution",), "{name} graduated from {institution} in ?__"),
    ("degree", ("institution", "year"), "In {end}, {name} earned a ?__ at {institution}."),
    ("year", ("institution", "degree"), "{name} got the {degree} from {institution} in ?__."),
)


def name_of(text):
    """What stands behind "Name:", or the first line that looks like a person's name, or None."""
    named = NAMED.search(text)
    if named:
        return named.group(1) or named.group(2)
    for line in text.split("\n")[:12]:
        words = line.strip(" #*\t\r").split("   ")[0].split(",")[0].split()
        plain = " ".join(words)
        if 2 <= len(words) <= 4 and not NO_NAME.search(plain) and all(
                w[0].isupper() for w in words if len(w) > 2):
            return plain
    return None


def texts(field):
    return [field["text"], *(field.get("alts") or [])] if field else []


def end_year(field):
    if not field:
        return None
    years = [field["end_year"]] if str(field.get("end_year") or "").isdigit() else YEAR.findall(
        field["text"])
    return str(years[-1]) if years else None


def known(record):
    out = {k: " ".join(record[k]["text"].split()) for k in ("institution", "degree", "year")
           if record.get(k)}
    end = end_year(record.get("year"))
    out.pop("year", None)
    if end:
        out["year"] = out["end"] = end
    return out


def questions(document):
    name = name_of(document["text"]) or "The candidate"
    records = document["education"]
    for i, record in enumerate(records):
        have = known(record)
        for k, (kind, needs, form) in enumerate(FORMS):
            if kind not in have or any(n not in have for n in needs):
                continue
            given = {n: have["end" if n == "year" else n] for n in needs}
            answers = []
            for other in records:
                theirs = known(other)
                fits = all(theirs.get("end" if n == "year" else n) == v for n, v in given.items())
                if fits and kind in theirs:
                    answers += [theirs["end"]] if kind == "year" else texts(other[kind])
                    answers += texts(other["year"]) if kind == "year" else []
            yield {
                "id": f"{document['id']}-{i}-{k}",
                "doc": document["text"],
                "query": form.format(name=name, end=have.get("end"), **given),
                "answers": list(dict.fromkeys(answers)),
                "kind": kind,
            }


def asked(document):
    for i, (query, answers, kind, _) in enumerate(document["slots"]):
        yield {"id": f"{document['id']}-{i}", "doc": document["text"], "query": query,
               "answers": answers, "kind": kind}


def templates(path):
    """(kind, statement) of each line; empty ones and comments are passed over."""
    out = []
    for i, line in enumerate(commandline.read(path).split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        kind, _, statement = line.partition("\t")
        if "?__" not in statement:
            commandline.fail(commandline.BAD_DATA, f"{path}: line {i} is no kind, tab and statement with ?__")
        out.append((kind, statement))
    return out


def unanswerable(document, forms):
    name = name_of(document["text"]) or "this person"
    for i, (kind, form) in enumerate(forms):
        query = form.replace("{name}", name)
        yield {"id": f"{document['id']}-unanswerable-{i}", "doc": document["text"],
               "query": query[0].upper() + query[1:], "answers": ["unknown"], "kind": kind}


def main():
    parser = commandline.Parser(__doc__)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--slots", action="store_true")
    ways.add_argument("--unanswerable", metavar="TEMPLATES")
    parser.add_argument("file", metavar="GOLD.jsonl")
    args = parser.parse_args()
    forms = templates(args.unanswerable) if args.unanswerable else []
    docs = commandline.load(args.file, "id", "text", "slots") if args.slots else load_records(args.file, "text")
    for document in docs:
        made = (asked(document) if args.slots else unanswerable(document, forms) if args.unanswerable
                else questions(document))
        for question in made:
            print(json.dumps(question, ensure_ascii=False))


if __name__ == "__main__":
    main()
