# SPDX-License-Identifier: Apache-2.0
"""Home agents as their bridges announce them, and the lease that each bridge holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from controller.core import reasons
from controller.core.addresses import Prefix, format_address, host
from controller.core.reasons import Reason


class Status(Enum):
    """What the bridge says of the home agent."""

    UP = "up"
    # The home agent's process is down, its bridge is not: bindings are frozen and serve until their lifetimes end.
    DOWN = "ha-down"


class PrefixesOverlap(Exception):
    """Two home agents claim the same addresses."""


@dataclass(slots=True)
class HomeAgent:
    """One announced home agent.

    ``lease`` is in seconds. ``lease_ends`` is on the caller's clock, and so is ``held_since``, when the unbroken lease
    began. ``synced`` is true once a snapshot has come under it; before, what is held may be stale and no gate opens.
    """

    address: bytes
    home_prefixes: tuple[Prefix, ...]
    lease: int
    lease_ends: float
    status: Status
    held_since: float
    synced: bool = False

    def lease_held(self, now: float) -> bool:
        """Tell whether the bridge has renewed its lease in time."""
        return now < self.lease_ends

    def may_offload(self, now: float) -> bool:
        """Tell whether gates may be open: the lease holds, and what is held is the home agent's own word."""
        return self.why_held(now) is None

    def why_held(self, now: float) -> Reason | None:
        """Say what keeps all traffic on this home agent's path, None if nothing does."""
        if not self.lease_held(now):
            return reasons.lease_lapsed(self.address, self.lease_ends)
        return None if self.synced else reasons.snapshot_awaited(self.address, self.held_since)

    def covers(self, home_address: Prefix) -> bool:
        """Tell whether ``home_address`` lies in one of the home prefixes."""
        return any(prefix.contains(home_address) for prefix in self.home_prefixes)


class HomeAgents:
    """All announced home agents, by address."""

    def __init__(self) -> None:
        self._home_agents: dict[bytes, HomeAgent] = {}

    def __iter__(self) -> Iterator[HomeAgent]:
        return iter(self._home_agents.values())

    def get(self, address: bytes) -> HomeAgent | None:
        """Return the home agent announced with ``address``."""
        return self._home_agents.get(address)

    def covering(self, prefix: Prefix) -> HomeAgent | None:
        """Return the home agent in whose home prefixes ``prefix`` lies."""
        return next((agent for agent in self if agent.covers(prefix)), None)

    def within(self, prefix: Prefix) -> HomeAgent | None:
        """Return a home agent whose own address is ``prefix``, or lies in it."""
        if prefix.is_host:
            return self.get(prefix.packed)
        return next((agent for agent in self if prefix.contains(host(agent.address))), None)

    def announce(
        self, address: bytes, home_prefixes: tuple[Prefix, ...], lease: int, status: Status, now: float
    ) -> HomeAgent:
        """Create or renew. Idempotent, but that the lease starts anew: ``lease`` seconds from ``now``.

        After a lapse the home agent counts as not synced until its next snapshot.
        Raises PrefixesOverlap, changing nothing, when another home agent holds one of the addresses and its lease.
        """
        for other in self.overlapping(address, home_prefixes):
            if not other.lease_held(now):
                continue
            taken = ", ".join(map(str, other.home_prefixes))
            raise PrefixesOverlap(
                f"home agent {format_address(other.address)} holds {taken};"
                " a home prefix belongs to one home agent as long as that one's lease holds"
            )
        held = self._home_agents.get(address)
        unbroken = held is not None and held.lease_held(now)
        since = held.held_since if held is not None and unbroken else now
        synced = held is not None and unbroken and held.synced
        agent = HomeAgent(address, home_prefixes, lease, now + lease, status, since, synced)
        self._home_agents[address] = agent
        return agent

    def overlapping(self, address: bytes, home_prefixes: tuple[Prefix, ...]) -> list[HomeAgent]:
        """Return the home agents other than ``address`` that hold addresses of ``home_prefixes``."""
        return [
            other
            for other in self
            if other.address != address and any(p.overlaps(q) for p in home_prefixes for q in other.home_prefixes)
        ]

    def forget(self, address: bytes) -> None:
        """Forget a home agent."""
        self._home_agents.pop(address, None)

    def next_lapse(self) -> float | None:
        """Return when the next lease under which traffic is offloaded ends; in the past if that is overdue."""
        return min((agent.lease_ends for agent in self if agent.synced), default=None)
