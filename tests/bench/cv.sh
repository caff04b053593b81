#!/bin/bash
# CVs per second and core through the whole pipe with the shipped model, and how long one CV takes
# from a cold start of its programs.
#
#     tests/bench/cv.sh [CVS]      (default 2000)
#
# A core's second is a second of CPU time, user and system, of all five programs.
set -eu
cd "$(dirname "$0")/../.."
n=${1:-2000}
bin=$PWD/${BUILD:-build}/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset STATEPIPE_MODEL
"$bin/mkresume" --seed 3 --split all -n "$n" >"$work/cvs"
bytes=$("$bin/mkresume" --seed 3 --split all -n "$n" --text | tr -d '\f' | wc -c)

# Wall, user and system seconds of a command and its children.
seconds() {
    local TIMEFORMAT='%R %U %S'
    { time "$@" >"$work/out" 2>"$work/err"; } 2>&1 || { cat "$work/err" >&2; return 1; }
}

for dtype in f32 bf16; do
    seconds "$bin/statepipe" sh \
        'tokenize --jsonl "$1" | embed | mamba-layer --dtype "$2" | head | extract -o jsonl' \
        "$work/cvs" "$dtype" >"$work/times"
    if [ "$(wc -l <"$work/out")" != "$n" ]; then
        echo "cv bench: records of some CVs are missing" >&2
        exit 1
    fi
    awk -v n="$n" -v bytes="$bytes" -v dtype="$dtype" -v cpus="$(nproc)" '{
        cpu = $2 + $3
        printf "%d CVs of %.0f bytes, %s: ", n, bytes / n, dtype
        printf "%.1f per second and core (%.1f s of CPU time), ", n / cpu, cpu
        printf "%.1f per second on %d CPUs (%.1f s)\n", n / $1, cpus, $1 }' "$work/times"
done

for _ in 1 2 3 4 5; do
    seconds "$bin/statepipe" cv share/samples/jane-doe.txt
done | sort -n | awk '{ wall[NR] = $1; cpu[NR] = $2 + $3 }
    END { printf "statepipe cv, one sample: %.0f ms, the best of %d (%.0f ms of CPU time)\n",
        1e3 * wall[1], NR, 1e3 * cpu[1] }'
