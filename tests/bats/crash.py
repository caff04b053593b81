#!/usr/bin/env python3
"""Kills a run with checkpoints at random moments until it has come to its end, again and again.

    crash.py SEED KILLS WANT COMMAND...     run in a folder of its own, where the command writes OUT
                                            and its checkpoint F; OUT has to become WANT each time
"""
import os
import random
import subprocess
import sys
import time

seed, kills, want, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]
random.seed(seed)
with open(want, "rb") as f:
    expected = f.read()


def clean():
    for name in os.listdir("."):
        if name == "OUT" or name.startswith("F"):
            os.unlink(name)


def length():
    """Seconds of a run that nobody disturbs."""
    clean()
    start = time.monotonic()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - start


whole = length()
n = n_run = n_resumed = 0
while n < kills:
    clean()
    n_run += 1
    patience = 40  # kills of one run, after which it is left alone
    while True:
        n_resumed += os.path.exists("F")
        p = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            p.wait(random.uniform(0, whole) if patience and n < kills else None)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            n += 1
            patience -= 1
            continue
        if p.returncode != 0:
            sys.exit("exit %d: %s" % (p.returncode, p.stderr.read().decode()))
        break
    with open("OUT", "rb") as f:
        if f.read() != expected:
            sys.exit("after %d kills the output is another" % n)
    if any(name.startswith("F") for name in os.listdir(".")):
        sys.exit("a checkpoint is left behind")
print("%d kills in %d runs, %d starts from a checkpoint: nothing lost" % (n, n_run, n_resumed))
if n_resumed == 0:
    sys.exit("no run was ever resumed")
