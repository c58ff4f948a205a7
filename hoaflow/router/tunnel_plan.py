# SPDX-License-Identifier: Apache-2.0
"""Compare the tunnels that the controller wants with what the kernel has, and plan the changes. Pure, no I/O."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hoaflow.addresses import canonical_address, canonical_prefix
from hoaflow.tunnel.spoofing_filter import SourcePair


class Tunnel(NamedTuple):
    """A binding to carry: home address or prefix, care-of address, home agent, as the controller writes them.

    Without `reverse_tunnel` (Mobile IPv4, RFC 3024), no packets from the home address are accepted from the tunnel.
    """

    home_address: str
    care_of_address: str
    home_agent: str
    reverse_tunnel: bool = True


@dataclass(frozen=True)
class TunnelList:
    """The controller's answer (`GET /v1/routers/{dpid}/tunnels`).

    `full`: the list is complete for each of the `home_agents`; otherwise it holds what has changed. `master`: the
    controller is the router's master, as far as it knows; `generation`: the newest of the router's masters.
    """

    revision: int
    full: bool
    home_agents: frozenset[str]
    tunnels: tuple[Tunnel, ...]
    removed: tuple[str, ...]
    master: bool = True
    generation: int = 0


@dataclass
class DesiredTunnels:
    """The desired tunnels of one home agent, {home address: care-of address}.

    `complete`: the controller knows the home agent's whole binding cache, so all other tunnels have to go. Until then
    only those that it names (`removed`) go. `down_only`: the home addresses without reverse tunnel. `changed`: the home
    addresses that have changed since `take_changed`, or None if all may have.
    """

    tunnels: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    down_only: set[str] = field(default_factory=set)
    complete: bool = False
    changed: set[str] | None = None

    def put(self, home_address: str, care_of_address: str, reverse_tunnel: bool = True) -> None:
        """Desire this tunnel."""
        self.tunnels[home_address] = care_of_address
        (self.down_only.discard if reverse_tunnel else self.down_only.add)(home_address)
        self.removed.discard(home_address)
        self._mark(home_address)

    def drop(self, home_address: str) -> None:
        """Stop desiring the tunnel for a home address, and remember it as removed while the list may be incomplete."""
        self.down_only.discard(home_address)
        if self.tunnels.pop(home_address, None) is not None or not self.complete:
            self.removed.add(home_address)
            self._mark(home_address)

    def take_changed(self) -> set[str] | None:
        """Return the home addresses that have changed since the last call, or None if all may have."""
        changed, self.changed = self.changed, set()
        return changed

    def _mark(self, home_address: str) -> None:
        if self.changed is not None:
            self.changed.add(home_address)


class DesiredByHomeAgent:
    """All tunnels that the controller wants on this router, by home agent.

    `unreadable`: {home address as sent: reason} of tunnels that could not be parsed.
    """

    def __init__(self) -> None:
        self.by_home_agent: dict[str, DesiredTunnels] = {}
        self.unreadable: dict[str, str] = {}

    def update(self, answer: TunnelList) -> set[str]:
        """Take over an answer of the controller, except for unreadable tunnels; return the home addresses it lists."""
        if answer.full:
            self.by_home_agent = {}
            self.unreadable = {}
        for text in answer.removed:
            self.unreadable.pop(text, None)
            for desired in self.by_home_agent.values():
                desired.drop(_or_same(text))
        listed = {home_address for tunnel in answer.tunnels if (home_address := self._put(tunnel)) is not None}
        for home_agent in answer.home_agents:
            self._of(_or_same(home_agent))
        complete = {_or_same(home_agent) for home_agent in answer.home_agents}
        for home_agent, desired in self.by_home_agent.items():
            if desired.complete != (home_agent in complete):
                desired.complete, desired.changed = home_agent in complete, None
        return listed

    def _put(self, tunnel: Tunnel) -> str | None:
        self.unreadable.pop(tunnel.home_address, None)
        try:
            home_address = canonical_prefix(tunnel.home_address)
            care_of_address, home_agent = map(canonical_address, (tunnel.care_of_address, tunnel.home_agent))
            if (":" in care_of_address) != (":" in home_agent):
                raise ValueError(f"care-of address {care_of_address} and home agent {home_agent} differ in family")
        except ValueError as error:
            self.unreadable[tunnel.home_address] = str(error)
            return None
        for other, desired in self.by_home_agent.items():
            if other != home_agent and home_address in desired.tunnels:
                desired.drop(home_address)
        self._of(home_agent).put(home_address, care_of_address, tunnel.reverse_tunnel)
        return home_address

    def _of(self, home_agent: str) -> DesiredTunnels:
        return self.by_home_agent.setdefault(home_agent, DesiredTunnels())


class InstalledTunnels:
    """What an endpoint's kernel has.

    `routes`: {home address: care-of address}. `accepted`: {home address: care-of addresses} of the accepted pairs.
    """

    def __init__(self, routes: Mapping[str, str] | None = None, pairs: Iterable[SourcePair] = ()) -> None:
        self.routes = dict(routes or {})
        self.accepted: dict[str, set[str]] = {}
        self.accept(pairs)

    def accept(self, pairs: Iterable[SourcePair]) -> None:
        """Record that these pairs are accepted, too."""
        for care_of_address, home_address in pairs:
            self.accepted.setdefault(home_address, set()).add(care_of_address)

    def refuse(self, pairs: Iterable[SourcePair]) -> None:
        """Record that these pairs are no longer accepted."""
        for care_of_address, home_address in pairs:
            left = self.accepted[home_address]
            left.discard(care_of_address)
            if not left:
                del self.accepted[home_address]


@dataclass(frozen=True)
class TunnelPlan:
    """The changes, in the order in which they are to be made.

    A pair is accepted before a route, and then the controller's flow, leads there; removals come last.
    """

    add_pairs: frozenset[SourcePair]
    set_routes: dict[str, str]
    drop_routes: frozenset[str]
    drop_pairs: frozenset[SourcePair]

    def __bool__(self) -> bool:
        return bool(self.add_pairs or self.set_routes or self.drop_routes or self.drop_pairs)

    @property
    def removals(self) -> "Removals":
        """What is removed."""
        return Removals(self.drop_routes, self.drop_pairs)


class Removals(NamedTuple):
    """Routes, by home address, and pairs to remove."""

    routes: frozenset[str] = frozenset()
    pairs: frozenset[SourcePair] = frozenset()

    def common(self, other: "Removals") -> "Removals":
        """Return what is in both."""
        return Removals(self.routes & other.routes, self.pairs & other.pairs)

    def without(self, other: "Removals") -> "Removals":
        """Return what is in this one alone."""
        return Removals(self.routes - other.routes, self.pairs - other.pairs)

    @property
    def home_addresses(self) -> set[str]:
        """Those of which a route or a pair is removed."""
        return {*self.routes, *(pair.inner_source for pair in self.pairs)}


def plan(desired: DesiredTunnels, installed: InstalledTunnels, homes: Iterable[str] | None = None) -> TunnelPlan:
    """Return the changes that turn `installed` into `desired`.

    `homes`: the home addresses to compare, None for all. With 100,000 bindings, comparing all would delay a handover.
    """
    if homes is None:
        homes = {*desired.tunnels, *installed.routes, *installed.accepted}
    set_routes: dict[str, str] = {}
    drop_routes: set[str] = set()
    add_pairs: set[SourcePair] = set()
    drop_pairs: set[SourcePair] = set()
    for home in homes:
        care_of, accepted = desired.tunnels.get(home), installed.accepted.get(home, ())
        if care_of is None and not (desired.complete or home in desired.removed):
            continue
        if care_of is None and home in installed.routes:
            drop_routes.add(home)
        if care_of is not None and care_of != installed.routes.get(home):
            set_routes[home] = care_of
        source = None if home in desired.down_only else care_of
        if source is not None and source not in accepted:
            add_pairs.add(SourcePair(source, home))
        drop_pairs.update(SourcePair(other, home) for other in accepted if other != source)
    return TunnelPlan(frozenset(add_pairs), set_routes, frozenset(drop_routes), frozenset(drop_pairs))


def without_endpoint(desired: DesiredByHomeAgent, endpoints: Mapping[str, object]) -> dict[str, str]:
    """Return {home address: reason} of the tunnels whose home agent has no endpoint on this bridge."""
    return {
        home_address: f"no tunnel endpoint for home agent {home_agent}: run hoaflow-router setup for it"
        for home_agent, of_home_agent in desired.by_home_agent.items()
        if home_agent not in endpoints
        for home_address in of_home_agent.tunnels
    }


def _or_same(text: str) -> str:
    """Return the RFC 5952 form, or the text itself if it is no address or prefix."""
    try:
        return canonical_prefix(text)
    except ValueError:
        return text
