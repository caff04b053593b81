#!/usr/bin/env python3
"""Give the convolutions of a model more taps, all zero: the same model, which may learn to look
further back.

    widen.py MODEL CONFIG OUT

CONFIG is the config.json of OUT, with a larger conv_kernel. Late tags (delay) are carried on by the
convolutions: n layers of k taps reach n (k - 1) tokens. Standard library only; weights are f32.
"""
import json
import pathlib
import shutil
import struct
import sys


def read(path):
    data = path.read_bytes()
    n = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n])
    header.pop("__metadata__", None)
    return {k: (v, data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]])
            for k, v in header.items()}


def write(path, tensors):
    header, at = {}, 0
    for name, (entry, data) in tensors.items():
        header[name] = dict(entry, data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in tensors.values()))


def widen(entry, data, taps):
    d_inner, one, had = entry["shape"]
    if entry["dtype"] != "F32" or taps < had:
        sys.exit(f"widen: a convolution of {had} taps in {entry['dtype']} cannot have {taps}")
    rows = [data[i * 4 * had:(i + 1) * 4 * had] for i in range(d_inner)]
    return dict(entry, shape=[d_inner, one, taps]), b"".join(bytes(4 * (taps - had)) + r for r in rows)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    model, config, out = map(pathlib.Path, sys.argv[1:])
    taps = json.loads(config.read_text())["conv_kernel"]
    tensors = {}
    for name, (entry, data) in read(model / "model.safetensors").items():
        if name.startswith("statepipe."):
            continue  # heads of another task
        wide = name.endswith("conv1d.weight")
        tensors[name] = widen(entry, data, taps) if wide else (entry, data)
    out.mkdir(parents=True, exist_ok=True)
    write(out / "model.safetensors", tensors)
    shutil.copy(model / "tokenizer.json", out)
    # A model of its layers alone: heads begin fresh with `train --config`.
    layers = json.loads(config.read_text())
    layers["statepipe"] = {"format": 1}
    (out / "config.json").write_text(json.dumps(layers, indent=1) + "\n")


if __name__ == "__main__":
    main()
