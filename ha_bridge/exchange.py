# SPDX-License-Identifier: Apache-2.0
"""What the bridge's decisions command, and what came of each command. Times are seconds of one monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

from ha_bridge.ledger import Report


@dataclass(frozen=True, slots=True)
class Read:
    """Look at the source."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the home agent and renew its lease."""

    status: str
    started: float


@dataclass(frozen=True, slots=True)
class Send:
    """Tell the controller of some bindings."""

    reports: list[Report]
    started: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Tell the controller all bindings."""

    reports: list[Report]
    started: float


Command = Read | Announce | Send | Snapshot


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to nothing. `reached`: the controller answered, but not with what was asked for.

    `unknown`: it does not know the home agent (404) and wants it announced first. `retry_after`: seconds in which
    asking again is of no use, as it does not accept this bridge's token, or has been asked too often.
    """

    detail: str
    reached: bool
    unknown: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Announced:
    """The lease is renewed; `snapshot_wanted`: the controller asks for all bindings."""

    snapshot_wanted: bool
    bindings: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The controller's answer to one report: HTTP status and, where it refused, why."""

    status: int
    errors: str = ""
    home_agent_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Replaced:
    """The controller has taken a snapshot, but for `refused`: home address and reason."""

    counts: dict[str, int]
    refused: dict[str, str]
