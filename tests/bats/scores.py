#!/usr/bin/env python3
"""Writes a scores stream, as `head` does, from a marked text: the suites' stand-in for a model.

    scores.py [--type tag|lm|class] [--delay N] [--passes N] [--cut] [--err] [--bits BITS,...]
              [--doubt FIELDS=P,...] TEXT...

In TEXT, {N-degree:M.Sc.} marks a span; each TEXT is a document. Tokens are words with the blank in
front of them. The mark's tag gets the score 9, all others 0. With --bits the stream is that of a
language model's surprisal: so many bits for each token, the last ones 0. --doubt: how often records
that have these fields (institution+degree) are wrong.
"""
import argparse
import os
import re
import struct
import sys

LABELS = ["O"] + [p + "-" + f for f in ("institution", "degree", "year") for p in "NBSI"]


def pack(v):
    if v is None:
        return b"\xc0"
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int) and v < 128:
        return bytes([v])
    if isinstance(v, int):
        return b"\xcf" + struct.pack(">Q", v)
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, str):
        b = v.encode("utf-8", "surrogateescape")
        if len(b) < 32:
            return bytes([0xA0 | len(b)]) + b
        return b"\xdb" + struct.pack(">I", len(b)) + b
    if isinstance(v, list) and len(v) < 16:
        return bytes([0x90 | len(v)]) + b"".join(pack(x) for x in v)
    if isinstance(v, list):
        return b"\xdd" + struct.pack(">I", len(v)) + b"".join(pack(x) for x in v)
    return b"\xdf" + struct.pack(">I", len(v)) + b"".join(pack(k) + pack(x) for k, x in v.items())


def tensor(dtype, dim, payload):
    code = {"f32": 0, "u8": 4, "u32": 6, "u64": 8}[dtype]
    body = bytes([1, code, len(dim), 0, 0, 0, 0, 0]) + b"".join(struct.pack("<Q", d) for d in dim)
    body += payload + b"\0" * (-len(payload) % 8)
    return b"\xc9" + struct.pack(">I", len(body)) + bytes([84]) + body


def record(kind, fields, tensors=()):
    head = b"\x93" + pack(kind) + pack(fields) + pack([t[0] for t in tensors])
    return head + b"".join(tensor(*t[1:]) for t in tensors)


def hello(content):
    fields = {"version": [1, 0], "content": content, "program": "scores.py",
              "next_layer": 0, "n_layer": 0}
    return record("statepipe", fields)


def marked(text):
    """The plain bytes and [(start, end, tag)] of a marked text."""
    plain, spans = b"", []
    for part in re.split(r"(\{[NBSI]-\w+:[^}]*\})", text):
        m = re.fullmatch(r"\{([NBSI]-\w+):([^}]*)\}", part)
        body = (m.group(2) if m else part).encode("utf-8", "surrogateescape")
        if m:
            spans.append((len(plain), len(plain) + len(body), m.group(1)))
        plain += body
    return plain, spans


def tokens(plain, spans):
    """[(start, end, tag)] of words; a span's first token has its tag, the others I."""
    edges = {0, len(plain)} | {e for s in spans for e in s[:2]}
    edges |= {m.start() for m in re.finditer(rb"\s*\S+", plain)}
    edges = sorted(edges)
    out = []
    for a, b in zip(edges, edges[1:]):
        tag = "O"
        for s in spans:
            if s[0] <= a < s[1]:
                tag = s[2] if a == s[0] else "I" + s[2][1:]
        out.append((a, b, tag))
    return out


def chunk(doc, pos, n_pass, rows, labels, delay_rows):
    scores = b""
    for tag in delay_rows:
        scores += struct.pack("<%df" % len(labels), *(9.0 if l == tag else 0.0 for l in labels))
    span = b"".join(struct.pack("<QQ", a, b) for a, b, _ in rows)
    n = len(rows)
    return record("CHUNK", {"doc": doc, "pos": pos, "pass": n_pass, "last": False}, [
        ("span", "u64", [n, 2], span), ("scores", "f32", [n, len(labels)], scores)])


def bits_document(index, text, bits):
    plain = text.encode("utf-8", "surrogateescape")
    rows = tokens(plain, [])
    n = len(rows)
    values = (bits + [0.0] * n)[:n]
    out = record("DOC", {"doc": index, "id": "doc%d" % index, "bytes": len(plain)})
    out += record("TEXT", {"doc": index, "off": 0}, [("text", "u8", [len(plain)], plain)])
    out += record("CHUNK", {"doc": index, "pos": 0, "pass": 0, "last": True}, [
        ("span", "u64", [n, 2], b"".join(struct.pack("<QQ", a, b) for a, b, _ in rows)),
        ("surprisal", "f32", [n], struct.pack("<%df" % n, *values))])
    return out + record("DOCEND", {"doc": index, "status": "ok", "n_tok": n})


def document(index, text, args, labels):
    if args.bits:
        return bits_document(index, text, [float(b) for b in args.bits.split(",")])
    plain, spans = marked(text)
    out = record("DOC", {"doc": index, "id": "doc%d" % index, "bytes": len(plain)})
    pieces = [plain[i:i + 60000] for i in range(0, len(plain), 60000)]
    out += b"".join(record("TEXT", {"doc": index, "off": 60000 * i},
                           [("text", "u8", [len(p)], p)]) for i, p in enumerate(pieces))
    rows = tokens(plain, spans) + [(len(plain), len(plain), "O")] * args.delay
    tags = ["O"] * args.delay + [r[2] for r in rows]
    if args.type == "class":
        tags = [labels[-1]] * len(tags)
    for n_pass in range(args.passes):
        wrong = n_pass + 1 < args.passes  # only the last pass may count
        for i in range(0, len(rows), 256):
            part = rows[i:i + 256]
            use = ["N-degree"] * len(part) if wrong else tags[i:i + len(part)]
            out += chunk(index, i, n_pass, part, labels, use)
    if args.err and index == 0:
        return out + record("ERR", {"doc": 0, "stage": "head", "code": "data",
                                    "message": "made up", "exit": 1})
    return out + record("DOCEND", {"doc": index, "status": "ok", "n_tok": len(rows)})


def doubt(pairs):
    p, fields = [0.0] * 8, ("institution", "degree", "year")
    for kind, value in (pair.split("=") for pair in pairs.split(",")):
        p[sum(1 << fields.index(f) for f in kind.split("+"))] = float(value)
    return [("doubt", "f32", [8], struct.pack("<8f", *p))]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--type", default="tag")
    p.add_argument("--delay", type=int, default=0)
    p.add_argument("--passes", type=int, default=1)
    p.add_argument("--cut", action="store_true", help="end without END")
    p.add_argument("--err", action="store_true", help="the first document fails upstream")
    p.add_argument("--bits")
    p.add_argument("--doubt")
    p.add_argument("--calibration", nargs=2, type=float)
    p.add_argument("text", nargs="*")
    args = p.parse_args()
    labels = LABELS if args.type == "tag" else ["job", "cv"]
    out = hello("scores")
    head = {"name": args.type, "type": args.type, "labels": labels, "delay": args.delay}
    if args.bits:
        head = {"name": "lm", "type": "lm", "gives": "surprisal"}
    tensors = doubt(args.doubt) if args.doubt else []
    if args.calibration:
        tensors.append(("calibration", "f32", [2], struct.pack("<2f", *args.calibration)))
    out += record("HEAD", head, tensors)
    for i, text in enumerate(args.text):
        out += document(i, text, args, labels)
    if not args.cut:
        out += record("END", {"docs": len(args.text), "errors": int(args.err), "open": False})
    sys.stdout.buffer.write(out)


try:
    main()
except BrokenPipeError:  # some tests close the pipe; xargs would tell of a signal
    os._exit(0)
