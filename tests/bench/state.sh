#!/bin/bash
# A state of the 130m shapes: its size, and how long dumping and restoring it takes.
#     tests/bench/state.sh [ROUNDS [DIR]]      DIR: where the file is written (or a temporary one)
# Makes build/bench/130m (520 MB) once.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build} rounds=${1:-200}
model=$build/bench/130m
make -s BUILD="$build" bench-model
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
"$build/bench/state" "$model" "${2:-$tmp}" "$rounds"
