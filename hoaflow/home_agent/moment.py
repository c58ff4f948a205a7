# SPDX-License-Identifier: Apache-2.0
"""A point in time that outlives the process: by the host's clock, and by one that nobody can set.

The host's clock may be set, back or ahead, between two runs. CLOCK_BOOTTIME can't be and counts through a suspension,
but starts anew with each boot: it is compared within one boot only.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """Seconds since the epoch, and seconds since the boot whose identifier is `boot` (empty: not known)."""

    epoch: float
    boottime: float = 0.0
    boot: str = ""

    @classmethod
    def now(cls) -> Moment:
        """Read the clocks. Raises OSError (no /proc)."""
        return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot())

    def plus(self, seconds: float) -> Moment:
        """Return the moment that comes so much later."""
        return Moment(self.epoch + seconds, self.boottime + seconds, self.boot)

    def same_boot(self, other: Moment) -> bool:
        """Whether both are of one boot, and the time between them is known for certain."""
        return self.boot == other.boot != ""

    def seconds_since(self, other: Moment) -> float:
        """Return the time between the two: for certain within one boot, else by the host's clock."""
        return self.boottime - other.boottime if self.same_boot(other) else self.epoch - other.epoch

    def clock_set_since(self, other: Moment) -> float:
        """Return by how many seconds the host's clock was set ahead (negative: back) within one boot; else 0."""
        return (self.epoch - self.boottime) - (other.epoch - other.boottime) if self.same_boot(other) else 0.0


@functools.cache
def _boot() -> str:
    """The identifier of this boot; no process sees two."""
    return BOOT_ID.read_text().strip()
