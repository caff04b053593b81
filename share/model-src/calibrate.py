#!/usr/bin/env python3
"""Add to the bias of the tags that begin a field: the price of missing one, against that of inventing one.

    calibrate.py MODEL_DIR FIELD=X...

A tagger that has learned to be silent where it is not sure finds too few years; how much to add is
chosen on synthetic CVs. Standard library only; weights are f32.
"""
import json
import pathlib
import struct
import sys


def main():
    model = pathlib.Path(sys.argv[1])
    config = json.loads((model / "config.json").read_text())
    name = config["statepipe"]["default_head"]
    labels = config["statepipe"]["heads"][name]["labels"]
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    n_header = struct.unpack_from("<Q", data)[0]
    entry = json.loads(data[8:8 + n_header])[f"statepipe.{name}.bias"]
    if entry["dtype"] != "F32" or entry["shape"] != [len(labels)]:
        sys.exit(f"calibrate: {path}: the bias of {name} is not f32 ({len(labels)})")
    for field, amount in (a.split("=") for a in sys.argv[2:]):
        for i, label in enumerate(labels):
            prefix, _, of = label.partition("-")
            if of == field and prefix != "I":  # where a span begins; its length is sure enough
                at = 8 + n_header + entry["data_offsets"][0] + 4 * i
                value = struct.unpack_from("<f", data, at)[0]
                struct.pack_into("<f", data, at, value + float(amount))
    path.write_bytes(data)


main()
