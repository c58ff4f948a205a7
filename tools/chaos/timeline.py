# SPDX-License-Identifier: Apache-2.0
"""Hold what was done to the system, and when; times are in seconds since the epoch."""

from dataclasses import dataclass
from typing import NamedTuple

from tools.chaos.pace import Pace

LEASE_ENDS = 15.0  # seconds after which the home agent's path is taken again: a lease of 10 s, on a busy machine
RECOVERED = 30.0  # seconds after a fault's end, within which all is direct again


class Loss(NamedTuple):
    """Bound what a fault may lose: packets of more than `over` octets, for so many seconds after its begin or end."""

    seconds: float
    after_end: bool = False
    over: int = 0

    def __str__(self) -> str:
        bound = f"{self.seconds:g} s after its {'end' if self.after_end else 'begin'}"
        return f"{bound}, of more than {self.over:,} octets" if self.over else bound


@dataclass(frozen=True)
class Disturbance:
    """Record a fault. `loss`: its bound, None if it may lose nothing. `places`: where; see `Location`."""

    fault: str
    kind: str
    target: str
    start: float
    end: float
    loss: Loss | None
    places: frozenset[str]

    def may_lose_until(self, pace: Pace, octets: int) -> float:
        """Return when a packet of so many octets is no longer lost by this fault."""
        if self.loss is None or octets <= self.loss.over:
            return self.start
        return pace.after(self.end if self.loss.after_end else self.start, self.loss.seconds)


@dataclass(frozen=True)
class Move:
    """Record that a mobile node was attached to a link; 0 is its home link."""

    at: float
    node: str
    link: int


@dataclass(frozen=True)
class Claim:
    """Record what a controller said of a binding."""

    at: float
    controller: str
    home_address: str
    state: str


@dataclass(frozen=True)
class Objection:
    """Record what was still said against it, long after all was direct, that it is."""

    at: float
    text: str


@dataclass(frozen=True)
class Usage:
    """Record what a process had: its memory in MiB and its open descriptors."""

    pid: int
    memory: float
    descriptors: int


@dataclass(frozen=True)
class Inventory:
    """Record what there is on all hosts: processes by name, and network namespaces by host."""

    processes: dict[str, Usage]
    namespaces: dict[str, frozenset[str]]
