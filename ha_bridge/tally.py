# SPDX-License-Identifier: Apache-2.0
"""What the bridge has done and how it stands, in numbers. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LEASE, BINDINGS, SNAPSHOT = "lease", "bindings", "snapshot"
OK, REFUSED, UNREACHABLE = "ok", "refused", "unreachable"
ACCEPTED, STALE, FAILED = "accepted", "stale", "failed"
UNREADABLE, DOWN = "unreadable", "down"


@dataclass(slots=True)
class Tally:
    """Requests by what for and how they ended, reports of single bindings by the controller's verdict, and looks at the
    source by what they showed."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Condition:
    """How the bridge stands.

    `announced`: the controller has confirmed the lease's last renewal. `since_change`: seconds since the kernel last
    told of a change, None if it never did.
    `registered` bindings at the home agent, `told` ones that the controller has accepted, `unsent` changes that it has
    not, `withheld` bindings that are left to the home agent, `frozen` ones that it forgot in a restart.
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
