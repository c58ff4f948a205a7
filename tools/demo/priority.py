# SPDX-License-Identifier: Apache-2.0
"""Give programs real-time priority, so that the machine's other work does not show in the figures.

For programs that run already, not for those that start, which takes a second of processor time each: of each second in
which real-time programs leave nothing to others the kernel takes 50 ms from them (sched(7), "Limiting the CPU usage of
real-time and deadline processes"), and every packet then under way would be late by that.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from topologies.processes import Process

NETWORK = 2  # Open vSwitch, links, traffic, mobile node and home agent: they are what is measured
HOAFLOW = 1


def give(processes: Iterable[Process], priority: int) -> None:
    """Give all threads of these programs the real-time PRIORITY, where that is permitted."""
    for process in processes:
        for thread in Path(f"/proc/{process.pid}/task").glob("*"):
            with contextlib.suppress(PermissionError, ProcessLookupError):
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(priority))


@contextlib.contextmanager
def given_to_started(programs: Mapping[str, Process], priority: int) -> Iterator[None]:
    """Give the programs that are started while the context lasts the real-time PRIORITY when it ends."""
    before = set(programs)
    yield
    give((process for name, process in programs.items() if name not in before), priority)


@contextlib.contextmanager
def raised(priority: int) -> Iterator[None]:
    """Run this thread and its commands at the real-time PRIORITY, where permitted, while the context lasts."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(priority))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
