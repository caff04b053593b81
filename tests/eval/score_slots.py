#!/usr/bin/env python3
"""Score answers to masked slots: the first answer, and the first five.

    score_slots.py QUESTIONS.jsonl ANSWERS.jsonl [--errors N]

QUESTIONS holds {"id", "answers": [TEXT...], "kind"} per line (questions.py makes such), ANSWERS
what `fill --jsonl -o jsonl` writes. An answer is right when it is one of the question's after NFKC,
case folding, with punctuation and spaces levelled and without an article in front. Relaxed: half of
the words of either are in both. Standard library only.
"""
import argparse
import collections
import re

from commandline import load
from score import text_key, text_of

ARTICLE = re.compile(r"^(an?|the|une?|uno|una|eine?) ")


def key(text):
    return ARTICLE.sub("", text_key(text))


def near(a, b):
    a, b = set(a.split()), set(b.split())
    return bool(a) and len(a & b) >= 0.5 * len(a | b)


def judge(question, answers):
    """(first right, first nearly right, one of five right)"""
    wanted = [key(a) for a in question["answers"]]
    given = [key(a) for a in answers[:5]] or [""]
    first = given[0] in wanted
    return first, first or any(near(given[0], w) for w in wanted), any(g in wanted for g in given)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions")
    parser.add_argument("answers")
    parser.add_argument("--errors", metavar="N", type=int, default=0)
    args = parser.parse_args()
    answers = {d["id"]: [text_of(a) or "" for a in d["answers"]] for d in load(args.answers)}
    kinds, wrong = collections.defaultdict(list), []
    for question in load(args.questions):
        result = judge(question, answers.get(question["id"], []))
        kinds[question.get("kind") or "-"].append(result)
        if not result[0]:
            wrong.append((question["id"], question.get("query"), answers.get(question["id"], [])[:3],
                          question["answers"][0]))
    for kind, results in [*sorted(kinds.items()), ("all", sum(kinds.values(), []))]:
        n = len(results)
        print("%-12s %5d questions  first %.3f  relaxed %.3f  one of five %.3f" %
              (kind, n, *(sum(r[k] for r in results) / n for k in range(3))))
    for error in wrong[:args.errors]:
        print(*error, sep="\t")


if __name__ == "__main__":
    main()
