#!/usr/bin/env python3
"""What a sample of the corpus is like: lengths, languages, records, distractors, composed names,
questions.

    mkresume -n 20000 --slots 6 | corpus_stats.py [CORPUS_DIR]

Distractors are counted by what they look like: years, and names with a word for an institution,
that are no gold. A name is composed when it is on no list of the corpus and not written out in a
rule.
"""
import collections
import os
import re

import commandline

YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
PLACE = re.compile(
    r"(?i)universit|college|institut|\bschool|gymnasium|lyc[ée]e|hochschule|polyt|politec|academy|"
    r"университет|egyetem|sveučilište|üniversite|yliopisto")


def listed(folder):
    names = set()
    for file in ("universities.tsv", "schools.txt"):
        with commandline.opened(os.path.join(folder, file)) as f:
            names |= {line.split("\t")[0].strip().casefold() for line in f}
    known = re.search(r"^inst\.known\n  \{(.*)\}$", commandline.read(os.path.join(folder, "inst.rules")), re.M)
    return names | {n.casefold() for n in known.group(1).split("|")}


def percent(counter, total, top=40):
    return "  ".join("%s %.1f" % (k, 100 * n / total) for k, n in counter.most_common(top))


def outside(text, spans):
    at, out = 0, []
    for start, end, label, *_ in spans:
        if label == "answer":
            continue
        out.append(text[at:start])
        at = max(at, end)
    return b"\n".join(out + [text[at:]]).decode("utf8", "replace")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = commandline.Parser(__doc__)
    parser.add_argument("folder", metavar="CORPUS_DIR", nargs="?",
                        default=os.path.join(here, "../../share/corpus"))
    names = listed(parser.parse_args().folder)
    length, count = [], collections.Counter()
    lang, layout, records, kind = (collections.Counter() for _ in range(4))
    for d in commandline.load("-", "text", "lang", "layout", "education", "spans"):
        raw = d["text"].encode()
        length.append(len(d["text"]))
        lang[d["lang"]] += 1
        layout[d["layout"]] += 1
        records[len(d["education"])] += 1
        rest = outside(raw, d["spans"])
        count["years, other"] += len(YEAR.findall(rest))
        count["institutions, other"] += len(PLACE.findall(rest))
        for start, end, label, *_ in d["spans"]:
            said = " ".join(raw[start:end].decode().split())
            if label == "year":
                count["years, gold"] += max(1, len(YEAR.findall(said)))
            elif label == "institution":
                count["institutions, gold"] += 1
                count["composed"] += said.casefold() not in names
        for record in d["education"]:
            for field, value in record.items():
                count["without " + field] += value is None
        for query, answers, what, *_ in d.get("slots", []):
            kind[what] += 1
            count["unknown"] += answers[0] == "unknown"
    n = len(length)
    if n == 0:
        commandline.fail(commandline.BAD_DATA, "there are no documents: give them on standard input")
    length.sort()
    print("documents %d, characters: mean %.0f" % (n, sum(length) / n) + "".join(
        ", p%g %d" % (q, length[min(n - 1, int(n * q / 100))]) for q in (0, 5, 25, 50, 75, 90, 95, 99, 100)))
    print("3,000 to 8,000 characters: %.1f %%; more: %.1f %%" % (
        100 * sum(3000 <= x <= 8000 for x in length) / n, 100 * sum(x > 8000 for x in length) / n))
    print("languages, %%: %s" % percent(lang, n))
    print("layouts, %%: %s" % percent(layout, n))
    print("records in a document, %%: %s" % percent(records, n))
    total = max(1, sum(k * v for k, v in records.items()))
    print("records without institution %.1f %%, degree %.1f %%, year %.1f %%" % tuple(
        100 * count["without " + f] / total for f in ("institution", "degree", "year")))
    for what in ("years", "institutions"):
        gold, other = count[what + ", gold"], count[what + ", other"]
        print("%s: %d gold, %d others (%.2f to one)" % (what, gold, other, other / max(1, gold)))
    print("institution names that are composed, in another case or damaged: %.1f %%" % (
        100 * count["composed"] / max(1, count["institutions, gold"])))
    if kind:
        asked = sum(kind.values())
        print("questions %d, %%: %s; unknown %.1f" % (
            asked, percent(kind, asked), 100 * count["unknown"] / asked))


if __name__ == "__main__":
    main()
