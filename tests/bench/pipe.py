"""The pipe's own cost, run by net.sh: pipe.py FOLDER NET_BENCH MODEL

Prints time per token and resident memory against the length of a document, the CPU time of an idle
pipe, and what the five programs use beside what the same computing takes inside one process.
"""
import glob
import os
import re
import subprocess
import sys
import time

FOLDER, BENCH, MODEL = sys.argv[1:]
PIPE = [["tokenize"], ["embed"], ["mamba-layer", "--dtype", "bf16"], ["head"], ["extract"]]
COST_LIMIT = 0.05  # what the pipe may cost beyond the computing


def run(commands, data):
    """Runs a pipe over bytes. Seconds, and rusage by program."""
    start = time.time()
    children, fd = [], subprocess.PIPE
    for i, c in enumerate(commands):
        out = subprocess.DEVNULL if i + 1 == len(commands) else subprocess.PIPE
        p = subprocess.Popen(c, stdin=fd, stdout=out, stderr=subprocess.DEVNULL)
        if i:
            fd.close()
        children.append(p)
        fd = p.stdout
    pid = os.fork()  # feeds, so that the waits below see the programs alone
    if pid == 0:
        children[0].stdin.write(data)
        children[0].stdin.flush()
        os._exit(0)
    children[0].stdin.close()
    usage = [os.wait4(p.pid, 0)[2] for p in children]
    os.waitpid(pid, 0)
    return time.time() - start, usage


def cpu(r):
    return r.ru_utime + r.ru_stime


def text(n):
    return (b"B.Sc. in Physics, University of Somewhere, 2011 - 2014\n" * (n // 55 + 1))[:n]


def flat():
    lengths = [512, 8192, 65536]
    times, memory = {}, {}
    for n in lengths:
        times[n], usage = run(PIPE[:3], text(n))
        memory[n] = [u.ru_maxrss >> 10 for u in usage]
    for a, b in zip(lengths, lengths[1:]):
        print("one document, tokens %d to %d: %.3f ms a token; resident MiB of tokenize, embed, "
              "mamba-layer: %s" % (a, b, 1000 * (times[b] - times[a]) / (b - a), memory[b]))


def threads(process):
    """Of each thread of a process: nanoseconds of CPU, time slices, and whether it sleeps."""
    found = {}
    for task in glob.glob("/proc/%d/task/*" % process.pid):
        with open(task + "/schedstat") as f:
            ran, _, slices = map(int, f.read().split())
        with open(task + "/stat") as f:
            found[task] = (ran, slices, f.read().rsplit(")", 1)[1].split()[0] == "S")
    return found


def idle():
    with open(FOLDER + "/tokens", "rb") as f:
        tokens = f.read()
    data = tokens[:tokens.rindex(b"\x93\xa6DOCEND")]  # the document goes on, but nothing comes
    small = dict(os.environ, STATEPIPE_MODEL="tests/golden/tiny")  # nothing to load for long
    children, fd = [], subprocess.PIPE
    for c in PIPE[1:]:
        out = subprocess.DEVNULL if c == PIPE[-1] else subprocess.PIPE
        p = subprocess.Popen(c, stdin=fd, stdout=out, stderr=subprocess.DEVNULL, env=small)
        children.append(p)
        fd = p.stdout
    children[0].stdin.write(data)
    children[0].stdin.flush()

    def all_threads():
        return {k: v for p in children for k, v in threads(p).items()}

    before, now = None, all_threads()
    # What has come is computed first: until nothing has run for a second, and everything sleeps (a
    # thread that waits for a busy machine's CPU does not run either).
    while before != now or not all(sleeps for _, _, sleeps in now.values()):
        before = now
        time.sleep(1)
        now = all_threads()
    time.sleep(5)
    later = all_threads()
    used, slices = (sum(later[k][i] - now[k][i] for k in now) for i in (0, 1))
    print("idle pipe: %.3f ms of CPU time, %d wake-ups of %d threads in 5 s of waiting for input (%s)"
          % (used / 1e6, slices, len(now), "met" if used == 0 else "missed: should be nil"))
    for p in children:
        p.kill()
        p.wait()


def cost():
    n = 8192
    per_token, parts = [], []
    for _ in range(3):
        short, long = (run(PIPE, text(k))[1] for k in (n, 2 * n))
        parts.append([cpu(b) - cpu(a) for a, b in zip(short, long)])
        out = subprocess.run([BENCH, MODEL, "bf16", "0", "1", "cpu", str(n)], stdout=subprocess.PIPE,
                             check=True).stdout.decode()
        per_token.append(1 / float(re.search(r"prefill.*tokens: +(\d+) tokens/s", out).group(1)))
    best = min(parts, key=sum)
    compute = min(per_token) * n + best[0] + best[4]
    print("CPU time of the five programs for %d tokens: %s s" %
          (n, " ".join("%s %.2f" % (c[0], t) for c, t in zip(PIPE, best))))
    part = sum(best) / compute - 1
    print("the same computing without a pipe (layers in one process; tokenize, extract): %.2f s; "
          "the pipe costs %+.1f %% (below %.0f %%: %s)" %
          (compute, 100 * part, 100 * COST_LIMIT, "met" if part < COST_LIMIT else "missed"))


flat()
idle()
cost()
