#!/usr/bin/env python3
"""Some processes at once on one cache of states: none takes a state of other tokens.

    crowd.py BIN PROCESSES [SEED]       run in a folder of its own; BIN: the folder of the programs

Every process reads the same documents in an order of its own, which share beginnings of many
lengths, and the cache is too small for all of their states. Each state that comes out is compared
with that of a run without a cache.
"""
import os
import random
import subprocess
import sys
import threading

BIN, N = os.path.abspath(sys.argv[1]), int(sys.argv[2])
SEED = int(sys.argv[3]) if sys.argv[3:] else 1
STREAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stream.py")
CACHE_BYTES_MAX = 1 << 20
DOCUMENTS = [(seed, 600, common) for seed in (1, 2) for common in (0, 64, 300, 511, 512)]
CACHED = ["--cache", "C", "--cache-every", "256", "--cache-max", str(CACHE_BYTES_MAX >> 20), "-v"]
said, failed = [], []


def program(name, *args, **more):
    return subprocess.run([os.path.join(BIN, name), *args], **more)


def layers(document, state, *options):
    p = program("mamba-layer", "--dump-state", state, *options, document + ".hidden",
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said.extend(p.stderr.splitlines())
    if p.returncode:
        failed.append("exit %d: %s" % (p.returncode, p.stderr))


def read_all(process):
    documents = names[:]
    random.Random(SEED * 1000 + process).shuffle(documents)
    for d in documents:
        layers(d, "%d.%s.got" % (process, d), *CACHED)


names = []
for seed, length, common in DOCUMENTS:
    names.append("%d-%d" % (seed, common))
    tokens = subprocess.run([STREAM, "tokens", "--seed", str(seed), "%d@%d" % (length, common)],
                            check=True, stdout=subprocess.PIPE).stdout
    with open(names[-1] + ".hidden", "wb") as out:
        program("embed", input=tokens, stdout=out, check=True)
    layers(names[-1], names[-1] + ".want")
threads = [threading.Thread(target=read_all, args=(p,)) for p in range(N)]
for t in threads:
    t.start()
for t in threads:
    t.join()
for p in range(N):
    for d in names:
        if program("state", "diff", "--within", "1e-5", "%d.%s.got" % (p, d), d + ".want",
                   stdout=subprocess.DEVNULL).returncode:
            failed.append("process %d has another state of document %s" % (p, d))
n_hit = sum("not read again" in line for line in said)
failed += [line for line in said if "cache C" in line or "damaged" in line]
left = [e for e in os.scandir("C")]
failed += [e.name + " is left behind" for e in left if "tmp" in e.name]
if sum(e.stat().st_size for e in left) > CACHE_BYTES_MAX:
    failed.append("the cache is over its limit")
if N > 1 and n_hit < 4 * N:
    failed.append("only %d starts from the cache" % n_hit)
print("\n".join(failed), end="\n" if failed else "")
print("%d processes, %d documents read, %d starts from the cache: %s" %
      (N, N * len(names), n_hit, "%d failures" % len(failed) if failed else "no wrong state"))
sys.exit(bool(failed))
