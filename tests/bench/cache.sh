#!/bin/bash
# States as prompts: restoring one against reading its document again, and the cache's hits and
# misses, on a random model of the 130m shapes.
#     tests/bench/cache.sh [f32|bf16 [TOKENS...]]     (default f32 1024 16384 131072: 10 minutes)
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=$build/bench/130m
make -s BUILD="$build" bench-model
export PATH=$PWD/$build/bin:$PATH STATEPIPE_MODEL=${CACHE_BENCH_MODEL:-$PWD/$model}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
dtype=${1:-f32}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- 1024 16384 131072
python3 tests/bench/cache.py "$tmp" "$dtype" "$@"
