#!/usr/bin/env python3
"""Write two-column.pdf: a one-page CV in two columns, as an uncompressed PDF of our own making.

    make-pdf.py two-column.pdf
"""
import sys

LEFT = """CONTACT
leo.marin@example.org
+34 555 010 203
Valencia

SKILLS
Sketching, CAD, FEM
Wood and composites
Shop floor safety

LANGUAGES
Spanish
English
Dutch

INTERESTS
Sailing, choir""".split("\n")

RIGHT = """EXPERIENCE
Senior Product Designer, Boreal Bikes            2019 - present
Frames and luggage for cargo bicycles.
Two patents (2020, 2022).

Product Designer, Studio Klein                   2016 - 2019
Medical housings; worked with TU Eindhoven.

EDUCATION
Delft University of Technology                   2014 - 2016
M.Sc. Industrial Design

Universitat Politecnica de Valencia              2009 - 2013
B.Eng. Mechanical Engineering

COURSES
Finite elements in practice, MIT OpenCourseWare, 2018

AWARDS
James Example Award, 2016""".split("\n")


def text(x, y, size, line):
    line = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /F1 {size} Tf 1 0 0 1 {x} {y} Tm ({line}) Tj ET\n"


def main():
    page = text(56, 780, 20, "Leo Marin") + text(56, 760, 11, "Industrial designer")
    for x, lines in ((56, LEFT), (230, RIGHT)):
        for i, line in enumerate(lines):
            page += text(x, 720 - 15 * i, 9, line) if line else ""
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(page)} >>\nstream\n{page}endstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>",
    ]
    out = "%PDF-1.4\n"
    places = []
    for i, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{i} 0 obj\n{body}\nendobj\n"
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n"
    out += "".join(f"{p:010d} 00000 n \n" for p in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
    with open(sys.argv[1], "w", encoding="latin-1") as f:
        f.write(out)


main()
