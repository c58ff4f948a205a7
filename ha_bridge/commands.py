# SPDX-License-Identifier: Apache-2.0
"""Define the bridge's commands and their outcomes. Times are seconds of one monotonic clock."""

from dataclasses import dataclass

from ha_bridge.model import Owner
from ha_bridge.reconciliation import Report


@dataclass(frozen=True, slots=True)
class Read:
    """Read the source, which shows what `owner` has: the home agent beside the bridge, None if it has no other pods."""

    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a controller which members its cluster has."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Announce the home agent and renew its lease.

    `period` is the home agent's (`HomeAgent.period`), `last_change` the number of the last change that the controller
    must have been told of, None if the bridge knows of no changes yet. `owner`: as in `Read`.
    """

    status: str
    period: int
    last_change: int | None
    started: float
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Report some bindings to a controller.

    With them everything up to change `last_change` is reported; None if something is left out.
    """

    reports: list[Report]
    last_change: int | None
    started: float
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Report all bindings to a controller, as of change `last_change`."""

    reports: list[Report]
    last_change: int
    started: float
    owner: Owner | None = None


MemberCommand = Ask | Announce | Send | Snapshot


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed; `detail` says why.

    `reached`: the controller answered, but not as expected. `unknown`: it does not know the home agent (404), which
    must be announced first. `retry_after`: seconds to wait before the next request, if it refuses the token or is too
    busy.
    """

    detail: str
    reached: bool
    unknown: bool = False
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Announced:
    """The lease is renewed. `snapshot_wanted`: the controller asks for all bindings."""

    snapshot_wanted: bool
    bindings: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The controller's verdict on one report: the HTTP status and, for a refusal, the reason."""

    status: int
    errors: str = ""
    home_agent_unknown: bool = False


@dataclass(frozen=True, slots=True)
class Replaced:
    """The controller accepted a snapshot; `refused` has the reasons by home address."""

    counts: dict[str, int]
    refused: dict[str, str]
