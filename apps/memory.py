"""Memory that stays with the process between the steps of a solver.

glibc gives large arrays back to the system when they are freed and takes them anew a moment later, a page fault for
each 4 kB: with volumes up to half of the time (``benchmarks/kept_memory.py``). Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import platform

#: The numbers of ``malloc.h``, and the bytes from which an array is taken from the system by itself, and from which
#: what is free is given back.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
BY_ITSELF, FREE = 2**28, 2**30


def keep_memory() -> bool:
    """Keep what is freed, up to 1 GiB, for the next arrays; whether the C library can."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_THRESHOLD, BY_ITSELF)) and bool(library.mallopt(M_TRIM_THRESHOLD, FREE))
