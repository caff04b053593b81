#!/usr/bin/env python3
"""A model with other weights for its tags' transitions, or averaged with another one.

    vary.py MODEL OUT --transitions FACTOR    transitions times FACTOR
    vary.py MODEL OUT --average OTHER W       (1 - W) MODEL + W OTHER, of the same shape

To compare such with `experiments`. Standard library only; weights are f32.
"""
import argparse
import array
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "share" / "model-src"))
import widen  # noqa: E402


def floats(tensor):
    entry, data = tensor
    if entry["dtype"] != "F32":
        sys.exit("vary: weights are not f32")
    return array.array("f", data)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--transitions", type=float)
    how.add_argument("--average", nargs=2, metavar=("OTHER", "W"))
    args = parser.parse_args()
    tensors = widen.read(args.model / "model.safetensors")
    other = widen.read(pathlib.Path(args.average[0]) / "model.safetensors") if args.average else {}
    for name, (entry, data) in tensors.items():
        value = floats((entry, data))
        if args.average:
            w = float(args.average[1])
            value = array.array("f", ((1 - w) * a + w * b for a, b in zip(value, floats(other[name]))))
        elif name.endswith(".trans"):
            value = array.array("f", (args.transitions * v for v in value))
        tensors[name] = entry, value.tobytes()
    args.out.mkdir(parents=True, exist_ok=True)
    widen.write(args.out / "model.safetensors", tensors)
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(args.model / name, args.out)


main()
