# SPDX-License-Identifier: Apache-2.0
"""Let a Python program's clock jump: Python imports this first where PYTHONPATH names this directory.

The file that CHAOS_CLOCK names holds by how many seconds time.time() is ahead, as a double. libfaketime is of no use
here: with it, and a monotonic clock that is not faked, time.sleep() fails (EINVAL).
"""

import mmap
import os
import struct
import time

with open(os.environ["CHAOS_CLOCK"], "r+b") as file:
    ahead = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
right_time = time.time


def time_of_day() -> float:
    """Return the time as this program is to see it."""
    seconds: float = struct.unpack("d", ahead[:8])[0]
    return right_time() + seconds


time.time = time_of_day
