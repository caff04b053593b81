#!/usr/bin/env python3
"""A model made from others without training.

    vary.py MODEL OUT --mean OTHER...       the mean of its weights and those of OTHER..., of one shape
    vary.py MODEL OUT --transitions FACTOR  its tags' transitions times FACTOR
    vary.py MODEL OUT --doubt SCORES        how often which records are wrong, as `score.py --doubt`
                                            counted of 20 or more, in OUT's config.json; no
                                            calibration
    vary.py MODEL OUT --calibration SCORES  what `score.py --calibration` fitted, there

Standard library only; weights are f32.
"""
import argparse
import array
import json
import pathlib
import re
import shutil
import struct
import sys

FEW = 20  # records that say nothing about their kind yet


def read(model):
    """{name: (entry of the header, floats)}"""
    data = (model / "model.safetensors").read_bytes()
    n = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    if any(entry["dtype"] != "F32" for entry in header.values()):
        sys.exit(f"vary: {model}: weights are not f32")
    body = memoryview(data)[8 + n:]
    return {name: (entry, array.array("f", body[slice(*entry["data_offsets"])].tobytes()))
            for name, entry in header.items()}


def write(model, tensors):
    header, at = {}, 0
    for name, (entry, values) in tensors.items():
        header[name] = dict(entry, data_offsets=[at, at + 4 * len(values)])
        at += 4 * len(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (model / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(v.tobytes() for _, v in tensors.values()))


def mean(models):
    columns = {name: [m[name][1] for m in models] for name in models[0]}
    return {name: (models[0][name][0], array.array("f", (sum(v) / len(models) for v in zip(*of))))
            for name, of in columns.items()}


def doubt(scores):
    lines = re.findall(r"^doubt +(\S+) +(\d+) records +wrong ([\d.]+)$", scores.read_text(), re.M)
    counted = {kind: float(wrong) for kind, n, wrong in lines
               if int(n) >= FEW and kind != "institution+degree+year"}
    if not counted:
        print(f"vary: {scores} has fewer than {FEW} records of every kind that lacks a field: "
              "nothing is doubted", file=sys.stderr)
    return counted


def calibration(scores):
    line = r"^calibration +slope (-?[\d.]+) +intercept (-?[\d.]+)$"
    found = re.search(line, scores.read_text(), re.M)
    if not found:
        sys.exit(f"vary: {scores} is not what score.py --calibration prints")
    return [float(found[1]), float(found[2])]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--mean", nargs="+", metavar="OTHER", type=pathlib.Path)
    how.add_argument("--transitions", metavar="FACTOR", type=float)
    how.add_argument("--doubt", metavar="SCORES", type=pathlib.Path)
    how.add_argument("--calibration", metavar="SCORES", type=pathlib.Path)
    args = parser.parse_args()
    config = json.loads((args.model / "config.json").read_text())
    tensors = read(args.model)
    if args.mean:
        tensors = mean([tensors, *map(read, args.mean)])
    elif args.doubt:
        config["statepipe"]["heads"]["tag"]["doubt"] = doubt(args.doubt)
        config["statepipe"]["heads"]["tag"].pop("calibration", None)
    elif args.calibration:
        config["statepipe"]["heads"]["tag"]["calibration"] = calibration(args.calibration)
    else:
        tensors = {name: (entry, array.array("f", (args.transitions * v for v in values))
                          if name.endswith(".trans") else values)
                   for name, (entry, values) in tensors.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    write(args.out, tensors)
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if args.out.resolve() != args.model.resolve():
        shutil.copy(args.model / "tokenizer.json", args.out)


main()
