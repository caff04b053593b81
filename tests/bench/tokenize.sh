#!/bin/bash
# tokenize: MB/s of CPU time and start-up, beside Hugging Face's tokenizers on one thread where the
# Python in $PYTHON has them.
#
#   tests/bench/tokenize.sh [TOKENIZER [TEXT]]     (default: the small golden BPE on our manuals)
set -eu
cd "$(dirname "$0")/../.."
tokenize=${BUILD:-build}/bin/tokenize
tokenizer=${1:-tests/golden/tokens/bpe.json}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
text=${2:-$work/text}
[ $# -ge 2 ] || for _ in $(seq 40); do cat man/*.[157] README.md; done >"$text"
echo a >"$work/one"

# User and system seconds of a command.
cpu_s() {
    local TIMEFORMAT='%U %S'
    { time "$@" >/dev/null 2>"$work/err"; } 2>&1 | awk '{ printf "%.3f\n", $1 + $2 }'
}
best() { for _ in 1 2 3 4 5; do cpu_s "$@"; done | sort -n | sed -n 1p; }

start=$(best "$tokenize" -m "$tokenizer" "$work/one")
lines=$(best "$tokenize" --bare --lines -m "$tokenizer" "$text")
whole=$(best "$tokenize" --bare -m "$tokenizer" "$text")
bytes=$(wc -c <"$text")
awk -v s="$start" -v l="$lines" -v w="$whole" -v n="$bytes" -v t="$tokenizer" 'BEGIN {
    printf "tokenize %s: %.1f MB; start-up %.0f ms; lines %.1f MB/s, whole %.1f MB/s " \
           "(CPU time, the stream written)\n",
           t, n / 1e6, s * 1e3, n / 1e6 / (l - s + 1e-9), n / 1e6 / (w - s + 1e-9) }'

"${PYTHON:-python3}" - "$tokenizer" "$text" 2>/dev/null <<'END' ||
import os, resource, sys
os.environ["TOKENIZERS_PARALLELISM"], os.environ["RAYON_NUM_THREADS"] = "false", "1"
from tokenizers import Tokenizer
def cpu_s():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime
a = cpu_s()
tok = Tokenizer.from_file(sys.argv[1])
start_s = cpu_s() - a
text = open(sys.argv[2], encoding="utf-8", errors="replace", newline="\n").read()
best_s = None
for _ in range(2):
    a = cpu_s()
    for line in text.split("\n"):
        tok.encode(line, add_special_tokens=False)
    best_s = min(best_s or 1e9, cpu_s() - a)
a = cpu_s()
tok.encode_batch(text.split("\n"), add_special_tokens=False)
batch_s = cpu_s() - a
n = len(text.encode())
print("tokenizers (Python, one thread): load %.0f ms; lines %.1f MB/s, encode_batch %.1f MB/s "
      "(CPU time)" % (start_s * 1e3, n / 1e6 / best_s, n / 1e6 / batch_s))
END
    echo "tokenizers: not there, or not for this file (PYTHON=...)"
