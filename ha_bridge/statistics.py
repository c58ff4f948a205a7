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
    """Count a controller's requests by purpose and result, and reports by verdict."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class HomeAgentCondition:
    """Describe the home agent's condition.

    `since_change`: seconds since the kernel's last event, None if there was none. `registered`: its bindings;
    `withheld`: those left to it; `frozen`: those that it forgot in a restart.
    """

    up: bool
    readable: bool
    lease_suspended: bool
    since_change: float | None
    registered: int
    withheld: int
    frozen: int


@dataclass(frozen=True, slots=True)
class MemberCondition:
    """Describe what one controller has.

    `announced`: it has confirmed the last renewal of the lease. `accepted`: bindings that it has accepted;
    `differences`: paths in which it differs from the home agent.
    """

    announced: bool
    accepted: int
    differences: int
