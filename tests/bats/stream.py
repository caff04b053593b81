#!/usr/bin/env python3
"""Streams for the suites, with the standard library alone.

    stream.py tokens [--seed N] [--vocab N] [--chunk N|random] [--passes N] [--open ID] [--cont ID]
              [--noids] LENGTH|ID=LENGTH[@COMMON]...
                                    random tokens: one document each; a document's ids depend
                                    on the seed, its place and nothing else, but for the first
                                    COMMON, which are the same in all
    stream.py rows TENSOR           the rows of a tensor of every CHUNK on standard input, in hex,
                                    one line each, documents apart: chunking is invisible
    stream.py records               one line per record: kind, fields, tensors with their shapes
    stream.py close TENSOR A B LIMIT   exit 0 when the f32 tensors of two streams are within LIMIT
"""
import argparse
import math
import random
import struct
import sys


def pack(v):
    if isinstance(v, bool):
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        return bytes([v]) if v < 128 else b"\xcf" + struct.pack(">Q", v)
    if isinstance(v, str):
        b = v.encode()
        return (bytes([0xA0 | len(b)]) if len(b) < 32 else b"\xdb" + struct.pack(">I", len(b))) + b
    if isinstance(v, list):
        return bytes([0x90 | len(v)]) + b"".join(pack(x) for x in v)
    return b"\xdf" + struct.pack(">I", len(v)) + b"".join(pack(k) + pack(x) for k, x in v.items())


CODES = ["f32", "f16", "bf16", "i8", "u8", "i32", "u32", "i64", "u64"]


def tensor(dtype, dim, payload):
    body = bytes([1, CODES.index(dtype), len(dim), 0, 0, 0, 0, 0])
    body += b"".join(struct.pack("<Q", d) for d in dim) + payload + b"\0" * (-len(payload) % 8)
    return b"\xc9" + struct.pack(">I", len(body)) + bytes([84]) + body


def record(kind, fields, tensors=()):
    head = b"\x93" + pack(kind) + pack(fields) + pack([t[0] for t in tensors])
    return head + b"".join(tensor(*t[1:]) for t in tensors)


def unpack(b, i):
    """One msgpack value at i: (value, next i). An ext of type 84 becomes (dtype, dim, payload)."""
    t = b[i]
    i += 1
    if t < 0x80:
        return t, i
    if t >= 0xE0:
        return t - 256, i
    if t < 0x90:
        return unpack_map(b, i, t & 15)
    if t < 0xA0:
        return unpack_list(b, i, t & 15)
    if t < 0xC0:
        n = t & 31
        return b[i:i + n].decode("utf-8", "replace"), i + n
    if t in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[t], i
    sizes = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I", 0xD9: ">B", 0xDA: ">H", 0xDB: ">I", 0xDC: ">H",
             0xDD: ">I", 0xDE: ">H", 0xDF: ">I", 0xC9: ">I"}
    if t in sizes:
        n = struct.unpack_from(sizes[t], b, i)[0]
        i += struct.calcsize(sizes[t])
        if t == 0xC9:
            return unpack_tensor(b[i + 1:i + 1 + n]), i + 1 + n
        if t >= 0xDE:
            return unpack_map(b, i, n)
        if t >= 0xDC:
            return unpack_list(b, i, n)
        v = b[i:i + n]
        return (v if t <= 0xC6 else v.decode("utf-8", "replace")), i + n
    f = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b",
         0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}[t]
    return struct.unpack_from(f, b, i)[0], i + struct.calcsize(f)


def unpack_list(b, i, n):
    out = []
    for _ in range(n):
        v, i = unpack(b, i)
        out.append(v)
    return out, i


def unpack_map(b, i, n):
    out = {}
    for _ in range(n):
        k, i = unpack(b, i)
        out[k], i = unpack(b, i)
    return out, i


def unpack_tensor(b):
    rank = b[2]
    dim = struct.unpack_from("<%dQ" % rank, b, 8)
    width = [4, 2, 2, 1, 1, 4, 4, 8, 8][b[1]]
    n = math.prod(dim) * width
    return CODES[b[1]], list(dim), b[8 + 8 * rank:8 + 8 * rank + n]


def records(b):
    i = 0
    while i < len(b):
        (kind, fields, names), i = unpack(b, i)
        tensors = {}
        for name in names:
            tensors[name], i = unpack(b, i)
        yield kind, fields, tensors


def document(index, spec, args):
    name, _, length = spec.rpartition("=")
    name = name or "d%d" % index
    length, _, common = length.partition("@")
    n, common = int(length), int(common or 0)
    r = random.Random("%d %d" % (args.seed, index))
    ids = [r.randrange(args.vocab) for _ in range(n)]
    r = random.Random("common")
    ids[:common] = [r.randrange(args.vocab) for _ in range(min(common, n))]
    fields = {"doc": index, "id": name}
    if name in args.cont:
        fields["cont"] = True
    out = record("DOC", fields)
    for n_pass in range(args.passes):
        at = 0
        while at < n or (at == 0 and n == 0):
            size = random.randint(1, 100) if args.chunk == "random" else int(args.chunk)
            part = ids[at:at + size]
            k = len(part)
            tensors = [("ids", "u32", [k], struct.pack("<%dI" % k, *part)),
                       ("span", "u64", [k, 2], b"".join(struct.pack("<QQ", at + j, at + j + 1)
                                                        for j in range(k)))]
            if args.noids:
                tensors = tensors[1:]
            out += record("CHUNK", {"doc": index, "pos": at, "pass": n_pass, "last": at + size >= n},
                          tensors)
            at += size
            if n == 0:
                break
    status = "open" if name in args.open else "ok"
    return out + record("DOCEND", {"doc": index, "status": status, "n_tok": n})


def make_tokens(args):
    out = record("statepipe", {"version": [1, 0], "content": "tokens", "program": "stream.py"})
    for i, spec in enumerate(args.spec):
        out += document(i + args.first, spec, args)
    sys.stdout.buffer.write(out + record("END", {"docs": len(args.spec), "errors": 0, "open": 0}))


def print_rows(name, b):
    for kind, fields, tensors in records(b):
        if kind == "DOC":
            print("document", fields["id"])
        if kind == "CHUNK" and name in tensors:
            _, dim, payload = tensors[name]
            width = len(payload) // dim[0] if dim[0] else 0
            for i in range(dim[0]):
                print(payload[i * width:(i + 1) * width].hex())


def floats(name, path):
    with open(path, "rb") as f:
        b = f.read()
    out = []
    for kind, _, tensors in records(b):
        if kind == "CHUNK" and name in tensors:
            out += struct.unpack("<%df" % (len(tensors[name][2]) // 4), tensors[name][2])
    return out


def close(name, a, b, limit):
    x, y = floats(name, a), floats(name, b)
    error = math.sqrt(sum((p - q) ** 2 for p, q in zip(x, y)) / sum(q * q for q in y))
    print("error %.2g over %d values" % (error, len(x)))
    return len(x) == len(y) > 0 and error <= float(limit)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("command", choices=["tokens", "rows", "records", "close"])
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--vocab", type=int, default=264)
    p.add_argument("--chunk", default="256")
    p.add_argument("--passes", type=int, default=1)
    p.add_argument("--open", action="append", default=[])
    p.add_argument("--cont", action="append", default=[])
    p.add_argument("--noids", action="store_true")
    p.add_argument("spec", nargs="*")
    args = p.parse_intermixed_args()
    random.seed(args.seed)
    if args.command == "tokens":
        make_tokens(args)
    elif args.command == "close":
        sys.exit(0 if close(*args.spec) else 1)
    elif args.command == "rows":
        print_rows(args.spec[0], sys.stdin.buffer.read())
    else:
        for kind, fields, tensors in records(sys.stdin.buffer.read()):
            shapes = {k: "%s%s" % (t[0], t[1]) for k, t in tensors.items()}
            print(kind, fields, shapes or "")


if __name__ == "__main__":
    main()
