# SPDX-License-Identifier: Apache-2.0
"""Represent points in time that stay meaningful after a restart.

The host's clock may be set between two runs. CLOCK_BOOTTIME can't be set, and it counts while the host is suspended,
but it starts at zero with each boot, so it can only be compared within one boot.
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A point in time: seconds since the epoch, and since the boot whose identifier is `boot` (empty if unknown)."""

    epoch: float
    boottime: float = 0.0
    boot: str = ""

    @classmethod
    def now(cls) -> "Timestamp":
        """Read the clocks. Raises OSError if there is no /proc."""
        return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME), _boot())

    def plus(self, seconds: float) -> "Timestamp":
        """Return the timestamp `seconds` later."""
        return Timestamp(self.epoch + seconds, self.boottime + seconds, self.boot)

    def same_boot(self, other: "Timestamp") -> bool:
        """Tell whether both are of the same boot, so that the time between them is certain."""
        return self.boot == other.boot != ""

    def seconds_since(self, other: "Timestamp") -> float:
        """Return the time between two timestamps: certain within one boot, else by the host's clock."""
        return self.boottime - other.boottime if self.same_boot(other) else self.epoch - other.epoch

    def clock_set_since(self, other: "Timestamp") -> float:
        """Return by how many seconds the host's clock was set (negative: back) within one boot, else 0."""
        return (self.epoch - self.boottime) - (other.epoch - other.boottime) if self.same_boot(other) else 0.0


@functools.cache
def _boot() -> str:
    """Return the identifier of this boot. It can't change while a process lives."""
    return BOOT_ID.read_text().strip()
