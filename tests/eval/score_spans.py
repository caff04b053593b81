#!/usr/bin/env python3
"""Score extracted records against texts with labelled spans that are not put together as records.

    score_spans.py SPANS.jsonl PREDICTED.jsonl [--errors N]

A line of SPANS holds {"id", "text", "spans": [[start, end, label]]}, offsets in code points, with
the labels "College Name", "Degree" and "Graduation Year"; other labels are passed over. Predictions
come from `extract -o jsonl`. Each field by itself, relaxed: the distinct texts of a document are
paired, a text without a partner is invented or missed. Where labels are noisy this ranks models; it
does not say how good one is. Standard library only.
"""
import commandline
import score

LABELS = {"College Name": "institution", "Degree": "degree", "Graduation Year": "year"}


def distinct(texts, field):
    """One text of each kind: equal years, equal names."""
    seen = {}
    for text in texts:
        key = score.parse_year(text)[1] if field == "year" else score.text_key(text)
        if key:
            seen.setdefault(key, text)
    return list(seen.values())


def right(field, text, gold):
    """As score.py, relaxed; a degree also with its field of study in one of the two, as labels have it."""
    if field == "degree":
        a, b = (set(score.text_key(t).split()) for t in (text, gold))
        return bool(a and b) and (a <= b or b <= a)
    return score.right(field, text, {"text": gold}, True)


def pair(gold, predicted, field):
    """How many predicted texts have a gold partner, and those of either side that have none."""
    alone = list(gold)
    invented = []
    for text in predicted:
        partner = next((g for g in alone if right(field, text, g)), None)
        if partner is None:
            invented.append(text)
        else:
            alone.remove(partner)
    return len(predicted) - len(invented), invented, alone


def main():
    parser = commandline.Parser(__doc__)
    parser.add_argument("gold")
    parser.add_argument("predicted")
    parser.add_argument("--errors", metavar="N", type=int, default=0)
    args = parser.parse_args()
    found = {d["id"]: d["education"] or [] for d in commandline.load(args.predicted, "id", "education")}
    total = {field: [0, 0, 0] for field in score.FIELDS}
    errors = []
    for doc in commandline.load(args.gold, "id", "text", "spans"):
        for label, field in LABELS.items():
            gold = distinct((doc["text"][a:b] for a, b, name in doc["spans"] if name == label), field)
            predicted = distinct((score.text_of(r.get(field)) for r in found.get(doc["id"], [])), field)
            fine, invented, missed = pair(gold, predicted, field)
            for k, n in enumerate((fine, len(invented), len(missed))):
                total[field][k] += n
            errors += [(doc["id"], field, "invented", text) for text in invented]
            errors += [(doc["id"], field, "missed", text) for text in missed]
    for field, counts in total.items():
        print("relaxed  %-12s P %.3f  R %.3f  F1 %.3f  (right %d, invented %d, missed %d)" %
              (field, *score.prf(*counts), *counts))
    for error in errors[:args.errors]:
        print(*(" ".join(str(e).split()) for e in error), sep="\t")


if __name__ == "__main__":
    main()
