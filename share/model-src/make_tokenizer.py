#!/usr/bin/env python3
"""Train the byte-level BPE of the shipped tagger over synthetic CVs.

    mkresume -n 30000 --seed 77 --split train --text | make_tokenizer.py VOCAB_SIZE tokenizer.json

Needs Hugging Face's `tokenizers` (not needed to build or to run statepipe: the result is
committed). Pieces follow GPT-NeoX's rule; a year of the last decades comes out as one token.
"""
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


def main():
    size, path = int(sys.argv[1]), sys.argv[2]
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    text = sys.stdin.buffer.read().decode("utf-8")
    tok.train_from_iterator(text.split("\f"), trainer)
    tok.save(path)


main()
