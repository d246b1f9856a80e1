"""Memory that stays with the process between the steps of a solver.

glibc gives large arrays back to the system when they are freed and takes them anew a moment later, a page fault for
each 4 kB: with volumes up to half of the time (``benchmarks/kept_memory.py``). Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import platform

#: The numbers of ``malloc.h``, and the bytes from which an array is taken from the system by itself (the most that
#: glibc before 2.35 takes, and for later ones), and from which what is free at the end of the heap is given back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
BY_ITSELF, FREE = (2**25, 2**28), 2**30


def keep_memory() -> bool:
    """Keep what is freed, at the end of the heap up to 1 GiB, for the next arrays; whether the C library can."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    taken = [library.mallopt(M_MMAP_THRESHOLD, size) for size in BY_ITSELF]
    return bool(library.mallopt(M_TRIM_THRESHOLD, FREE)) and any(taken)
