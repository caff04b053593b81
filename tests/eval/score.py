#!/usr/bin/env python3
"""Score extracted records against a gold set: precision, recall and F1 of fields and whole records.

    score.py GOLD.jsonl PREDICTED.jsonl

Both hold {"id", "education": [{"institution", "degree", "year"}]} per line; a field is null or has
"text"; gold from `mkresume`, predictions from `extract -o jsonl`. Texts are compared after Unicode
NFKC, case folding and with punctuation and spaces levelled; years by the numbers in them. Records of
a document are paired greedily by the number of equal fields. A record is right when all its fields
are, null fields included. Standard library only.
"""
import json
import re
import sys
import unicodedata

FIELDS = ("institution", "degree", "year")
OPEN = re.compile(r"present|current|now|today|date|ongoing|since|heute|jetzt|laufend|seit|aujourd|présent|ce jour|"
                  r"depuis|actual|presente|fecha|desde|atual|momento|oggi|corso|heden|sinds|\bnu\b|obecnie|"
                  r"teraz|pågående|[-–—]\s*$", re.I)


def text_key(s):
    s = unicodedata.normalize("NFKC", s).casefold().replace("\u00ad", "")
    return " ".join("".join(c if c.isalnum() else " " for c in s.replace(".", "")).split())


def year_key(s):
    years = re.findall(r"(?:19|20)\d\d|(?<=['’])\d\d", s)
    return tuple(y[-2:] for y in (years[:1] + years[-1:])) + (bool(OPEN.search(s)),)


def value(record, field):
    v = record.get(field)
    if not v:
        return None
    s = v["text"] if isinstance(v, dict) else v
    return (year_key if field == "year" else text_key)(s)


def load(path):
    with open(path, encoding="utf-8") as f:
        docs = [json.loads(line) for line in f if line.strip()]
    return {d["id"]: [[value(r, f) for f in FIELDS] for r in d["education"]] for d in docs}


def pair(gold, predicted):
    scored = sorted(((-sum(a is not None and a == b for a, b in zip(g, p)), i, j)
                     for i, g in enumerate(gold) for j, p in enumerate(predicted)))
    used_g, used_p, pairs = set(), set(), []
    for score, i, j in scored:
        if score < 0 and i not in used_g and j not in used_p:
            used_g.add(i)
            used_p.add(j)
            pairs.append((i, j))
    return pairs


def main():
    gold, predicted = load(sys.argv[1]), load(sys.argv[2])
    n_gold, n_predicted, n_right = ([0] * 4 for _ in range(3))
    for name, g in gold.items():
        p = predicted.get(name, [])
        for side, count in ((g, n_gold), (p, n_predicted)):
            for r in side:
                count[3] += 1
                for k in range(3):
                    count[k] += r[k] is not None
        for i, j in pair(g, p):
            n_right[3] += g[i] == p[j]
            for k in range(3):
                n_right[k] += g[i][k] is not None and g[i][k] == p[j][k]
    print(f"{len(gold)} documents, {n_gold[3]} records")
    for k, name in enumerate(FIELDS + ("record",)):
        precision = n_right[k] / max(n_predicted[k], 1)
        recall = n_right[k] / max(n_gold[k], 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        print(f"{name:12} P {precision:.3f}  R {recall:.3f}  F1 {f1:.3f}")


main()
