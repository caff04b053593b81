#!/bin/bash
# Training speed: train, and PyTorch with the same model and batch beside it.
#
#     tests/bench/train.sh [STEPS]      PYTHON names a Python with torch and mambapy
#
# The model: d_model 192, 4 layers, 4096 tokens, 13 labels; batches of 8192 tokens; float32.
# CPU time is told too, as it does not depend on what else the machine does.
set -eu
cd "$(dirname "$0")/../.."
bin=${BUILD:-build}/bin
steps=${1:-10}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/config.json" <<'END'
{"model_type": "mamba", "architectures": ["MambaForCausalLM"], "hidden_size": 192, "num_hidden_layers": 4,
 "state_size": 16, "conv_kernel": 4, "intermediate_size": 384, "time_step_rank": 12, "vocab_size": 4096,
 "layer_norm_epsilon": 1e-5, "use_bias": false, "use_conv_bias": true, "tie_word_embeddings": true,
 "statepipe": {"format": 1, "tokenizer": "bytes", "default_head": "tags", "passes": 1, "delay": 0, "heads": {
  "tags": {"type": "tag", "labels": ["O", "N-institution", "B-institution", "S-institution", "I-institution",
   "N-degree", "B-degree", "S-degree", "I-degree", "N-year", "B-year", "S-year", "I-year"]}}}}
END
"$bin/mkresume" --seed 1 -n $((steps * 6)) | "$bin/tokenize" -m bytes --jsonl >"$dir/tokens"
TIMEFORMAT='train: %U s of CPU time in all'
time "$bin/train" --config "$dir/config.json" --steps "$steps" -v -o "$dir/out" "$dir/tokens" 2>&1 |
    awk '/tokens\/s/ { for (i = 2; i <= NF; i++) if ($i == "tokens/s") print $(i - 1) }' | sort -n |
    awk '{ x[NR] = $1 } END { print "train: " x[int((NR + 1) / 2)] " tokens/s (median of " NR " steps)" }'
"${PYTHON:-python3}" tests/bench/train_torch.py --impl mambapy --steps 2
