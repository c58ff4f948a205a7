# SPDX-License-Identifier: Apache-2.0
"""What the tunnels should be versus what the kernel has: pure, no I/O. Everything the agent does comes from
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hoaflow.addresses import canonical_address, canonical_prefix
from hoaflow.tunnel.pairs import Pair


class Tunnel(NamedTuple):
    """A binding to carry: home address (or prefix), care-of address, home agent, as the controller wrote
    them.
    """

    home_address: str
    care_of_address: str
    home_agent: str


@dataclass(frozen=True)
class TunnelList:
    """The controller's answer (`GET /v1/routers/{dpid}/tunnels`).

    `full`: for each home agent of `home_agents` the list is complete. Otherwise it holds what has changed.
    """

    revision: int
    full: bool
    home_agents: frozenset[str]
    tunnels: tuple[Tunnel, ...]
    removed: tuple[str, ...]


@dataclass
class Desired:
    """The tunnels of one home agent as known so far: {home address: care-of address}.

    `complete`: the controller has that home agent's whole binding cache, so what is not here has to go. Until
    then nothing goes but what the controller names (`removed`). `changed`: the home addresses for which that is
    new since `take_changed`; None: all.
    """

    tunnels: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    complete: bool = False
    changed: set[str] | None = None

    def put(self, home_address: str, care_of_address: str) -> None:
        """Want this tunnel."""
        self.tunnels[home_address] = care_of_address
        self.removed.discard(home_address)
        self._mark(home_address)

    def drop(self, home_address: str) -> None:
        """Want it no longer. Of one that was never wanted nothing is kept, as soon as all are known."""
        if self.tunnels.pop(home_address, None) is not None or not self.complete:
            self.removed.add(home_address)
            self._mark(home_address)

    def take_changed(self) -> set[str] | None:
        """What has changed since the last call; None: everything may have."""
        changed, self.changed = self.changed, set()
        return changed

    def _mark(self, home_address: str) -> None:
        if self.changed is not None:
            self.changed.add(home_address)


class Wanted:
    """All tunnels that the controller wants on this router, by home agent."""

    def __init__(self) -> None:
        self.by_home_agent: dict[str, Desired] = {}
        self.unreadable: dict[str, str] = {}  # home address as sent: why

    def take(self, answer: TunnelList) -> None:
        """Bring in an answer of the controller. An unreadable tunnel is set aside, the others count."""
        if answer.full:
            self.by_home_agent = {}
            self.unreadable = {}
        for text in answer.removed:
            self.unreadable.pop(text, None)
            for desired in self.by_home_agent.values():
                desired.drop(_or_same(text))
        for tunnel in answer.tunnels:
            self._put(tunnel)
        for home_agent in answer.home_agents:
            self._of(_or_same(home_agent))
        complete = {_or_same(home_agent) for home_agent in answer.home_agents}
        for home_agent, desired in self.by_home_agent.items():
            if desired.complete != (home_agent in complete):
                desired.complete, desired.changed = home_agent in complete, None

    def _put(self, tunnel: Tunnel) -> None:
        self.unreadable.pop(tunnel.home_address, None)
        try:
            home_address = canonical_prefix(tunnel.home_address)
            care_of_address = canonical_address(tunnel.care_of_address)
            home_agent = canonical_address(tunnel.home_agent)
        except ValueError as error:
            self.unreadable[tunnel.home_address] = str(error)
            return
        for other, desired in self.by_home_agent.items():
            if other != home_agent and home_address in desired.tunnels:
                desired.drop(home_address)
        self._of(home_agent).put(home_address, care_of_address)

    def _of(self, home_agent: str) -> Desired:
        return self.by_home_agent.setdefault(home_agent, Desired())


class Installed:
    """What an endpoint's kernel has.

    `routes`: {home address: care-of address}; `accepted`: {home address: care-of addresses} of the pairs.
    """

    def __init__(self, routes: Mapping[str, str] | None = None, pairs: Iterable[Pair] = ()) -> None:
        self.routes = dict(routes or {})
        self.accepted: dict[str, set[str]] = {}
        self.accept(pairs)

    def accept(self, pairs: Iterable[Pair]) -> None:
        """These pairs are accepted now, too."""
        for care_of_address, home_address in pairs:
            self.accepted.setdefault(home_address, set()).add(care_of_address)

    def refuse(self, pairs: Iterable[Pair]) -> None:
        """These are not any more."""
        for care_of_address, home_address in pairs:
            left = self.accepted[home_address]
            left.discard(care_of_address)
            if not left:
                del self.accepted[home_address]


@dataclass(frozen=True)
class Plan:
    """The steps, in the order in which they are to be taken.

    A pair is accepted before a route, and so the controller's flow, can lead there; what is to go goes last.
    """

    add_pairs: frozenset[Pair]
    set_routes: dict[str, str]
    drop_routes: frozenset[str]
    drop_pairs: frozenset[Pair]

    def __bool__(self) -> bool:
        return bool(self.add_pairs or self.set_routes or self.drop_routes or self.drop_pairs)

    @property
    def dropped(self) -> set[str]:
        """The home addresses of which something goes."""
        return {*self.drop_routes, *(pair.inner_source for pair in self.drop_pairs)}


def plan(desired: Desired, installed: Installed, homes: Iterable[str] | None = None) -> Plan:
    """What to do so that `installed` becomes `desired`; nothing for what is right already.

    `homes`: the home addresses to look at, None for all. With 100,000 bindings it is a handover's time.
    """
    if homes is None:
        homes = {*desired.tunnels, *installed.routes, *installed.accepted}
    set_routes: dict[str, str] = {}
    drop_routes: set[str] = set()
    add_pairs: set[Pair] = set()
    drop_pairs: set[Pair] = set()
    for home in homes:
        care_of, accepted = desired.tunnels.get(home), installed.accepted.get(home, ())
        if care_of is None and not (desired.complete or home in desired.removed):
            continue
        if care_of is None and home in installed.routes:
            drop_routes.add(home)
        if care_of is not None and care_of != installed.routes.get(home):
            set_routes[home] = care_of
        if care_of is not None and care_of not in accepted:
            add_pairs.add(Pair(care_of, home))
        drop_pairs.update(Pair(other, home) for other in accepted if other != care_of)
    return Plan(frozenset(add_pairs), set_routes, frozenset(drop_routes), frozenset(drop_pairs))


def without_endpoint(wanted: Wanted, endpoints: Mapping[str, object]) -> dict[str, str]:
    """{home address: reason} of the tunnels whose home agent has no endpoint on this bridge."""
    return {
        home_address: f"no tunnel endpoint for home agent {home_agent}: run hoaflow-router setup for it"
        for home_agent, desired in wanted.by_home_agent.items()
        if home_agent not in endpoints
        for home_address in desired.tunnels
    }


def _or_same(text: str) -> str:
    """The RFC 5952 form, or the text itself where it is no address: then nothing is found by it."""
    try:
        return canonical_prefix(text)
    except ValueError:
        return text
