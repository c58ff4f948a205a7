# SPDX-License-Identifier: Apache-2.0
"""Keep home agents as their bridges announce them, and the lease of each bridge."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from controller.core import reasons
from controller.core.bindings import Change
from controller.core.holders import PrefixHolders
from controller.core.owners import Owner, check_announcement
from controller.core.protocols import Protocol
from controller.core.reasons import Reason
from hoaflow.addresses import Prefix, format_address, host
from hoaflow.errors import HoaflowError


class Status(Enum):
    """What the bridge says about the home agent."""

    UP = "up"
    # The home agent's process is down but its bridge is not: bindings serve on until their lifetimes end.
    DOWN = "ha-down"


class PrefixesOverlap(HoaflowError):
    """Two home agents claim the same addresses."""


@dataclass(slots=True)
class HomeAgent:
    """One announced home agent.

    ``lease`` is in seconds. ``lease_ends``, and ``lease_since``, when the unbroken lease began, are on the caller's
    clock. ``synced``: a snapshot has come under this lease; before that bindings may be stale, and no gate opens.

    ``last_change``: the number of the home agent's last change that the bridge had seen when it last renewed its lease,
    None if it gives no numbers. ``reported``: the change up to which it has reported everything here, None for none.
    ``reported_until``: the end of the last lease for which these went together. No gate stands longer.

    ``protocols``: those of its bindings; of an LMA (RFC 5213), `Protocol.PMIPV6`. ``group``: anchors of the same group
    may have home prefixes in common, as a home agent and an LMA of one network do (RFC 6612); None for none.

    ``owner``: which of several pods its bridge follows, None if it does not say.
    """

    address: bytes
    home_prefixes: tuple[Prefix, ...]
    lease: int
    lease_ends: float
    status: Status
    lease_since: float
    synced: bool = False
    last_change: int | None = None
    reported: int | None = None
    reported_until: float = -math.inf
    protocols: frozenset[Protocol] = frozenset({Protocol.MIPV6})
    group: str | None = None
    owner: Owner | None = None

    def lease_holds(self, now: float) -> bool:
        """Tell whether the bridge has renewed its lease in time."""
        return now < self.lease_ends

    def may_offload(self, now: float) -> bool:
        """Tell whether gates may be open: the lease holds, and a snapshot has come under it."""
        return now < self.lease_ends and self.synced and (now < self.reported_until or self.last_change is None)

    def why_not_offloaded(self, now: float) -> Reason | None:
        """Say what keeps all of this home agent's traffic on its path, None if nothing does."""
        if self.may_offload(now):
            return None
        if not self.lease_holds(now):
            return reasons.lease_lapsed(self.address, self.lease_ends)
        if not self.synced:
            return reasons.snapshot_awaited(self.address, self.lease_since)
        return reasons.reports_awaited(self.address, self.last_change, self.reported, self.reported_until)

    @property
    def is_known(self) -> bool:
        """Whether a snapshot has come under this lease, and under the bridge's present count of changes."""
        return self.synced and (self.last_change is None or self.reported is not None)

    def certify(self) -> None:
        """Let gates stand until the lease ends if all has been reported that the bridge had seen when it renewed it."""
        if self.last_change is None or (self.reported is not None and self.reported >= self.last_change):
            self.reported_until = self.lease_ends

    def covers(self, home_address: Prefix) -> bool:
        """Tell whether a home address lies in one of the home prefixes."""
        return any(prefix.contains(home_address) for prefix in self.home_prefixes)


class HomeAgents:
    """All announced home agents, by address."""

    def __init__(self) -> None:
        self._home_agents: dict[bytes, HomeAgent] = {}
        # Several have a home prefix only if they are of one group.
        self._by_prefix: PrefixHolders[bytes] = PrefixHolders()

    def __iter__(self) -> Iterator[HomeAgent]:
        return iter(self._home_agents.values())

    def get(self, address: bytes) -> HomeAgent | None:
        """Return the home agent with an address, None if none is announced."""
        return self._home_agents.get(address)

    def covering(self, prefix: Prefix) -> HomeAgent | None:
        """Return the home agent in one of whose home prefixes ``prefix`` lies; of a group, any of them."""
        return next(self.all_covering(prefix), None)

    def all_covering(self, prefix: Prefix) -> Iterator[HomeAgent]:
        """Iterate over the home agents in whose home prefixes ``prefix`` lies: several if they are of one group."""
        addresses = dict.fromkeys(self._by_prefix.covering(prefix))
        return (found for found in map(self.get, addresses) if found is not None)

    def owners(self, end: Prefix) -> list[HomeAgent]:
        """Return the home agents that an address or prefix belongs to: its own address, or in their home prefixes."""
        own = self.get(end.packed) if end.is_host else None
        return list(self.all_covering(end)) if own is None else [own]

    def sharing(self, home_agent: HomeAgent) -> list[HomeAgent]:
        """Return the other home agents of a group that have home prefixes in common with one of it."""
        if home_agent.group is None:
            return []
        overlapping = self._overlapping(home_agent.address, home_agent.home_prefixes)
        return [each for each in overlapping if each.group == home_agent.group]

    def within(self, prefix: Prefix) -> HomeAgent | None:
        """Return a home agent whose own address lies in ``prefix``."""
        if prefix.is_host:
            return self.get(prefix.packed)
        return next((agent for agent in self if prefix.contains(host(agent.address))), None)

    def announce(
        self,
        address: bytes,
        home_prefixes: tuple[Prefix, ...],
        lease: int,
        status: Status,
        now: float,
        last_change: int | None = None,
        protocols: frozenset[Protocol] = frozenset({Protocol.MIPV6}),
        group: str | None = None,
        owner: Owner | None = None,
    ) -> tuple[HomeAgent, Change]:
        """Announce a home agent or renew its lease, which then ends ``lease`` seconds from ``now``. Idempotent.

        After a lapse the home agent counts as not synced until its next snapshot. So does what was reported, also when
        the number of the last change goes back: the bridge has started anew; or when there is another owner: its
        bridge knows nothing of what the former one's has seen. Gates then stand no longer than they did.
        Raises PrefixesOverlap, changing nothing, when another home agent holds one of the addresses and its lease;
        AnotherOwner, when a newer owner has been announced.
        """
        former = self._home_agents.get(address)
        if former is not None:
            check_announcement(address, former.owner, owner, former.lease_holds(now))
        # Prefixes that it has already can't be another's.
        news = former is None or (former.home_prefixes, former.group) != (home_prefixes, group)
        for other in self.overlapping(address, home_prefixes, group) if news else ():
            if not other.lease_holds(now):
                continue
            taken = ", ".join(map(str, other.home_prefixes))
            private = any(prefix.is_ipv4 for prefix in home_prefixes)
            raise PrefixesOverlap(
                f"home agent {format_address(other.address)} holds {taken};"
                " a home prefix belongs to one home agent, or one group, as long as that one's lease holds"
                + ("; private addresses that several networks use can't be told apart" if private else "")
            )
        unbroken = former is not None and former.lease_holds(now)
        since = former.lease_since if former is not None and unbroken else now
        synced = former is not None and unbroken and former.synced
        agent = HomeAgent(
            address,
            home_prefixes,
            lease,
            now + lease,
            status,
            since,
            synced,
            last_change,
            protocols=protocols,
            group=group,
            owner=owner,
        )
        if former is not None and unbroken:
            agent.reported_until = min(former.reported_until, agent.lease_ends)
            if owner == former.owner and (last_change or 0) >= (former.last_change or 0):
                agent.reported = former.reported
        agent.certify()
        change = Change.REFRESHED
        if former is None or not unbroken:
            change = Change.ADDED
        elif news or (former.status, former.protocols, former.owner) != (status, protocols, owner):
            change = Change.CHANGED
        self._home_agents[address] = agent
        if news:
            for prefix in () if former is None else former.home_prefixes:
                self._by_prefix.remove(prefix, address)
            for prefix in home_prefixes:
                self._by_prefix.add(prefix, address)
        return agent, change

    def report(self, address: bytes, last_change: int, whole: bool) -> HomeAgent | None:
        """Record that a bridge has reported everything up to a change; ``whole``: by a snapshot, whose number counts.

        Returns the home agent, None if none is announced.
        """
        agent = self.get(address)
        if agent is not None:
            newest = last_change if whole or agent.reported is None else max(last_change, agent.reported)
            agent.reported = newest
            agent.certify()
        return agent

    def overlapping(
        self, address: bytes, home_prefixes: tuple[Prefix, ...], group: str | None = None
    ) -> list[HomeAgent]:
        """Return the other home agents, none of ``group``, whose home prefixes overlap with ``home_prefixes``."""
        found = self._overlapping(address, home_prefixes)
        return [each for each in found if group is None or each.group != group]

    def _overlapping(self, address: bytes, home_prefixes: tuple[Prefix, ...]) -> list[HomeAgent]:
        found = {
            other: None
            for prefix in home_prefixes
            for other in chain(self._by_prefix.covering(prefix), self._by_prefix.within(prefix))
            if other != address
        }
        return [self._home_agents[other] for other in found]

    def forget(self, address: bytes) -> None:
        """Forget a home agent."""
        agent = self._home_agents.pop(address, None)
        for prefix in () if agent is None else agent.home_prefixes:
            self._by_prefix.remove(prefix, address)

    def reporting(self, now: float) -> frozenset[str]:
        """Return the home agents whose bridges report to this controller: snapshot and a recent renewal have come."""
        return frozenset(
            format_address(agent.address) for agent in self if agent.synced and agent.lease_ends - now > agent.lease / 2
        )

    def next_lapse(self) -> float | None:
        """Return when the next lease of a synced home agent ends, in the past if that is overdue."""
        return min((agent.lease_ends for agent in self if agent.synced), default=None)
