# SPDX-License-Identifier: Apache-2.0
"""Have large blocks of memory given back to the operating system as soon as they are freed.

glibc gives such a block pages of its own, but raises the size from which it does so to that of the largest block freed
(mallopt(3), M_MMAP_THRESHOLD). The body of a snapshot of 100,000 bindings has 15 MB, so afterwards the heap would keep
every large dictionary and body in between what lasts.
"""

import ctypes

M_MMAP_THRESHOLD = -3  # malloc.h
LARGE = 128 * 1024  # octets: glibc's threshold at the start


def give_back_large_blocks() -> None:
    """Keep glibc's threshold where it starts. Other C libraries have none to keep."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
