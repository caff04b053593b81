#!/bin/bash
# Training speed: train, and PyTorch with the same shapes and batch beside it, on 1 and 2 threads.
#
#     tests/bench/train.sh [STEPS]      PYTHON names a Python with torch and mambapy
#
# The shapes are those of the shipped model, the batch is that of its recipe, in float32. CPU time
# is told too, as it does not depend on what else the machine does.
set -eu
cd "$(dirname "$0")/../.."
bin=${BUILD:-build}/bin
steps=${1:-20}
model=share/model
length=1024
batch=$((2 * length))
left_out=
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# A number or the labels' count of the model's config.
config() {
    python3 - "$model/config.json" "$1" <<'PY'
import json, sys
c = json.load(open(sys.argv[1]))
p = c["statepipe"]
print(len(p["heads"][p["default_head"]]["labels"]) if sys.argv[2] == "labels" else c[sys.argv[2]])
PY
}

"$bin/mkresume" --seed 1 -n $((steps * 10)) | "$bin/tokenize" -m "$model" --jsonl >"$dir/tokens"
for threads in 1 2; do
    [ "$threads" -le "$(nproc)" ] || continue
    TIMEFORMAT='%U %S'
    { time "$bin/train" --config "$model/config.json" --steps "$steps" --batch "$batch" \
        --max-len "$length" -j "$threads" -v -o "$dir/out-$threads" "$dir/tokens" \
        >"$dir/log" 2>&1; } 2>"$dir/cpu" ||
        { cat "$dir/log" >&2; exit 1; }
    awk '/tokens\/s/ { for (i = 2; i <= NF; i++) if ($i == "tokens/s") print $(i - 1) }' \
        "$dir/log" |
        sort -n | awk -v threads="$threads" -v cpu="$(cat "$dir/cpu")" -v n=$((steps * batch)) \
            -v steps="$steps" '
            { x[NR] = $1 }
            END {
                split(cpu, s, " ")
                printf "train, %d thread(s): %d tokens/s, %d per second of CPU time (median of " \
                    "%d steps of at most %d tokens)\n", threads, x[int((NR + 1) / 2)],
                    n / (s[1] + s[2]), steps, n / steps }'
    if "${PYTHON:-python3}" -c 'import torch, mambapy' 2>/dev/null; then
        "${PYTHON:-python3}" tests/bench/train_torch.py --impl mambapy --steps 2 \
            --threads "$threads" --documents $((batch / length)) --length "$length" \
            --vocab "$(config vocab_size)" \
            --d-model "$(config hidden_size)" --layers "$(config num_hidden_layers)" \
            --d-state "$(config state_size)" --labels "$(config labels)"
    else
        left_out="PyTorch is left out: no torch and mambapy (PYTHON=...)"
    fi
done
[ -z "$left_out" ] || echo "$left_out"
