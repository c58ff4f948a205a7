# SPDX-License-Identifier: Apache-2.0
"""Read processor time and memory of processes from Linux (clock_getcpuclockid(3), proc(5))."""

import ctypes
import os
import time
from collections.abc import Mapping
from pathlib import Path

_LIBRARY = ctypes.CDLL(None)
_PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process so far, threads that have ended included, in seconds.

    Raises ProcessLookupError if it is gone.
    """
    # In nanoseconds; /proc/PID/stat has hundredths of a second, a handover takes less.
    clock = ctypes.c_int()
    if error := _LIBRARY.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(error, os.strerror(error), pid)
    return time.clock_gettime(clock.value)


def resident_bytes(pid: int) -> int:
    """Return a process's resident memory in bytes. Raises FileNotFoundError when it is gone."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


def descriptors(pid: int) -> int:
    """Return how many files a process has open. Raises FileNotFoundError when it is gone."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Return how many threads a process has. Raises FileNotFoundError when it is gone."""
    return len(os.listdir(f"/proc/{pid}/task"))


def peak_resident_bytes(pid: int) -> int:
    """Return the highest resident memory so far, in bytes. Raises FileNotFoundError when it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/{pid}/status has no VmHWM")


class Stopwatch:
    """Measure wall-clock seconds, and the processor seconds that each process (name: pid) uses meanwhile."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self.started = time.monotonic()

    def elapsed(self) -> float:
        """Return the wall-clock seconds since construction."""
        return time.monotonic() - self.started

    def cpu(self) -> dict[str, float]:
        """Return the processor seconds of each process since construction, by name."""
        return {name: round(cpu_seconds(pid) - self._cpu[name], 6) for name, pid in self._pids.items()}


def settle(pids: Mapping[str, int], timeout: float = 20.0) -> None:
    """Wait until these processes are almost idle, for `timeout` seconds at most."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        clock = Stopwatch(pids)
        time.sleep(0.3)
        if sum(clock.cpu().values()) <= 0.1:  # Open vSwitch takes up to 0.08 with 300,000 flows that may end
            return
