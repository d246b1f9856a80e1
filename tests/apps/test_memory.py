"""Arrays that a loop frees and takes again cost no page faults."""

import platform
import subprocess
import sys

import pytest

from resolvent.apps import cli

FAULTS = """
import resource, torch
from resolvent.apps.memory import keep_memory
keep = {keep} and keep_memory()
faults = []
for n in range(12):  # the first few times the heap still grows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.ones(2**24)
    y = x + 1
    del x, y
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_arrays_are_kept_for_the_next():
    pages = 2 * 2**26 / 2**12
    run = [sys.executable, "-c"]
    loose, kept = (
        int(subprocess.run([*run, FAULTS.format(keep=k)], capture_output=True, text=True, check=True).stdout)
        for k in (False, True)
    )
    assert kept < 0.05 * pages, kept
    assert loose > kept, "without it they are given back"


def test_the_command_keeps_its_memory(monkeypatch):
    called = []
    monkeypatch.setattr(cli, "keep_memory", lambda: called.append(True))
    monkeypatch.setattr(sys, "argv", ["resolvent", "--version"])
    with pytest.raises(SystemExit) as stop:
        cli.run()
    assert stop.value.code == 0 and called
