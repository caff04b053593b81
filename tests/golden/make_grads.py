#!/usr/bin/env python3
"""Gradients of the tiny random models of make_models.py, by PyTorch's autograd in double precision.

    python3 tests/golden/make_grads.py [NAME...]

Needs torch, transformers and safetensors; the tests need only its output, which is committed:

    tests/golden/NAME/grads.safetensors

It holds of two sequences packed into one batch, the first 40 and the last 25 tokens of `a` in
vectors.safetensors, each read from an empty state:

    target      (65)   I32   next tokens (-1 at the end of each sequence), or random tags where the
                             model has a head "tag" (then -1 at every fifth token)
    loss        (1)    F32   mean cross-entropy over the targets that are not -1
    every parameter's name, with its shape: d loss / d parameter, F32
"""
import argparse
import os

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["mamba-odd", "mamba-bias", "falcon-odd", "tiny"]
CUT = 40


def write(name):
    directory = f"{HERE}/{name}"
    model = AutoModelForCausalLM.from_pretrained(directory).double()
    ids = load_file(f"{directory}/vectors.safetensors")["a.ids"].long()
    parts = [ids[:CUT], ids[CUT:]]
    hidden = [model.backbone(p[None]).last_hidden_state[0] for p in parts]
    grads = dict(model.named_parameters())
    if name == "tiny":
        weights = load_file(f"{directory}/model.safetensors")
        head = {k: weights[f"statepipe.tag.{k}"].double().requires_grad_()
                for k in ("weight", "bias")}
        grads.update({f"statepipe.tag.{k}": v for k, v in head.items()})
        logits = torch.cat(hidden) @ head["weight"].T + head["bias"]
        random = torch.Generator().manual_seed(7)
        target = torch.randint(0, len(head["bias"]), (len(ids),), generator=random)
        target[::5] = -1
    else:
        logits = model.lm_head(torch.cat(hidden))
        target = torch.cat([torch.cat([p[1:], torch.tensor([-1])]) for p in parts])
    loss = torch.nn.functional.cross_entropy(logits, target, ignore_index=-1)
    loss.backward()
    out = {n: (p.grad if p.grad is not None else torch.zeros_like(p)).float().contiguous()
           for n, p in grads.items()}
    out["target"] = target.int()
    out["loss"] = loss.detach().float().reshape(1)
    save_file(out, f"{directory}/grads.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", help="models to write (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in NAMES:
        if not args.name or name in args.name:
            write(name)


if __name__ == "__main__":
    main()
