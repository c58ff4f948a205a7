# SPDX-License-Identifier: Apache-2.0
"""Count the bridge's requests, reports and readings, and describe its condition. Pure."""

from collections import Counter
from dataclasses import dataclass, field

LEASE, BINDINGS, SNAPSHOT = "lease", "bindings", "snapshot"
OK, REFUSED, UNREACHABLE = "ok", "refused", "unreachable"
ACCEPTED, STALE, FAILED = "accepted", "stale", "failed"
UNREADABLE, DOWN = "unreadable", "down"


@dataclass(slots=True)
class Statistics:
    """Count requests by purpose and result, reports by verdict, and readings by result."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    readings: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Condition:
    """Describe the bridge's condition.

    `announced`: the controller has confirmed the last renewal of the lease. `since_change`: seconds since the kernel's
    last event, None if there was none. `registered`: bindings of the home agent; `accepted`: bindings that the
    controller has accepted; `differences`: paths that differ between the two; `withheld`: bindings left to the home
    agent; `frozen`: bindings that it forgot in a restart.
    """

    home_agent_up: bool
    announced: bool
    readable: bool
    lease_suspended: bool
    since_change: float | None
    registered: int
    accepted: int
    differences: int
    withheld: int
    frozen: int
