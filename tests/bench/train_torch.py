#!/usr/bin/env python3
"""Training speed of PyTorch implementations of Mamba on the CPU, to set beside `train`.

    python3 tests/bench/train_torch.py [--impl mambapy|transformers] [--steps N] [--threads N]

Needs torch and mambapy (or transformers). One step is what train does in a step: forward,
cross-entropy on every token, backward, clipping, AdamW, on random ids, float32.
tests/bench/train.sh runs it with the same model and batch as train.
"""
import argparse
import time

import torch
from torch import nn


class Tagger(nn.Module):
    """Embedding, layers, final norm, labels."""

    def __init__(self, impl, vocab, d_model, n_layer, d_state, n_label):
        super().__init__()
        self.impl = impl
        if impl == "mambapy":
            from mambapy.mamba import Mamba, MambaConfig, RMSNorm
            self.embed = nn.Embedding(vocab, d_model)
            self.layers = Mamba(MambaConfig(d_model=d_model, n_layers=n_layer, d_state=d_state))
            self.norm = RMSNorm(d_model)
        else:
            from transformers import MambaConfig, MambaModel
            self.layers = MambaModel(MambaConfig(
                vocab_size=vocab, hidden_size=d_model, state_size=d_state,
                num_hidden_layers=n_layer, use_cache=False))
        self.head = nn.Linear(d_model, n_label)

    def forward(self, ids):
        if self.impl == "mambapy":
            return self.head(self.norm(self.layers(self.embed(ids))))
        return self.head(self.layers(ids).last_hidden_state)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--impl", choices=["mambapy", "transformers"], default="mambapy")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--documents", type=int, default=8)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--d-model", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--d-state", type=int, default=16)
    parser.add_argument("--labels", type=int, default=13)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Tagger(a.impl, a.vocab, a.d_model, a.layers, a.d_state, a.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    seconds, cpu_seconds = [], []
    for step in range(a.steps + 1):
        ids = torch.randint(0, a.vocab, (a.documents, a.length))
        target = torch.randint(0, a.labels, (a.documents * a.length,))
        start, cpu_start = time.monotonic(), time.process_time()
        loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step:  # the first one warms up
            seconds.append(time.monotonic() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
    median, cpu_median = (sorted(x)[len(x) // 2] for x in (seconds, cpu_seconds))
    n_tok = a.documents * a.length
    n = sum(p.numel() for p in model.parameters())
    print(f"{a.impl}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
          f"{n} parameters: {n_tok / median:.0f} tokens/s, "
          f"{n_tok / cpu_median:.0f} per second of CPU time "
          f"(median of {len(seconds)} steps of {n_tok} tokens)")


if __name__ == "__main__":
    main()
