"""What the scripts here share: options, JSON lines, and errors of one line with an exit status."""
import argparse
import contextlib
import json
import os
import signal
import sys

NAME = os.path.basename(sys.argv[0]).removesuffix(".py")
USAGE, BAD_DATA, NO_INPUT = 2, 65, 66


def fail(status, message):
    sys.stderr.write(f"{NAME}: {message}\n")
    sys.exit(status)


class Parser(argparse.ArgumentParser):
    """--help prints the script's docstring."""

    def __init__(self, doc):
        super().__init__(prog=NAME, allow_abbrev=False)
        self.doc = doc
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader may leave early, as of any filter

    def format_help(self):
        return self.doc.strip() + "\n"

    def error(self, message):
        fail(USAGE, f"{message} (see {NAME} --help)")


@contextlib.contextmanager
def opened(path):
    """A text file, or standard input: "-"."""
    try:
        with open(0 if path == "-" else path, encoding="utf-8") as file:
            yield file
    except OSError as e:
        fail(NO_INPUT, f"cannot open {path}: {e.strerror}")
    except UnicodeDecodeError:
        fail(BAD_DATA, f"{path}: this is no UTF-8")


def read(path):
    with opened(path) as file:
        return file.read()


def load(path, *keys):
    """The objects of a file of JSON lines, one after the other; each has to have the keys."""
    with opened(path) as file:
        for i, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                doc = json.loads(line)
            except ValueError:
                fail(BAD_DATA, f"{path}: line {i} is no JSON")
            lacking = [k for k in keys if not isinstance(doc, dict) or k not in doc]
            if lacking:
                fail(BAD_DATA, f'{path}: line {i} has no "{lacking[0]}"')
            yield doc
