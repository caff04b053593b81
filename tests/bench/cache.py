"""States against reading again, run by cache.sh: cache.py FOLDER DTYPE TOKENS...

For documents of so many tokens, with the model that STATEPIPE_MODEL names: what it takes to read
them, to start from their state and answer (process start and model included), and to find them in
a cache.
Wall-clock seconds, and CPU seconds of the pipe in brackets.
"""
import os
import resource
import shutil
import subprocess
import sys
import time

FOLDER, DTYPE, LENGTHS = sys.argv[1], sys.argv[2], [int(n) for n in sys.argv[3:]]
os.chdir(FOLDER)
LAYERS = "mamba-layer --dtype " + DTYPE
LIMIT = 0.02  # of reading 16k tokens
LINE = b"B.Sc. in Physics, University of Somewhere, 2011 - 2014\n"


def cpu():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def run(line, rounds=1, before=None):
    """The best of some rounds: (seconds, CPU seconds)."""
    best = None
    for _ in range(rounds):
        if before:
            before()
        start, used = time.monotonic(), cpu()
        subprocess.run(["bash", "-o", "pipefail", "-c", line], check=True)
        got = time.monotonic() - start, cpu() - used
        best = min(best or got, got)
    return best


def show(what, t, of=None):
    ratio = ""
    if of:
        ratio = "   %.2f %% of reading, CPU %.2f %%" % (100 * t[0] / of[0], 100 * t[1] / of[1])
    print("    %-46s %8.3f s (%.3f)%s" % (what, *t, ratio))
    sys.stdout.flush()


def tokens(name, n, last=b""):
    text = (LINE * (n // len(LINE) + 1))[:n - len(last)] + last
    with open(name, "wb") as f:
        f.write(text)
    subprocess.run("tokenize -m bytes %s >%s.tokens; embed %s.tokens >%s.hidden" %
                   ((name,) * 4), shell=True, check=True)
    os.unlink(name)


for name, n in ("q5", 5), ("q40", 40):
    tokens(name, n)
for n in LENGTHS:
    print("%d tokens, %s" % (n, DTYPE))
    tokens("doc", n)
    tokens("other", n, b"?")
    rounds = 3 if n < 4096 else 1
    read = run(LAYERS + " --dump-state s doc.hidden >/dev/null", rounds)
    show("reading, and dumping the state", read)
    few = run(LAYERS + " --load-state s q5.hidden | head --head lm --top 1 >/dev/null", 5)
    show("restoring, and answering 5 tokens", few, read)
    many = run(LAYERS + " --load-state s q40.hidden | head --head lm --top 1 >/dev/null", 5)
    show("restoring, and answering 40 tokens", many, read)
    clean = lambda: shutil.rmtree("C", ignore_errors=True)
    miss = run(LAYERS + " --cache C doc.hidden >/dev/null", rounds, clean)
    show("reading, and filling a cache (miss)", miss, read)
    hit = run(LAYERS + " --cache C doc.hidden | head --head lm --top 1 >/dev/null", 5)
    show("the same document again (hit)", hit, read)
    hit = run(LAYERS + " --cache C other.hidden | head --head lm --top 1 >/dev/null", 5)
    show("its last token changed (hit)", hit, read)
    if n == 16384:
        print("    restoring and answering 5 tokens is below %.0f %% of reading 16k tokens: %s" %
              (100 * LIMIT, "met" if few[1] < LIMIT * read[1] else "missed"))
    clean()
