#!/usr/bin/env python3
"""Bad input for the suites, the same at every run.

    damage.py cuts FILE N CMD...        CMD on the first part of FILE, N cuts spread over it
    damage.py flips FILE N CMD...       CMD on FILE with one bit flipped, N times
    damage.py nan MODEL_DIR TENSOR OUT  a copy of a model with a NaN in the tensor
    damage.py poison MODEL_DIR ID OUT   a copy of a model whose first layer gives NaN or infinity
                                        for documents with this token id, and no others
    damage.py pty CMD...                CMD with a terminal as standard output

CMD reads the damaged bytes at standard input, or from a file where an argument is @. Prints one
line per exit status seen, "STATUS COUNT", and what any run that hung or died of a signal said.
"""
import collections
import json
import os
import pty
import random
import shutil
import struct
import subprocess
import sys
import tempfile

SECONDS = 20  # a run that takes longer hangs


def run(cmd, data):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        cmd = [f.name if c == "@" else c for c in cmd]
        with open(f.name, "rb") as stdin:
            try:
                done = subprocess.run(cmd, stdin=stdin, stdout=subprocess.DEVNULL,
                                      stderr=subprocess.PIPE, timeout=SECONDS)
                return done.returncode, done.stderr
            except subprocess.TimeoutExpired:
                return "hangs", b""


def survey(inputs, cmd):
    seen = collections.Counter()
    for what, data in inputs:
        status, stderr = run(cmd, data)
        seen[status] += 1
        if status == "hangs" or status < 0 or status >= 99:
            print(f"{what}: {status}: {stderr[-600:].decode(errors='replace')}")
        elif status != 0 and not stderr.strip():
            print(f"{what}: {status} without a word")
    for status in sorted(seen, key=str):
        print(status, seen[status])


def cuts(data, n):
    for i in range(n):
        at = len(data) * i // n if i % 2 else min(len(data) - 1, i * 7)
        yield f"cut at {at}", data[:at]


def flips(data, n):
    choice = random.Random(1)
    for _ in range(n):
        # half of them near the start, where the structure is
        at = choice.randrange(len(data) if choice.random() < 0.5 else min(len(data), 1500))
        bad = bytearray(data)
        bad[at] ^= 1 << choice.randrange(8)
        yield f"bit flipped at {at}", bytes(bad)


def put_nan(model, tensor, out):
    shutil.copytree(model, out)
    path = f"{out}/model.safetensors"
    with open(path, "r+b") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        f.seek(8 + size + header[tensor]["data_offsets"][0])
        f.write(struct.pack("<f", float("nan")))


def poison(model, token, out):
    """Only this token's embedding has a first element, and that is blown up by the first norm."""
    shutil.copytree(model, out)
    path = f"{out}/model.safetensors"
    with open(path, "r+b") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(size))
        rows, columns = header["backbone.embeddings.weight"]["shape"]
        at = 8 + size + header["backbone.embeddings.weight"]["data_offsets"][0]
        for row in range(rows):
            f.seek(at + 4 * columns * row)
            f.write(struct.pack("<f", row == int(token)))
        f.seek(8 + size + header["backbone.layers.0.norm.weight"]["data_offsets"][0])
        f.write(struct.pack("<f", 1e38))


def on_terminal(cmd):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp(cmd[0], cmd)
    said = b""
    while True:
        try:
            more = os.read(fd, 4096)
        except OSError:
            break
        if not more:
            break
        said += more
    sys.stdout.write(said.decode(errors="replace").replace("\r", ""))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def main():
    what, args = sys.argv[1], sys.argv[2:]
    if what in ("cuts", "flips"):
        with open(args[0], "rb") as f:
            data = f.read()
        survey({"cuts": cuts, "flips": flips}[what](data, int(args[1])), args[2:])
    elif what == "nan":
        put_nan(*args)
    elif what == "poison":
        poison(*args)
    else:
        on_terminal(args)


main()
