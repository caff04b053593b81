#!/usr/bin/env python3
"""Texts with choices, scored by transformers as evaluation harnesses do it.

    python3 tests/golden/make_choices.py
    python3 tests/golden/make_choices.py DIR TOKENIZER LAMBADA N

Needs torch, transformers, tokenizers and safetensors; the tests need only its output. The first form
writes tests/golden/choices, which is committed: a small random MambaForCausalLM (config.json,
model.safetensors), tests/golden/tokens/bpe.json as its tokenizer.json, and items.jsonl. The second
writes the same to DIR, with the tokenizer.json given and the first N texts of LAMBADA (JSON lines
with "text"), whose last word is the choice: what tests/eval/lambada.py compares at length.

A line of items.jsonl: {"text", "choices": [...], "loglik": [...], "greedy": [...]}. The protocol is
that of lm-evaluation-harness: white space at the end of the text goes over to the choice; tokens of
text and choice are made together, and those behind as many as the text alone has are the choice's.
An empty text is the model's bos_token_id, else its eos_token_id, and a choice's tokens those of it alone.
To every item a choice is added that the model itself goes on with, so that greedy ones are there.
"""
import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import MambaConfig, MambaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB = 1536  # padded: more than the tokenizer has
TEXTS = [
    ("The quick brown fox jumps over the", [" lazy dog", " moon"]),
    ("She took her degree at the University of ", ["Oslo", "  Z\u00fcrich", "the town"]),
    ("na\u00efve caf\u00e9, 2014\u2013", ["2018", "present"]),
    ("\u65e5\u672c\u8a9e\u306e", ["\u6587", "\U0001f600\U0001f600"]),
    ("one\ntwo\n", ["three\n", "\tfour"]),
    ("jum", []),
    ("x " * 300, ["x", "y"]),
    ("", ["The quick", " She"]),
    (" ", ["She", "<|endoftext|>"]),
]


def build(vocab_size, d_model, n_layer, seed):
    config = MambaConfig(hidden_size=d_model, num_hidden_layers=n_layer, state_size=8,
                         conv_kernel=4, time_step_rank=4, vocab_size=vocab_size,
                         tie_word_embeddings=True, residual_in_fp32=True, use_cache=False)
    torch.manual_seed(seed)
    model = MambaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("A_log"):
                p.uniform_(-1.5, 2.5)
            elif name.endswith("dt_proj.bias"):
                p.uniform_(-5.0, 1.0)
            elif name.endswith(".D") or "norm" in name:
                p.uniform_(0.5, 1.5)
            elif "embeddings" in name:
                p.normal_(0, 0.5)
            else:
                p.normal_(0, 1.0 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.2)
    return model


@torch.no_grad()
def logprobs(model, ids):
    """Row i: of the token that follows ids[i]."""
    return torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), dim=-1)


def encode_text(model, tokenizer, stripped):
    """The tokens to read, and how many of them are the text's own."""
    own = tokenizer.encode(stripped, add_special_tokens=False).ids
    bos, eos = model.config.bos_token_id, model.config.eos_token_id
    return own or [bos if bos is not None else eos], len(own)


def encode_pair(model, tokenizer, text, choice):
    stripped = text.rstrip()
    choice = text[len(stripped):] + choice
    context, n = encode_text(model, tokenizer, stripped)
    both = tokenizer.encode(stripped + choice, add_special_tokens=False).ids
    return context, both[n:]


def score(model, tokenizer, text, choice):
    context, tail = encode_pair(model, tokenizer, text, choice)
    rows = logprobs(model, context + tail)[len(context) - 1:len(context) + len(tail) - 1]
    loglik = sum(rows[i, t].item() for i, t in enumerate(tail))
    return loglik, all(rows[i].argmax().item() == t for i, t in enumerate(tail))


def own_choice(model, tokenizer, text, n_tok):
    ids, _ = encode_text(model, tokenizer, text.rstrip())
    n = len(ids)
    for _ in range(n_tok):
        ids.append(logprobs(model, ids)[-1].argmax().item())
    return tokenizer.decode(ids[n:], skip_special_tokens=False)


def write(directory, tokenizer_path, texts, vocab_size, d_model, n_layer):
    os.makedirs(directory, exist_ok=True)
    tokenizer = Tokenizer.from_file(tokenizer_path)
    model = build(vocab_size, d_model, n_layer, 7)
    shutil.copyfile(tokenizer_path, f"{directory}/tokenizer.json")
    save_file({n: p.detach().contiguous() for n, p in model.state_dict().items()
               if n != "lm_head.weight"}, f"{directory}/model.safetensors",
              metadata={"format": "pt"})
    config = model.config.to_dict()
    keep = ["model_type", "hidden_size", "num_hidden_layers", "state_size", "conv_kernel",
            "intermediate_size", "expand", "time_step_rank", "vocab_size", "layer_norm_epsilon",
            "use_bias", "use_conv_bias", "tie_word_embeddings", "hidden_act", "bos_token_id",
            "eos_token_id", "residual_in_fp32"]
    with open(f"{directory}/config.json", "w") as f:
        json.dump({"architectures": ["MambaForCausalLM"], "torch_dtype": "float32",
                   **{k: config[k] for k in keep}}, f, indent=1)
        f.write("\n")
    with open(f"{directory}/items.jsonl", "w") as f:
        for i, (text, choices) in enumerate(texts):
            choices = choices + [own_choice(model, tokenizer, text, 1 + i % 3)]
            scores = [score(model, tokenizer, text, c) for c in choices]
            json.dump({"text": text, "choices": choices, "loglik": [s[0] for s in scores],
                       "greedy": [s[1] for s in scores]}, f)
            f.write("\n")


def main():
    if len(sys.argv) == 1:
        write(f"{HERE}/choices", f"{HERE}/tokens/bpe.json", TEXTS, VOCAB, 16, 2)
        return
    directory, tokenizer, lambada, n = sys.argv[1:]
    with open(lambada) as f:
        lines = [json.loads(line)["text"] for line in f][:int(n)]
    texts = [(t.rsplit(" ", 1)[0], [" " + t.rsplit(" ", 1)[1]]) for t in lines]
    write(directory, tokenizer, texts, 50280, 64, 4)


main()
