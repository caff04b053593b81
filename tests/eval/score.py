#!/usr/bin/env python3
"""Score extracted records against a gold set: precision, recall and F1 of fields and whole records.

    score.py GOLD.jsonl PREDICTED.jsonl [--by KEY]... [--errors N] [--reliability] [--doubt]
             [--calibration]

Both hold {"id", "education": [{"institution", "degree", "year"}]} per line. A field is null, a text
or {"text"}; a gold field perhaps with other right answers in "alts", and for years "start_year"
and "end_year". Gold comes from `mkresume` or from people, predictions from `extract -o jsonl`.

exact    Texts are equal after NFKC, case folding and with punctuation and spaces levelled. Of
         years the end is equal, and the start where the prediction has one.
relaxed  Half of the words of either text are in both; years share their end or any year.

The records of a document are paired so that as many fields as possible are right: the best
assignment for up to 9 records against 5, greedily above. A field without a right partner is wrong.
A record is right when all its fields are, null ones included. Behind every F1 stands its 95 %
interval: of 1000 draws of as many documents, with replacement. --by groups the documents by a key
of the gold (lang, layout, group), --errors shows what was wrong. --reliability shows, for records
by their p, how many are right. --doubt shows, for records by the fields they have, how many are
wrong of those all of whose fields have p >= 0.9: what a model's config.json calls doubt (with
`extract --record-p 0`). --calibration fits slope and intercept of the log odds of p to how many
records were right, as config.json has them (of a model without). Standard library only.
"""
import collections
import itertools
import math
import random
import re
import unicodedata

import commandline

FIELDS = ("institution", "degree", "year")
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
DRAWS = 1000
FOUR = r"(?:1[6-9]|20)\d\d"
YEAR = rf"(?<!\d){FOUR}(?!\d)"
PRESENT = (
    "present", r"pres\.", "now", "current", "today", "ongoing", "in progress", "heute", "laufend",
    "aktuell", "heden", "nu", "actualidad", "a la fecha", "(?:to|till|until) date", "aujourd",
    "à ce jour", "momento", "presente", "oggi", "obecnie", "nåværende", "halen",
    "по настоящее", r"н\.? ?в", "till now")
DASHED = re.compile(r"(?<!\d)((?:1[6-9]|20)\d\d)(\s?)[-–—/.](\s?)(\d\d)(?!\d)(?!\s?[-/.]\d)")
DATE = re.compile(r"(?<!\d)((?:1[6-9]|20)\d\d)[-/.]\d\d?[-/.]\d\d?(?!\d)")
LETTERS = re.compile(
    r"\b(b|m|d|ph)\.? (sc|tech|e|eng|com|ed|a|s|phil|arch|pharm|d)\b\.?")  # "B. Sc." is "BSc"


def text_key(text):
    s = unicodedata.normalize("NFKC", text or "").casefold().replace("&", " and ")
    s = LETTERS.sub(r"\1\2", re.sub(r"\s+\.", ".", s).replace("\u0307", ""))
    s = re.sub("[.\u00ad'’‘ʻ`]", "", s)
    s = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in s)
    return re.sub(r"^the ", "", " ".join(s.split()))


def century(two_digits):
    return ("20" if int(two_digits) < 50 else "19") + two_digits


def spelled_out(m):
    """2014-18 and 1999/00 are spans; 2015-09 and 2015/09 are a year with a month."""
    year, tail, spaced = int(m.group(1)), int(m.group(4)), m.group(2) or m.group(3)
    follows = tail == (year + 1) % 100
    if follows or (tail > year % 100 and (tail > 12 or spaced)):
        end = year // 100 * 100 + tail + (100 if tail < year % 100 else 0)
        return f"{year} - {end}"
    return str(year) if 1 <= tail <= 12 else m.group(0)


def is_present(text):
    return any(re.search(r"(?<!\w)" + p + r"(?:\b|$)", text) or
               (len(p) > 5 and re.search(r"(?<!\w)" + p, text)) for p in PRESENT)


def parse_year(text):
    """(start or None, end or "present" or None), as strings."""
    if not text:
        return None, None
    t = DATE.sub(r"\1", text)
    months = len(DASHED.findall(t)) > 1  # "2014-09 - 2016-05": both tails are months
    t = DASHED.sub(lambda m: m.group(1) if months and 1 <= int(m.group(4)) <= 12
                   else spelled_out(m), t)
    t = re.sub(r"(?<![\w\d])[’'‘](\d\d)(?!\d)", lambda m: century(m.group(1)), t)
    years = re.findall(YEAR, t)
    alone = re.fullmatch(r"\s*[’'‘]?(\d\d)\s*", t)
    if not years and alone:
        years = [century(alone.group(1))]
    low = t.casefold()
    goes_on = is_present(low)
    if not years:
        return None, "present" if goes_on else None
    if len(years) > 1:
        return years[0], years[-1]
    goes_on = (goes_on or re.search(FOUR + r"\s*(?:[-–—]|->|→)+\s*\??\s*$", t) or
               re.match(r"\s*(?:seit|since|depuis|od|from)\b", low))
    return (years[0], "present") if goes_on else (None, years[0])


def year_right(text, gold, relaxed):
    start, end = parse_year(text)
    gold_start, gold_end = parse_year(gold["text"])
    if "end_year" in gold:
        gold_start, gold_end = gold.get("start_year"), gold.get("end_year")
    if end is None or gold_end is None:
        return text_key(text) == text_key(gold["text"]) != ""
    if relaxed:
        return end == gold_end or bool({start, end} & {gold_start, gold_end} - {None})
    return end == gold_end and start in (None, gold_start)


def right(field, text, gold, relaxed):
    if not text or not gold:
        return False
    if field == "year":
        return year_right(text, gold, relaxed)
    key = text_key(text)
    for other in map(text_key, [gold["text"], *(gold.get("alts") or [])]):
        a, b = set(key.split()), set(other.split())
        if key and (key == other or (relaxed and len(a & b) >= 0.5 * len(a | b))):
            return True
    return False


def affinity(p, g, relaxed):
    """How many fields are right; of equals a whole record, then a name that is nearly right."""
    fine = [right(f, p.get(f), g.get(f), relaxed) for f in FIELDS]
    whole = all(ok if g.get(f) else not p.get(f) for f, ok in zip(FIELDS, fine))
    near = right("institution", p.get("institution"), g.get("institution"), True)
    return sum(fine) + 0.1 * whole + 0.01 * near


def best_assignment(table, n, m):
    """Of n rows to m columns, n <= m: the first of the best."""
    return max((list(enumerate(c)) for c in itertools.permutations(range(m), n)),
               key=lambda pairs: sum(table[i][j] for i, j in pairs))


def pair(predicted, gold, relaxed):
    table = [[affinity(p, g, relaxed) for g in gold] for p in predicted]
    n, m = len(predicted), len(gold)
    if min(n, m) <= 5 and max(n, m) <= 9:
        if n <= m:
            pairs = best_assignment(table, n, m)
        else:
            pairs = [(i, j) for j, i in best_assignment(list(zip(*table)), m, n)]
    else:
        pairs, rows, columns = [], set(), set()
        for i, j in sorted(itertools.product(range(n), range(m)), key=lambda c: -table[c[0]][c[1]]):
            if i not in rows and j not in columns:
                rows.add(i)
                columns.add(j)
                pairs.append((i, j))
    return [(i, j) for i, j in pairs if table[i][j] > 0]


class Counts:
    """Right, invented and missed: by field, and of whole records."""

    def __init__(self):
        self.of = {f: [0, 0, 0] for f in FIELDS + ("record",)}
        self.errors = []
        self.sure = []  # (p, right) of every predicted record
        self.kinds = collections.defaultdict(list)  # right, by fields, where all of them are sure

    def add(self, name, predicted, gold, relaxed):
        predicted = [dict(p, year=None if parse_year(p["year"]) == (None, None) else p["year"])
                     for p in predicted]
        predicted = [p for p in predicted if any(p[f] for f in FIELDS)]
        pairs = pair(predicted, gold, relaxed)
        partner = dict(pairs)
        whole = 0
        for i, p in enumerate(predicted):
            g = gold[partner[i]] if i in partner else {}
            fine = bool(g)
            for f in FIELDS:
                ok = right(f, p[f], g.get(f), relaxed)
                fine = fine and (ok if p[f] else not g.get(f))
                self.of[f][0] += ok
                self.of[f][1] += bool(p[f]) and not ok
                if p[f] and not ok:
                    self.errors.append((name, f, p[f], (g.get(f) or {}).get("text")))
            whole += fine
            self.sure.append((p.get("p"), fine))
            if (p.get("least") or 0) >= 0.9:
                self.kinds["+".join(f for f in FIELDS if p[f])].append(fine)
        of_gold = {j: predicted[i] for i, j in pairs}
        for j, g in enumerate(gold):
            for f in FIELDS:
                self.of[f][2] += bool(g.get(f)) and not right(f, of_gold.get(j, {}).get(f), g[f],
                                                              relaxed)
        for k, count in enumerate((whole, len(predicted) - whole, len(gold) - whole)):
            self.of["record"][k] += count

    def scores(self, of):
        return prf(*self.of[of])


def prf(tp, fp, fn):
    """Precision, recall and F1."""
    p, r = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    return p, r, 2 * p * r / (p + r) if p + r else 0.0


def evaluate(gold, predicted, relaxed):
    counts = Counts()
    for d in gold:
        counts.add(d["id"], predicted.get(d["id"], []), d["education"], relaxed)
    return counts


def intervals(gold, predicted, relaxed):
    """Where F1 falls in 95 of 100 draws of the documents: {what: (low, high)}."""
    each = [evaluate([d], predicted, relaxed).of for d in gold]
    draw, f1 = random.Random(1), {of: [] for of in FIELDS + ("record",)}
    for _ in range(DRAWS):
        drawn = draw.choices(each, k=len(each))
        for of, values in f1.items():
            values.append(prf(*(sum(d[of][k] for d in drawn) for k in range(3)))[2])
    cut = DRAWS * 25 // 1000
    return {of: (sorted(v)[cut], sorted(v)[-cut - 1]) for of, v in f1.items()}


def load_records(path, *keys):
    """Documents with records, whose fields are null or {"text"}."""
    docs = list(commandline.load(path, "id", "education", *keys))
    for doc in docs:
        doc["education"] = doc["education"] or []
        for record in doc["education"]:
            record.update({f: {"text": record[f]} for f in FIELDS if isinstance(record.get(f), str)})
    return docs


def text_of(value):
    return value.get("text") if isinstance(value, dict) else value


def record_of(record):
    """The fields' texts, how sure the whole is, and how sure its least sure field."""
    out = {f: text_of(record.get(f)) for f in FIELDS}
    p = [record[f]["p"] for f in FIELDS if isinstance(record.get(f), dict) and "p" in record[f]]
    return dict(out, p=record.get("p"), least=min(p) if p else None)


def show(gold, predicted):
    print(f"{len(gold)} documents, {sum(len(d['education']) for d in gold)} records")
    for relaxed in (False, True):
        counts = evaluate(gold, predicted, relaxed)
        within = intervals(gold, predicted, relaxed)
        for of in FIELDS + ("record",):
            print("%-8s %-12s P %.3f  R %.3f  F1 %.3f  %.3f to %.3f  (right %d, invented %d, "
                  "missed %d)" % ("relaxed" if relaxed else "exact", of, *counts.scores(of),
                                  *within[of], *counts.of[of]))


def show_reliability(gold, predicted):
    for relaxed in (False, True):
        sure = [(p, fine) for p, fine in evaluate(gold, predicted, relaxed).sure if p is not None]
        for low, high in zip(BINS, BINS[1:] + (1.01,)):
            of = [(p, fine) for p, fine in sure if low <= p < high]
            if of:
                print("%-8s p %.2f to %.2f  %5d records  mean p %.3f  right %.3f" %
                      ("relaxed" if relaxed else "exact", low, min(high, 1), len(of),
                       sum(p for p, _ in of) / len(of), sum(fine for _, fine in of) / len(of)))
        of = [fine for p, fine in sure if p >= 0.9]
        print("%-8s p >= 0.90       %5d records  right %.3f" %
              ("relaxed" if relaxed else "exact", len(of), sum(of) / max(len(of), 1)))


def show_doubt(gold, predicted):
    for kind, fine in sorted(evaluate(gold, predicted, False).kinds.items()):
        print("doubt    %-24s  %5d records  wrong %.3f" %
              (kind, len(fine), 1 - sum(fine) / len(fine)))


def show_calibration(gold, predicted):
    sure = [(min(max(p, 1e-6), 1 - 1e-6), fine)
            for p, fine in evaluate(gold, predicted, False).sure if p is not None]
    slope, intercept = 1.0, 0.0
    for _ in range(50):  # Newton's method, in short steps: the likelihood has one maximum
        g0 = g1 = h01 = 0.0
        h00 = h11 = 1e-6
        for p, fine in sure:
            x = math.log(p / (1 - p))
            q = 1 / (1 + math.exp(-max(-30, min(30, slope * x + intercept))))
            w = q * (1 - q)
            g0, g1 = g0 + (fine - q), g1 + (fine - q) * x
            h00, h01, h11 = h00 + w, h01 + w * x, h11 + w * x * x
        det = h00 * h11 - h01 * h01
        intercept += max(-0.5, min(0.5, (h11 * g0 - h01 * g1) / det))
        slope += max(-0.5, min(0.5, (h00 * g1 - h01 * g0) / det))
    print("calibration  slope %.3f  intercept %.3f" % (slope, intercept))


def show_groups(gold, predicted, key):
    if not any(key in d for d in gold):
        commandline.fail(commandline.BAD_DATA, f'no gold document has "{key}"')
    groups = collections.defaultdict(list)
    for d in gold:
        groups[str(d.get(key, "-"))].append(d)
    for name, docs in sorted(groups.items()):
        exact, relaxed = (evaluate(docs, predicted, r) for r in (False, True))
        fields = " ".join(f"{f} {exact.scores(f)[2]:.2f}" for f in FIELDS + ("record",))
        print("%-28s %3d documents  exact F1 %s  relaxed record %.2f" %
              (name, len(docs), fields, relaxed.scores("record")[2]))


def main():
    parser = commandline.Parser(__doc__)
    parser.add_argument("gold")
    parser.add_argument("predicted")
    parser.add_argument("--by", metavar="KEY", action="append", default=[])
    parser.add_argument("--errors", metavar="N", type=int, default=0)
    parser.add_argument("--reliability", action="store_true")
    parser.add_argument("--doubt", action="store_true")
    parser.add_argument("--calibration", action="store_true")
    args = parser.parse_args()
    gold = load_records(args.gold)
    predicted = {d["id"]: [record_of(r) for r in d["education"]] for d in load_records(args.predicted)}
    show(gold, predicted)
    for key in args.by:
        show_groups(gold, predicted, key)
    if args.reliability:
        show_reliability(gold, predicted)
    if args.doubt:
        show_doubt(gold, predicted)
    if args.calibration:
        show_calibration(gold, predicted)
    for error in evaluate(gold, predicted, False).errors[:args.errors]:
        print(*error, sep="\t")


if __name__ == "__main__":
    main()
