# SPDX-License-Identifier: Apache-2.0
"""What the tunnels should be versus what the kernel has: pure, no I/O. Everything the agent does comes from
here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tunnel.pairs import Pair
from tunnel.rtnetlink import parse_address, parse_prefix, prefix_text


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
    then nothing goes but what the controller names (`removed`).
    """

    tunnels: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    complete: bool = False


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
                if desired.tunnels.pop(_or_same(text), None) is not None or not desired.complete:
                    desired.removed.add(_or_same(text))
        for tunnel in answer.tunnels:
            self._put(tunnel)
        for home_agent in answer.home_agents:
            self._of(_or_same(home_agent))
        complete = {_or_same(home_agent) for home_agent in answer.home_agents}
        for home_agent, desired in self.by_home_agent.items():
            desired.complete = home_agent in complete

    def _put(self, tunnel: Tunnel) -> None:
        self.unreadable.pop(tunnel.home_address, None)
        try:
            home_address = prefix_text(parse_prefix(tunnel.home_address))
            care_of_address = prefix_text(parse_address(tunnel.care_of_address))
            home_agent = prefix_text(parse_address(tunnel.home_agent))
        except ValueError as error:
            self.unreadable[tunnel.home_address] = str(error)
            return
        for other, desired in self.by_home_agent.items():
            if other != home_agent and desired.tunnels.pop(home_address, None) is not None:
                desired.removed.add(home_address)
        desired = self._of(home_agent)
        desired.tunnels[home_address] = care_of_address
        desired.removed.discard(home_address)

    def _of(self, home_agent: str) -> Desired:
        return self.by_home_agent.setdefault(home_agent, Desired())


@dataclass
class Installed:
    """What an endpoint's kernel has: {home address: care-of address} of the routes, and the pairs accepted."""

    routes: dict[str, str] = field(default_factory=dict)
    pairs: set[Pair] = field(default_factory=set)


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


def plan(desired: Desired, installed: Installed) -> Plan:
    """What to do so that `installed` becomes `desired`; nothing for what is right already."""
    pairs = {Pair(care_of, home) for home, care_of in desired.tunnels.items()}
    routes = {h: c for h, c in desired.tunnels.items() if installed.routes.get(h) != c}
    extra_routes: Collection[str] = installed.routes.keys() - desired.tunnels.keys()
    extra_pairs: Iterable[Pair] = installed.pairs - pairs
    if not desired.complete:
        named = desired.removed | desired.tunnels.keys()
        extra_routes = [home for home in extra_routes if home in named]
        extra_pairs = [pair for pair in extra_pairs if pair.inner_source in named]
    return Plan(frozenset(pairs - installed.pairs), routes, frozenset(extra_routes), frozenset(extra_pairs))


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
        return prefix_text(parse_prefix(text))
    except ValueError:
        return text
