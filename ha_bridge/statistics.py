# SPDX-License-Identifier: Apache-2.0
"""Count what the bridge does, and describe its condition. Pure."""

from collections import Counter
from dataclasses import dataclass, field

LEASE, BINDINGS, SNAPSHOT = "lease", "bindings", "snapshot"
OK, REFUSED, UNREACHABLE = "ok", "refused", "unreachable"
ACCEPTED, STALE, FAILED = "accepted", "stale", "failed"
UNREADABLE, DOWN = "unreadable", "down"


@dataclass(slots=True)
class Statistics:
    """Counters of requests by purpose and result, of reports by verdict, and of readings by result."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Condition:
    """The bridge's condition.

    `announced`: the controller has confirmed the last renewal of the lease. `since_change`: seconds since the kernel's
    last event, None if there was none. `registered`: bindings at the home agent; `told`: bindings that the controller
    has taken; `unsent`: changes that it has not; `withheld`: bindings left to the home agent; `frozen`: bindings that
    it forgot in a restart.
    """

    home_agent_up: bool
    announced: bool
    readable: bool
    lease_suspended: bool
    since_change: float | None
    registered: int
    told: int
    unsent: int
    withheld: int
    frozen: int
