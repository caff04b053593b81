#!/bin/bash
# Memory and time per token in the length of a document, 64k to 1M tokens: on a small model, and on
# the 130m shapes (a random model) for as many tokens as are asked for.
#     tests/bench/long.sh [TOKENS...]      (130m: default 65536 only; 1M tokens take 10 minutes)
# Exits 1 where the memory of a filter grows by more than 2 %.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=$build/bench/130m
make -s BUILD="$build" bench-model
export PATH=$PWD/$build/bin:$PATH
echo "tests/golden/tiny, f32"
status=0
python3 tests/bench/long.py tests/golden/tiny f32 65536 262144 1048576 || status=1
echo "130m shapes, bf16"
python3 tests/bench/long.py "$model" bf16 "${@:-65536}" || status=1
exit $status
