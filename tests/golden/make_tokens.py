#!/usr/bin/env python3
"""Writes tests/golden/tokens: two small tokenizers and, for varied lines of text, how many tokens
Hugging Face's tokenizers makes of each and a hash of their ids and spans. Needs the Python package
tokenizers; the result is committed.

    make_tokens.py tests/golden/tokens
"""
import json
import os
import struct
import sys

from tokenizers import (AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

sys.path.insert(0, os.path.dirname(__file__))
import token_lines

LINES = 1500


def train_bpe(texts):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1500, initial_alphabet=alphabet, show_progress=False,
        special_tokens=["<|endoftext|>", "<|padding|>"]))
    tok.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    tok.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True, normalized=False),
                    AddedToken("<one two>", normalized=True),
                    AddedToken("<solo>", single_word=True, normalized=False),
                    AddedToken("<e\u0301t\u00e9>", normalized=True),
                    AddedToken("<pad>", lstrip=True, normalized=True)])
    return tok


def train_wordpiece(texts):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    tok.train_from_iterator(texts, trainers.WordPieceTrainer(
        vocab_size=1500, special_tokens=special, show_progress=False))
    tok.add_tokens([AddedToken("<one two>", normalized=True),
                    AddedToken("<\u00c9T\u00c9>", normalized=True),
                    AddedToken("<mask>", lstrip=True, normalized=False)])
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tok


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def summary(tok, text):
    """Number of tokens, and a hash of (id u32, start u64, end u64) each, little-endian."""
    e = tok.encode(text, add_special_tokens=False)
    spans = token_lines.byte_spans(text, e.offsets)
    packed = b"".join(struct.pack("<IQQ", i, a, b) for i, (a, b) in zip(e.ids, spans))
    return [len(e.ids), "%016x" % fnv(packed)]


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    corpus = [s.replace("\\n", "\n") for s in token_lines.SAMPLES] * 3 + token_lines.lines(400, 7)
    made = {"bpe": train_bpe(corpus), "wordpiece": train_wordpiece(corpus)}
    for name, tok in made.items():
        with open(f"{out}/{name}.json", "w", encoding="utf-8") as f:
            json.dump(json.loads(tok.to_str()), f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
    with open(f"{out}/lines.jsonl", "w", encoding="utf-8") as f:
        for text in token_lines.lines(LINES, 3):
            if len(text) > 300:
                text = text[:300]
            row = {"text": text, **{name: summary(tok, text) for name, tok in made.items()}}
            f.write(json.dumps(row, ensure_ascii=not text.isprintable(),
                               separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
