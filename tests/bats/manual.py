#!/usr/bin/env python3
"""Does a man page show what its source says?

    manual.py PAGE...

mdoc takes a quote at the beginning of a word for its own, and a word that is the name of a macro
for that macro. So what stands behind macros for literal text, and in headings, is looked for in the
page as it is rendered; and Fl takes one word. Prints what is not as it should be.
"""
import re
import subprocess
import sys

LITERAL = {"Ql", "Li", "Dl", "D1", "Ss", "Sh", "Nd"}
MACROS = LITERAL | {"Ar", "Cm", "Em", "Ev", "Fl", "In", "Nm", "No", "Ns", "Oc", "Oo", "Op", "Pa",
                    "Pq", "Sx", "Sy", "Va", "Xr", "Dq", "Sq", "Aq", "Bq", "Brq", "Ic", "Pf", "Ta"}
SHOWN = [(r"\&", ""), (r"\-", "-"), (r"\(dq", '"'), (r"\(aq", "'"), (r"\(ti", "~"),
         (r"\(ha", "^"), (r"\e", "\\"), (r"\ ", " ")]


def shown(text):
    for escape, what in SHOWN:
        text = text.replace(escape, what)
    return " ".join(text.split())


def rendered(path):
    done = subprocess.run(["mandoc", "-T", "utf8", "-O", "width=1000", path],
                          capture_output=True, text=True, check=True)
    return " ".join(re.sub(".\x08", "", done.stdout).split())


def literal_parts(line):
    """What is to be seen: a text, or several with punctuation between, as macros understand it."""
    macro, _, text = line[1:].partition(" ")
    if macro not in LITERAL or re.search(r" (Ns|Ar|No|Pa) ", text):
        return []
    parts = re.split(r" [.,;:)](?= |$)", text)
    return [shown(p) for p in parts if p.strip()]


def not_options(line):
    """Fl makes an option of every word behind it, where one was meant."""
    for words in line[1:].split(" Fl ")[1:]:
        names = []
        for word in words.split():
            if word in MACROS or word in set(".,;:|()[]"):
                break
            names.append(shown(word))
        if len(names) > 1:
            yield " ".join(names)


def main():
    bad = 0
    for path in sys.argv[1:]:
        page = rendered(path)
        with open(path) as f:
            lines = f.read().splitlines()
        for number, line in enumerate(lines, 1):
            if not line.startswith(".") or line.startswith('.\\"'):
                continue
            wrong = [p for p in literal_parts(line) if p not in page] + list(not_options(line))
            for what in wrong:
                print(f"{path}:{number}: {what}")
                bad = 1
    sys.exit(bad)


main()
