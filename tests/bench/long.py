"""Long documents through the filters, run by long.sh: long.py MODEL f32|bf16 TOKENS...

For documents of so many tokens (of a byte each): seconds per token, and the resident memory of
every filter up to `head`, beside those of the shortest. Exits 1 where memory grows beyond the
limit.
"""
import os
import subprocess
import sys
import time

MODEL, DTYPE, LENGTHS = sys.argv[1], sys.argv[2], [int(n) for n in sys.argv[3:]]
PIPE = [["tokenize"], ["embed"], ["mamba-layer", "--dtype", DTYPE], ["head"]]
LIMIT, NOISE = 0.02, 128  # growth; KiB by which runs of one length differ
LINE = b"B.Sc. in Physics, University of Somewhere, 2011 - 2014\n"


def resident(pid):
    """The most that it has had so far, KiB; 0 when it is gone."""
    try:
        with open("/proc/%d/status" % pid) as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    except OSError:
        return 0


def run(n):
    """One document of n tokens. Seconds, resident KiB and CPU seconds by filter."""
    start = time.time()
    children, fd = [], subprocess.PIPE
    for i, c in enumerate(PIPE):
        out = subprocess.DEVNULL if i + 1 == len(PIPE) else subprocess.PIPE
        p = subprocess.Popen(c + ["-m", MODEL], stdin=fd, stdout=out)
        if i:
            fd.close()
        children.append(p)
        fd = p.stdout
    pid = os.fork()  # feeds, so that the waits below see the programs alone
    if pid == 0:
        piece = LINE * 1200
        for at in range(0, n, len(piece)):
            children[0].stdin.write(piece[:n - at])
        children[0].stdin.flush()
        os._exit(0)
    children[0].stdin.close()
    # What wait4 says would count the interpreter that the programs were started from.
    memory, usage = [0] * len(children), {}
    while len(usage) < len(children):
        for i, p in enumerate(children):
            memory[i] = max(memory[i], resident(p.pid))
            done, _, r = os.wait4(p.pid, os.WNOHANG) if i not in usage else (0, 0, None)
            if done:
                usage[i] = r
        time.sleep(0.005)
    os.waitpid(pid, 0)
    return time.time() - start, memory, [r.ru_utime + r.ru_stime for r in usage.values()]


names = [c[0] for c in PIPE]
print("%9s %12s %12s   resident KiB of %s"
      % ("tokens", "us/token", "CPU us/token", " ".join(names)))
first = None
for n in LENGTHS:
    seconds, memory, cpu = run(n)
    first = first or (n, seconds, memory, cpu)
    print("%9d %12.2f %12.2f   %s" % (n, 1e6 * seconds / n, 1e6 * sum(cpu) / n,
                                      " ".join(map(str, memory))))
    sys.stdout.flush()
flat = all(b - a <= max(LIMIT * a, NOISE) for a, b in zip(first[2], memory))
print("resident memory at %d tokens against %d: %s (within %.0f %%, or the %d KiB by which runs of "
      "one length differ: %s)" %
      (n, first[0], " ".join("%+.2f %%" % (100 * (b / a - 1)) for a, b in zip(first[2], memory)),
       100 * LIMIT, NOISE, "met" if flat else "missed"))
if n == first[0]:
    sys.exit(not flat)
marginal = (sum(cpu) - sum(first[3])) / (n - first[0])
print("CPU time of a token behind the first %d: %.2f us, of those (start-up included): %.2f us" %
      (first[0], 1e6 * marginal, 1e6 * sum(first[3]) / first[0]))
sys.exit(not flat)
