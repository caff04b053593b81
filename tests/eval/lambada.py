#!/usr/bin/env python3
"""LAMBADA through the pipe: how often a language model knows the last word of a passage.

    tests/eval/lambada.py [-b BUILD] MODEL FILE [OPTION...]

FILE has a JSON object with "text" on each line, as lambada_test_openai.jsonl. The text up to its
last blank is read, the last word with the blank in front of it is the choice, and tokens are made
of both together, as lm-evaluation-harness has it: accuracy is how often each token of the word was
the most probable one, perplexity exp(-mean of the words' log-likelihoods). Options go to
mamba-layer.

Where lines have "choices" themselves, and "loglik" and "greedy" as tests/golden/make_choices.py
writes them, these are compared: the exit status is 1 where a log-likelihood is off by more than
1e-4 and 1e-5 of it, or a flag differs.
"""
import argparse
import json
import math
import os
import subprocess
import sys
import tempfile

PROGRAMS = ["tokenize --jsonl", "embed", "mamba-layer", "head --head lm --choices", "extract"]
ABSOLUTE, RELATIVE = 1e-4, 1e-5


def read_items(path):
    with open(path, encoding="utf-8") as f:
        for line in f:
            item = json.loads(line)
            if "choices" not in item:
                text, _, word = item["text"].rpartition(" ")
                item = {"text": text, "choices": [" " + word]}
            yield item


def run_pipe(build, model, items, options):
    """The scores of each item's choices, in order."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as f:
        for i, item in enumerate(items):
            f.write(json.dumps({"id": i, "text": item["text"], "choices": item["choices"]}) + "\n")
        f.flush()
        f.seek(0)
        env = dict(os.environ, STATEPIPE_MODEL=model)
        source, running = f, []
        for command in PROGRAMS:
            words = command.split()
            words += options if words[0] == "mamba-layer" else []
            words[0] = os.path.join(build, "bin", words[0])
            running.append(subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, env=env))
            source.close()
            source = running[-1].stdout
        lines = [json.loads(line) for line in source]
        status = [p.wait() for p in running]
    if any(status) or len(lines) != len(items):
        sys.exit(f"lambada.py: the pipe ended with {status}, {len(lines)} of {len(items)} items")
    return [line["choices"] for line in lines]


def report(items, scores):
    """Of the first choice of each item."""
    first = [s[0] for s in scores]
    n = len(first)
    right = sum(s["greedy"] for s in first)
    mean = sum(s["loglik"] for s in first) / n
    perplexity = f"{math.exp(-mean):.6g}" if mean > -700 else "over 1e300"
    print(f"{n} items: accuracy {right / n:.4f} ({right} right), perplexity {perplexity}")


def compare(items, scores):
    n = worst = worst_relative = wrong = greedy = beyond = 0
    for item, got in zip(items, scores):
        for loglik, flag, s in zip(item["loglik"], item["greedy"], got, strict=True):
            off = abs(s["loglik"] - loglik)
            n += 1
            worst = max(worst, off)
            worst_relative = max(worst_relative, off / abs(loglik) if loglik else 0)
            beyond += off > ABSOLUTE and off > RELATIVE * abs(loglik)
            wrong += s["greedy"] != flag
            greedy += flag
    print(f"{n} choices against the reference: largest difference {worst:.2e}, relative "
          f"{worst_relative:.2e}; {beyond} beyond {ABSOLUTE} and {RELATIVE}; "
          f"greedy {greedy}, {wrong} flags differ")
    return beyond == 0 and wrong == 0


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("-b", default=os.environ.get("STATEPIPE_BUILD", "build"))
    p.add_argument("model")
    p.add_argument("file")
    args, options = p.parse_known_args()
    items = list(read_items(args.file))
    if not items:
        sys.exit(f"lambada.py: {args.file} has no items")
    scores = run_pipe(args.b, args.model, items, options)
    report(items, scores)
    if all("loglik" in item for item in items) and not compare(items, scores):
        sys.exit(1)


main()
