#!/usr/bin/env python3
"""Tiny random models in Hugging Face's layout, and what transformers computes with them.

    python3 tests/golden/make_models.py [--full DIR] [NAME...]

Needs torch, transformers and safetensors; the tests need only its output, which is committed:

    tests/golden/NAME/config.json, model.safetensors (or sharded, with its index) and
    vectors.safetensors

vectors.safetensors of a model holds two sequences, `a` of 65 tokens and `b` of 1000. All are F32
but the ids:

    a.ids          (65)            U32
    a.hidden.K     (65, d_model)   K = 0: embeddings, the input of layer 0; K > 0: the output of
                                   layer K - 1, the input of layer K; K = n_layer: before the
                                   final norm
    a.logits       (65, vocab)     of the language model's head
    a.tag          (65, n_label)   scores of the head "tag", where the model has one
    b.ids          (1000)          U32
    b.hidden.K     (8, d_model)    the last 8 rows, K = 0 .. n_layer
    b.logits       (8, vocab)      the last 8 rows

The model is causal: the first L rows of `a` are the answer for its first L tokens, so one sequence
serves L = 1, 2, 3, 63, 64 and 65. --full DIR writes every row of `b` too, under DIR; each file then
has some MB and is not committed. Everything is seeded: a second run writes the same bytes.

Weights are drawn wide (decay rates from fast to slow, biases that are not zero), so that a mistake
in any term shows. bf16 models are computed in float32 from their rounded weights.
"""
import argparse
import glob
import json
import os

import torch
from safetensors.torch import save_file
from transformers import FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
FIELDS = ["institution", "degree", "year"]
LABELS = ["O"] + [f"{p}-{f}" for p in "NBSI" for f in FIELDS]

# name: architecture, (d_model, d_inner, layers, d_state, d_conv, dt_rank, vocab), tied, bias,
# conv_bias, extra
MODELS = {
    "mamba-odd": ("mamba", (33, 70, 3, 5, 3, 3, 97), True, False, True, {}),
    "mamba-bias": ("mamba", (24, 48, 2, 16, 4, 5, 260), False, True, True, {"shards": 3}),
    "mamba-bf16": ("mamba", (48, 96, 2, 16, 4, 3, 120), True, False, True,
                   {"dtype": torch.bfloat16}),
    "mamba-deep": ("mamba", (16, 40, 7, 4, 2, 1, 130), True, True, False, {}),
    "falcon-odd": ("falcon_mamba", (23, 37, 3, 8, 4, 7, 131), False, False, True, {}),
    "falcon-tied": ("falcon_mamba", (32, 64, 2, 16, 3, 2, 100), True, True, False, {}),
    "tiny": ("mamba", (32, 64, 2, 8, 4, 2, 264), True, False, True, {"tag": True}),
}


def build(arch, dims, tied, bias, conv_bias, seed):
    d_model, d_inner, n_layer, d_state, d_conv, dt_rank, vocab = dims
    cls, model_cls = ((MambaConfig, MambaForCausalLM) if arch == "mamba"
                      else (FalconMambaConfig, FalconMambaForCausalLM))
    config = cls(hidden_size=d_model, num_hidden_layers=n_layer, state_size=d_state,
                 conv_kernel=d_conv, time_step_rank=dt_rank, vocab_size=vocab, use_bias=bias,
                 use_conv_bias=conv_bias, tie_word_embeddings=tied, residual_in_fp32=True,
                 use_cache=False)
    config.intermediate_size = d_inner  # not expand * hidden_size: readers must not recompute it
    torch.manual_seed(seed)
    model = model_cls(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            fan_in = p.shape[-1]
            if name.endswith("A_log"):
                p.uniform_(-1.5, 2.5)
            elif name.endswith("dt_proj.bias"):
                p.uniform_(-5.0, 1.0)
            elif name.endswith(".D") or "norm" in name:
                p.uniform_(0.5, 1.5)
            elif "embeddings" in name or "lm_head" in name:
                p.normal_(0, 0.5)
            else:
                p.normal_(0, 1.0 / fan_in ** 0.5 if p.dim() > 1 else 0.2)
    return model


@torch.no_grad()
def run(model, ids, last, tag):
    """Hidden states between layers and logits: the last rows, or all with last 0."""
    states, hooks = [], []
    layers = model.backbone.layers
    hooks.append(layers[0].register_forward_pre_hook(
        lambda _m, args, kwargs: states.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True))
    for layer in layers:
        hooks.append(layer.register_forward_hook(
            lambda _m, _i, out: states.append(out[0] if isinstance(out, tuple) else out)))
    logits = model(ids[None]).logits[0].float()
    for hook in hooks:
        hook.remove()
    out = {f"hidden.{k}": h.reshape(len(ids), -1)[-last:].clone() for k, h in enumerate(states)}
    out["logits"] = logits[-last:].clone()
    if tag is not None:
        scores = model.backbone.norm_f(states[-1][0]) @ tag["weight"].T + tag["bias"]
        out["tag"] = scores[-last:].clone()
    out["ids"] = ids.to(torch.uint32)
    return {k: v.contiguous() for k, v in out.items()}


def save_weights(directory, tensors, shards):
    if shards <= 1:
        save_file(tensors, f"{directory}/model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for i in range(shards):
        part = names[i::shards]
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({n: tensors[n] for n in part}, f"{directory}/{file}", metadata={"format": "pt"})
        weight_map.update({n: file for n in part})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    with open(f"{directory}/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {"total_size": size}, "weight_map": weight_map}, f, indent=1,
                  sort_keys=True)
        f.write("\n")


def write(name, seed, full):
    arch, dims, tied, bias, conv_bias, extra = MODELS[name]
    dtype = extra.get("dtype", torch.float32)
    model = build(arch, dims, tied, bias, conv_bias, seed)
    model = model.to(dtype).float()  # what the stored weights say
    tensors = {n: p.detach().to(dtype).contiguous() for n, p in model.state_dict().items()
               if not (tied and n == "lm_head.weight")}
    tag = None
    if extra.get("tag"):
        n = len(LABELS)
        tag = {"weight": torch.randn(n, dims[0]) * 0.5, "bias": torch.randn(n),
               "trans": torch.randn(n + 2, n)}
        tensors.update({f"statepipe.tag.{k}": v for k, v in tag.items()})
    config = model.config.to_dict()
    keep = ["model_type", "architectures", "hidden_size", "num_hidden_layers", "state_size",
            "conv_kernel", "intermediate_size", "expand", "time_step_rank", "vocab_size",
            "layer_norm_epsilon", "mixer_rms_eps", "use_bias", "use_conv_bias",
            "tie_word_embeddings", "hidden_act", "bos_token_id", "eos_token_id",
            "time_step_floor", "time_step_limit", "residual_in_fp32"]
    config = {k: config[k] for k in keep if k in config}
    config["architectures"] = [type(model).__name__]
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    config.setdefault("time_step_limit", [0.0, float("inf")])  # written as a bare Infinity
    if tag is not None:
        config["statepipe"] = {
            "format": 1, "tokenizer": "bytes", "default_head": "tag", "passes": 1, "delay": 0,
            "heads": {"lm": {"type": "lm"}, "tag": {"type": "tag", "labels": LABELS}}}

    directory = f"{HERE}/{name}"
    os.makedirs(directory, exist_ok=True)
    for old in glob.glob(f"{directory}/model*"):  # other scripts' files stay
        os.remove(old)
    with open(f"{directory}/config.json", "w") as f:
        json.dump(config, f, indent=1)
        f.write("\n")
    save_weights(directory, tensors, extra.get("shards", 1))

    random = torch.Generator().manual_seed(seed + 1)
    vectors = {}
    for key, n, last in (("a", 65, 0), ("b", 1000, 0 if full else 8)):
        ids = torch.randint(0, dims[6], (n,), generator=random)
        vectors.update({f"{key}.{k}": v for k, v in run(model, ids, last, tag).items()})
    out = directory
    if full:
        out = f"{full}/{name}"
        os.makedirs(out, exist_ok=True)
    save_file(vectors, f"{out}/vectors.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", metavar="DIR",
                        help="also write vectors with every row of `b` under DIR")
    parser.add_argument("name", nargs="*", help="models to write (default: all)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for i, name in enumerate(MODELS):
        if not args.name or name in args.name:
            write(name, 1000 + 10 * i, args.full)


if __name__ == "__main__":
    main()
