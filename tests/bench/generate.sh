#!/bin/bash
# Decoding many prompts together: tokens per second for batches of 1, 4, 16 and 64 prompts of one
# token, on a random model of the 130m shapes; and a beam of 4 against greedy.
#
#     tests/bench/generate.sh [TOKENS]      (default 16, of each text)
#
# Makes build/bench/130m (520 MB) once. A rate counts the tokens of the texts and all the time from
# the first prompt on; each is the best of three runs, which take turns.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build} tokens=${1:-16}
model=$build/bench/130m
make -s BUILD="$build" bench-model
export STATEPIPE_MODEL=$PWD/$model
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# Tokens per second of one run over $1 prompts.
rate() {
    local n=$1
    shift
    yes x | head -n "$n" | "$build/bin/generate" -l -v -n "$tokens" "$@" 2>&1 >/dev/null |
        sed -n 's/.* \([0-9.]*\) tokens\/s$/\1/p'
}

for dtype in f32 bf16; do
    for _ in 1 2 3; do
        for n in 1 4 16 64; do echo "$n $(rate $n --dtype $dtype)"; done
        echo "beam $(rate 1 --dtype $dtype --beam 4)"
    done >"$tmp/rates"
    awk -v dtype="$dtype" -v cpus="$(nproc)" '$2 > best[$1] { best[$1] = $2 }
        END {
            for (n = 1; n <= 64; n *= 4)
                printf "decode, %s, %d CPUs, %2d prompts: %6.1f tokens/s, %.1f times one prompt\n",
                    dtype, cpus, n, best[n], best[n] / best[1]
            printf "beam 4, %s: %.1f tokens/s of text, %.2f times the time of greedy\n",
                dtype, best["beam"], best[1] / best["beam"]
        }' "$tmp/rates"
done
