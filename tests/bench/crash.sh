#!/bin/bash
# What survives: a run with checkpoints that is killed at random moments until it has come to its
# end, again and again, and processes that read at once with one cache of states. Exits 1 where a
# byte is lost or a state is wrong.
#     tests/bench/crash.sh [KILLS [PROCESSES]]     (default 100 8: a minute or two)
set -eu
cd "$(dirname "$0")/../.."
tree=$PWD build=$(realpath "${BUILD:-build}")
make -s BUILD="$build" programs
export STATEPIPE_MODEL=$tree/tests/golden/tiny STATEPIPE_JOBS=1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/kills" "$tmp/crowd"
cd "$tmp/kills"
"$tree/tests/bats/stream.py" tokens --open o --open p o=700 3000 5 p=64 | "$build/bin/embed" >hidden
"$tree/tests/bats/stream.py" tokens --seed 2 --cont o o=900 9000 257 0 | "$build/bin/embed" >>hidden
"$build/bin/mamba-layer" --emit-state hidden >want
"$tree/tests/bats/crash.py" 1 "${1:-100}" want \
    "$build/bin/mamba-layer" --emit-state --checkpoint F --every 500 -o OUT hidden
cd "$tmp/crowd"
"$tree/tests/bats/crowd.py" "$build/bin" "${2:-8}"
