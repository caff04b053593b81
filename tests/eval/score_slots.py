#!/usr/bin/env python3
"""Score answers to masked slots: the first answer, and the first five.

    score_slots.py QUESTIONS.jsonl ANSWERS.jsonl [--errors N]

QUESTIONS holds {"id", "answers": [TEXT...], "kind"} per line (questions.py makes such), ANSWERS
what `fill --jsonl -o jsonl` writes. An answer is right when it is one of the question's after NFKC,
case folding, with punctuation and spaces levelled and without an article in front. Relaxed: half of
the words of either are in both. Of the questions that have no answer (their only one is "unknown")
and of the others: how often "unknown" came first, and how often something else did that was wrong
and had p >= 0.5. Standard library only.
"""
import collections
import re

import commandline
from score import text_key, text_of

SURE = 0.5
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


def show(kind, results):
    n = len(results)
    print("%-18s %5d questions  first %.3f  relaxed %.3f  one of five %.3f" %
          (kind, n, *(sum(r[k] for r in results) / n for k in range(3))))


def show_unknown(results):
    """results: (has an answer, right, the first answer, its p)"""
    for has, name in ((False, "without an answer"), (True, "with an answer")):
        of = [(fine, first == "unknown", p) for answerable, fine, first, p in results if answerable == has]
        if of:
            print("%-18s %5d questions  unknown first %.3f  wrong with p >= 0.50 %.3f" % (
                name, len(of), sum(unknown for _, unknown, _ in of) / len(of),
                sum(not fine and not unknown and p >= SURE for fine, unknown, p in of) / len(of)))


def main():
    parser = commandline.Parser(__doc__)
    parser.add_argument("questions")
    parser.add_argument("answers")
    parser.add_argument("--errors", metavar="N", type=int, default=0)
    args = parser.parse_args()
    questions = list(commandline.load(args.questions, "id", "answers"))
    answers = {d["id"]: d["answers"] for d in commandline.load(args.answers, "id", "answers")}
    kinds, wrong, firsts = collections.defaultdict(list), [], []
    for question in questions:
        given = answers.get(question["id"], [])
        said = [text_of(a) or "" for a in given]
        result = judge(question, said)
        kinds[question.get("kind") or "-"].append(result)
        p = given[0].get("p", 0) if given and isinstance(given[0], dict) else 0
        firsts.append((question["answers"] != ["unknown"], result[0], key(said[0]) if said else "", p))
        if not result[0]:
            wrong.append((question["id"], question.get("query"), said[:3], question["answers"][0]))
    if not questions:
        commandline.fail(commandline.BAD_DATA, f"{args.questions} has no questions")
    for kind, results in sorted(kinds.items()):
        show(kind, results)
    show_unknown(firsts)
    show("all", sum(kinds.values(), []))
    for error in wrong[:args.errors]:
        print(*error, sep="\t")


if __name__ == "__main__":
    main()
