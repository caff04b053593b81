#!/usr/bin/env python3
"""What zsh shows when a line is completed: zsh.py FOLDER LINE..., FOLDER having _statepipe.

One interactive shell on a terminal of its own; for each line what is to be seen after two tabs.
"""
import os
import pty
import re
import select
import sys

SETUP = ("PS1='go''>'; fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D; LISTMAX=10000; "
         "setopt no_beep; bindkey '^I' complete-word; print rea''dy\n")


def read_until(fd, mark, seconds=20):
    out = ""
    while not re.search(mark + r"[\s\S]*go>", out): # and the next prompt
        if not select.select([fd], [], [], seconds)[0]:
            sys.exit(f"zsh says no more than {out!r}")
        out += os.read(fd, 65536).decode(errors="replace")
    return out


def main():
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="dumb", COLUMNS="200", LINES="200")
        os.execvp("zsh", ["zsh", "-f", "-i"])
    os.write(fd, (SETUP % sys.argv[1]).encode())
    read_until(fd, "ready")
    for number, line in enumerate(sys.argv[2:]):
        # The line is not run: it is deleted, and a mark printed.
        os.write(fd, f"{line}\t\t\x15print e''nd{number}\n".encode())
        shown = read_until(fd, f"end{number}")
        print(f"== {line}")
        print(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\r\x08]", "\n", shown))
    os.write(fd, b"exit\n")
    os.waitpid(pid, 0)


main()
