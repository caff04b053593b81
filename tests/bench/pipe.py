"""The pipe's own cost, run by net.sh: pipe.py FOLDER NET_BENCH MODEL THIN_MODEL

Prints time per token and resident memory against the length of a document, the CPU time of an idle
pipe, and what the pipe itself uses beside what the layers take inside one process. THIN_MODEL is
make_model's.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import time

FOLDER, BENCH, MODEL, THIN = sys.argv[1:]
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
    print("idle pipe: %.3f ms of CPU time, %d wake-ups of %d threads in 5 s of waiting for input "
          "(%s)" % (used / 1e6, slices, len(now), "met" if used == 0 else "missed: should be nil"))
    for p in children:
        p.kill()
        p.wait()


def instructions(model, n_token):
    """Of each program of the pipe, run one after another under callgrind."""
    counts, data = [], text(n_token)
    for c in PIPE:
        p = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"] + c,
                           input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=dict(os.environ, STATEPIPE_MODEL=model, STATEPIPE_JOBS="1"),
                           check=True)
        counts.append(int(re.search(rb"Collected : (\d+)", p.stderr).group(1)))
        data = p.stdout
    return counts


def cost():
    """A pipe whose layers hold next to nothing costs what the pipe costs, with the tokens, the head
    and the records in it; beside what the layers of MODEL take inside one process."""
    os.environ["STATEPIPE_MODEL"] = THIN
    n, names = 1 << 18, [c[0] for c in PIPE]
    rounds = [[cpu(u) for u in run(PIPE, text(n))[1]] for _ in range(3)]
    best = [1e6 * t / n for t in min(rounds, key=sum)]
    print("the pipe alone (layers without content): %.1f us of CPU time a token: %s" %
          (sum(best), ", ".join("%s %.1f" % c for c in zip(names, best))))
    if shutil.which("valgrind"):
        few, many = instructions(THIN, 4096), instructions(THIN, 8192)
        each = [(b - a) / 4096 for a, b in zip(few, many)]
        print("its instructions a token, by callgrind, without the kernel's: %.0f: %s" %
              (sum(each), ", ".join("%s %.0f" % c for c in zip(names, each))))
    for dtype in ("f32", "bf16"):
        out = subprocess.run([BENCH, MODEL, dtype, "1", "1", "cpu", "512"], stdout=subprocess.PIPE,
                             check=True).stdout.decode()
        layers = 1e6 / float(re.search(r"prefill.*tokens: +(\d+) tokens/s", out).group(1))
        part = sum(best) / layers
        print("the layers in %s in one process: %.0f us a token; the pipe costs %.1f %% more "
              "(below %.0f %%: %s)" % (dtype, layers, 100 * part, 100 * COST_LIMIT,
                                "met" if part < COST_LIMIT else "missed"))


flat()
idle()
cost()
