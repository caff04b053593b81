#!/bin/bash
# Slot questions per second over cached states, beside asking by reading the document each time.
#
#     tests/bench/fill.sh [DOCS [TOKENS]]      (default 16 documents of 1024 tokens)
#
# Two models, whose tokens are bytes: one of the shapes of mamba-130m with random weights
# (build/bench/130m, 520 MB, made once), and one of the shipped model's, hardly trained. A question
# has 24 tokens, its answers up to 8, a beam of 8 looks for 5; with words behind the slot, the
# candidates are read again with them. Start-up is in all times.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build} docs=${1:-16} tokens=${2:-1024}
bin=$PWD/$build/bin
large=$build/bench/130m
make -s BUILD="$build" bench-model
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset STATEPIPE_MODEL
sed 's/"vocab_size": [0-9]*/"vocab_size": 264/; s/"format": 2,/"format": 2, "tokenizer": "bytes",/' \
    share/model/config.json >"$work/config.json" # train --task lm drops what a language model has not
"$bin/mkresume" --seed 3 --split all -n 300 --text | tr -d '\f' >"$work/text"
head -c "$((docs * tokens))" "$work/text" | LC_ALL=C tr '\200-\377' x |
    split -a 3 -d -b "$tokens" - "$work/doc."
"$bin/tokenize" -m bytes "$work/text" |
    "$bin/train" --config "$work/config.json" --task lm --steps 1 -o "$work/small" - 2>"$work/err" ||
    { cat "$work/err" >&2; exit 1; }

seconds() {
    local TIMEFORMAT=%R
    { time "$@" >"$work/out" 2>"$work/err"; } 2>&1 || { cat "$work/err" >&2; return 1; }
}
# The best of two: other programs take time, none gives any.
best() { for _ in 1 2; do seconds "$@"; done | sort -n | head -n 1; }

printf '%-34s %14s %14s %8s\n' "questions per second" "cached states" "reading anew" "times"
for model in "$work/small" "$large"; do
    for dtype in f32 bf16; do
        name="$([ "$model" = "$large" ] && echo 130m || echo small), $dtype"
        rm -f "$work"/*.state
        "$bin/tokenize" -m "$model" --open "$work"/doc.* | "$bin/embed" -m "$model" |
            "$bin/mamba-layer" -m "$model" --dtype "$dtype" --dump-state "$work/%n.state" >/dev/null
        for query in 'The author of this is a ?__' 'The author of this is a ?__ at a university'; do
            for doc in "$work"/doc.*; do
                python3 -c 'import json, sys
print(json.dumps({"doc": open(sys.argv[1]).read(), "query": sys.argv[2]}))' "$doc" "$query"
            done >"$work/lines"
            options=(-m "$model" --dtype "$dtype" --max-tokens 8)
            cached=$(best "$bin/fill" "${options[@]}" -q "$query" "$work"/*.state)
            anew=$(best "$bin/fill" "${options[@]}" --jsonl "$work/lines")
            [ "$query" = "${query%__}" ] && behind=', words behind' || behind=
            awk -v name="$name$behind" -v n="$docs" -v a="$cached" -v b="$anew" \
                'BEGIN { printf "%-34s %14.1f %14.1f %8.1f\n", name, n / a, n / b, b / a }'
        done
    done
done
