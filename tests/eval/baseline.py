#!/usr/bin/env python3
"""Records of education by plain rules: what a model has to be better than.

    baseline.py GOLD.jsonl >FOUND.jsonl

Reads {"id", "text"} per line, writes {"id", "education"} as `extract -o jsonl` does, for score.py.
Of the text the parts below a heading of education are read, or all of it where there is none.
Institutions are capitalised words around a word like "university", degrees are on a list, years
are years or spans of them. A new record begins where a field would come twice, at the widest
gap since it came first. Records of one field alone are dropped. Standard library only.
"""
import json
import re

import commandline

EDUCATION = re.compile(
    r"(?i)(?:\W*\w+\W+){0,3}?(?:educat|academic|degrees|qualification|stud(?:ies|ium|ier|i\b)|"
    r"ausbildung|schul|formation|formaci|formaç|istruzione|wykszta|opleiding|uddannelse|utdann|"
    r"utbildning|vzděl|training|school|diplôme|estudios|öğrenim|eğitim|образован)")
OTHER = re.compile(
    r"(?i)(?:\W*\w+\W+){0,2}?(?:experience|employ|work|career|skills|project|publication|award|hono|language|"
    r"certific|interest|hobb|reference|beruf|expérience|experiencia|experiência|esperienza|compet|kenntnis|"
    r"activit|volunt|appointment|teaching|additional|profile|summary|personal|technical|objective|"
    r"sprach|langue|idioma|membership|licen[cs]es)")
WORD = r"(?:(?:[dl]['’])?[^\W\d_a-zß-ÿ][\w'’.&-]*)"  # begins with a capital
SMALL = r"(?:of|de|do|da|di|degli|della|für|der|and|the|del|la|e|y|in|zu|voor|van|&|for)"
CUE = re.compile(
    r"(?i)universi[td]|universit|üniversite|uniwersytet|univerzit|hochschule|college|coll[èe]ge|colegio|"
    r"institut|school|schule\b|academ[yi]a?\b|akademi|poly?te[ck]|gymnasium|lyc[ée]e|lice[ou]\b|escola|escuela|"
    r"école|högskola|faculty|\b(?:ETH|MIT|UCL|UCLA|INSA|TAFE|IIT|EPFL|Oxford|Cambridge|Harvard)\b")
NAME = re.compile(rf"(?<!\w){WORD}(?:(?: {SMALL}){{0,3}} {WORD}){{0,7}}")
DEGREE = re.compile(
    r"(?<!\w)(?:Ph\.? ?D\.?|D\. ?Phil\.?|DPhil|M\.? ?Phil\.?|[BM]\.? ?Sc\.?(?: \(Hons\.?\))?|"
    r"[BM]\.? ?[SA]\.?(?: \(Hons\.?\))?|[BM]\.? ?(?:Eng|Tech|Com|Ed)\.?|B\.? ?E\.?|MBA|BBA|[BM]FA|[BM]CA|MPH|"
    r"LL\.? ?[BM]\.?|J\.? ?D\.?|M\.? ?D\.?|MBBS|BDS|PGCE|HND|HSC|SSC|SSLC|GED|High School Diploma|Abitur|"
    r"Matura|(?:(?:Postg|G)raduate )?Diplom\w*|Baccalauréat|Magister\w*|Laurea(?: [Mm]agistrale)?|"
    r"(?:Master|Bachelor|Associate|Doctor)(?:['’]?s)?"
    r"(?: (?:of|degree)(?: (?:Business Administration|(?:Applied )?[A-Z]\w+))?)?|"
    r"Licen[cz]\w+|Grado|M[áa]ster|Doctor\w*|Ingenie\w+|Бакалавр\w*|Магистр\w*)(?!\w)")
DATE = r"(?:(?:\w{3,9}\.?,? )?(?:\d\d?[/.])?(?<!\d)(?:19|20)\d\d(?!\d)(?:-\d\d(?!\d)){0,2})"
YEAR = re.compile(
    rf"{DATE}(?:\s*(?:-+|–|—|to|until|bis|/|~|->|→|à|a|al)\s*(?:{DATE}|\d\d(?!\d)|"
    r"(?i:present|now|current|today|heute|oggi|actualidad|aujourd['’]hui)))?")


def education(text):
    """The lines below headings of education, or all."""
    inside, lines = False, []
    for line in text.split("\n"):
        said = line.strip(" \t#*:=-_[]|·•🎓")
        if 0 < len(said) < 60 and len(said.split()) <= 6 and not re.search(r"\d{4}|,", said):
            if EDUCATION.match(said) and not DEGREE.search(said) and not CUE.search(said.split()[0]):
                inside = True
                continue
            inside = inside and not OTHER.match(said)
        if inside:
            lines.append(line)
    return "\n".join(lines) or text


def fields(text):
    """(start, end, field, text), in the order of the text."""
    found = [(*m.span(), "degree", m[0]) for m in DEGREE.finditer(text)]
    found += [(*m.span(), "year", m[0]) for m in YEAR.finditer(text)]
    for m in NAME.finditer(text):
        title = DEGREE.match(m[0])
        start = m.start() + (title.end() if title else 0)
        name = text[start:m.end()].strip(" ,.-")
        if CUE.search(name):
            found.append((text.index(name, start), m.end(), "institution", name))
    return sorted(found)


def width(gap):
    return 4 * gap.count("\n\n") + 2 * gap.count("\n") + gap.count("  ") + len(gap) / 100


def records(text):
    """Fields in a row, cut at the widest gap where one comes again."""
    text = education(text)
    done, row = [], []
    for field in fields(text):
        same = [i for i, f in enumerate(row) if f[2] == field[2]]
        if same:
            after = row[same[0]:] + [field]
            gaps = [width(text[a[1]:b[0]]) for a, b in zip(after, after[1:])]
            cut = same[0] + 1 + gaps.index(max(gaps))
            done.append(row[:cut])
            row = row[cut:]
        row.append(field)
    return [{f[2]: f[3].strip(" ,-") for f in r} for r in done + [row] if len(r) > 1]


def main():
    parser = commandline.Parser(__doc__)
    parser.add_argument("gold")
    for doc in commandline.load(parser.parse_args().gold, "id", "text"):
        found = [{k: r.get(k) for k in ("institution", "degree", "year")} for r in records(doc["text"])]
        print(json.dumps({"id": doc["id"], "education": found}, ensure_ascii=False))


if __name__ == "__main__":
    main()
