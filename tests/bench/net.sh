#!/bin/bash
# The network and the pipe on a random model of the 130m shapes; see README for what the lines mean.
#     tests/bench/net.sh [ROUNDS]
# Makes build/bench/130m (520 MB) once.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build} rounds=${1:-5}
model=$build/bench/130m
make -s BUILD="$build" bench-model
export PATH=$PWD/$build/bin:$PATH STATEPIPE_MODEL=$PWD/$model
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
stream=tests/bats/stream.py

for dtype in f32 bf16; do
    for threads in $(nproc) 1; do
        "$build/bench/net" "$model" $dtype "$threads" "$rounds"
    done
done

"$stream" tokens --vocab 256 65536 >"$tmp/tokens"
"$build/bench/make_model" "$tmp/thin" thin
python3 tests/bench/pipe.py "$tmp" "$build/bench/net" "$model" "$tmp/thin"
