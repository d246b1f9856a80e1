"""A command killed by SIGKILL after random lines of its log, and started again, until the file it makes is there.

Called as ``killed.py LOG GOAL LINES SECONDS ARGUMENT…``: so many lines at most between two kills, and so many seconds
at most after the last of them. Says how many kills there were.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from resolvent.apps import acquire, reconstruct, train, tune  # noqa: F401  (loaded once, for all children)
from resolvent.apps.cli import main


def lines(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def killed(log, most, late, arguments):
    """Run until the log has some more lines; whether it had to be killed."""
    aim = lines(log) + random.randint(1, most)
    child = os.fork()
    if not child:
        os._exit(main(arguments))
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and lines(log) < aim:
        time.sleep(0.001)
    if ended:
        return False
    time.sleep(random.uniform(0, late))
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    log, goal, most, late, *arguments = sys.argv[1:]
    kills = 0
    while killed(Path(log), int(most), float(late), arguments):
        kills += 1
    if not Path(goal).exists():
        sys.exit("ended without " + goal)
    sys.stdout.write(f"{kills}\n")
