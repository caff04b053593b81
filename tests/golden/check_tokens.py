#!/usr/bin/env python3
"""Compares tokenize with Hugging Face's tokenizers: ids and spans, line by line.

    check_tokens.py [--lines N] [--seed N] [--text FILE] [--shrink] TOKENIZER...

TOKENIZER is a tokenizer.json or a vocab.txt (BERT uncased). Needs the Python packages tokenizers
and msgpack; run by hand, the tests use the small vectors of make_tokens.py."""
import argparse
import json
import os
import struct
import subprocess
import sys

import msgpack
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

sys.path.insert(0, os.path.dirname(__file__))
import token_lines

BUILD = os.environ.get("STATEPIPE_BUILD", os.path.join(os.path.dirname(__file__), "../../build"))


def reference(path):
    if not path.endswith(".txt"):
        return Tokenizer.from_file(path)
    lines = open(path, encoding="utf-8", newline="\n")
    vocab = {line.rstrip("\n"): i for i, line in enumerate(lines)}
    tok = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tok


def tensor(ext):
    dtype, rank = ext.data[1], ext.data[2]
    dims = struct.unpack_from("<%dQ" % rank, ext.data, 8)
    n = 1
    for d in dims:
        n *= d
    letter = {6: "I", 8: "Q", 4: "B"}[dtype]
    return struct.unpack_from("<%d%s" % (n, letter), ext.data, 8 + 8 * rank)


def ours(path, texts):
    """Ids and spans of each text, by tokenize --jsonl."""
    jsonl = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    run = subprocess.run([BUILD + "/bin/tokenize", "--jsonl", "--bare", "-m", path],
                         input=jsonl.encode(), stdout=subprocess.PIPE, check=True)
    unpacker = msgpack.Unpacker(strict_map_key=False, max_ext_len=1 << 27, max_buffer_size=1 << 31)
    unpacker.feed(run.stdout)
    out = []
    for record in unpacker:
        tensors = {name: tensor(unpacker.unpack()) for name in record[2]}
        if record[0] == "DOC":
            out.append(([], []))
        elif record[0] == "CHUNK":
            out[-1][0].extend(tensors["ids"])
            out[-1][1].extend(tensors["span"])
    return [(ids, [list(s) for s in zip(spans[::2], spans[1::2])]) for ids, spans in out]


def theirs(tok, text):
    e = tok.encode(text, add_special_tokens=False)
    return list(e.ids), token_lines.byte_spans(text, e.offsets)


def differs(path, tok, text):
    return ours(path, [text])[0] != theirs(tok, text)


def shrink(path, tok, text):
    """A shorter text that still differs."""
    step = len(text) // 2
    while step:
        at = 0
        while at < len(text):
            shorter = text[:at] + text[at + step:]
            if differs(path, tok, shorter):
                text = shorter
            else:
                at += step
        step //= 2
    return text


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--lines", type=int, default=12000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--text", action="append", default=[])
    p.add_argument("--shrink", action="store_true")
    p.add_argument("tokenizer", nargs="+")
    a = p.parse_args()
    texts = token_lines.lines(a.lines, a.seed)
    for name in a.text:
        texts += open(name, encoding="utf-8", newline="\n").read().split("\n")
    failed = 0
    for path in a.tokenizer:
        tok = reference(path)
        got = ours(path, texts)
        bad = [t for t, g in zip(texts, got) if g != theirs(tok, t)]
        n_token = sum(len(g[0]) for g in got)
        print(f"{path}: {len(texts)} lines, {n_token} tokens, {len(bad)} lines differ")
        failed += len(bad) + (len(got) != len(texts))
        for t in bad[:12 if a.shrink else 3]:
            if a.shrink:
                t = shrink(path, tok, t)
            print("  text  ", ascii(t))
            print("  ours  ", ours(path, [t])[0])
            print("  theirs", theirs(tok, t))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
