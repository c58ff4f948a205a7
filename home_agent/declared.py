# SPDX-License-Identifier: Apache-2.0
"""What a home agent's kernel has for each binding: routes, accepted pairs, proxy entries.

One declared object holds a whole kind, as there may be 100,000 bindings: it is read at one go and mended in one batch.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from pyroute2 import IPRoute, NetlinkError

from hoaflow.linux import RTA_ENCAP, RTN_UNICAST
from tunnel.links import LinkError
from tunnel.look import FoundRoute, Look, Missing
from tunnel.pairs import FAMILY, TABLE, Pair, PairFilter
from tunnel.rtnetlink import ROUTE, attributes


def _encap(route: FoundRoute) -> bytes:
    return dict(attributes(route.message[ROUTE.size :])).get(RTA_ENCAP, b"") if route.encap_type else b""


def off(what: str, missing: Collection[object], surplus: Collection[object]) -> str | None:
    """Return in one clause how a kind is off, with an example; None when it is not."""
    parts = [
        f"{len(which)} {what} {how}, as {next(iter(which))}"
        for which, how in ((missing, "missing"), (surplus, "wrong or nobody's"))
        if which
    ]
    return "; ".join(parts) or None


class HostRoute(NamedTuple):
    """What a route for one home address says; `encap` as the kernel lists it (RTA_ENCAP)."""

    protocol: int
    metric: int
    interface: int
    hop: str = ""
    encap: bytes = b""


class HostRoutes:
    """The routes of one table for home addresses: these, and no other ones for the same addresses."""

    def __init__(
        self,
        table: int,
        wanted: Callable[[Look], Mapping[str, HostRoute]],
        ours: Callable[[FoundRoute], bool],
        put: Callable[[Iterable[str]], None],
    ) -> None:
        """`wanted`: by prefix; `ours`: whether another route is of ours; `put`: makes those of some prefixes."""
        self._table, self._wanted, self._ours, self._put = table, wanted, ours, put

    def __str__(self) -> str:
        return f"routes of home addresses in table {self._table}"

    def difference(self, look: Look) -> str | None:
        """See `Declared`."""
        missing, surplus = self._compare(look)
        return off(f"routes of table {self._table}", sorted(missing), [route.prefix for route in surplus])

    def make(self) -> None:
        """See `Declared`."""
        with Look() as look:
            missing, surplus = self._compare(look)
        with IPRoute() as netlink:
            for route in surplus:
                try:
                    netlink.route(
                        "del",
                        family=socket.AF_INET6,
                        dst=route.prefix,
                        table=self._table,
                        proto=route.protocol,
                        priority=route.metric,
                    )
                except NetlinkError as error:
                    raise LinkError(f"removing the route {route.prefix} of table {self._table}: {error}") from error
        self._put(missing)

    def remove(self) -> None:
        """Take all of them away."""
        self._wanted = lambda _look: {}
        self.make()

    def _compare(self, look: Look) -> tuple[set[str], list[FoundRoute]]:
        wanted = self._wanted(look)
        right: set[str] = set()
        surplus = []
        for route in look.routes(None, socket.AF_INET6, self._table, 0):
            says = HostRoute(route.protocol, route.metric, route.interface, route.hop, _encap(route))
            if route.kind == RTN_UNICAST and wanted.get(route.prefix) == says:
                right.add(route.prefix)
            elif route.prefix in wanted or self._ours(route):
                surplus.append(route)
        return wanted.keys() - right, surplus


class AcceptedPairs:
    """The pairs that the filter lets pass: exactly those of the bindings. They go with the filter's table."""

    def __init__(self, pairs: PairFilter, wanted: Mapping[str, str]) -> None:
        """`wanted`: {home address: care-of address}."""
        self._pairs, self._wanted = pairs, wanted

    def __str__(self) -> str:
        return "accepted pairs of care-of and home address"

    def difference(self, look: Look) -> str | None:
        """See `Declared`."""
        if (FAMILY, TABLE) not in look.tables(None):
            raise Missing("nftables table of pairs is missing")
        wanted, found = self._all(), self._pairs.installed()
        return off("accepted pairs", wanted - found, found - wanted)

    def make(self) -> None:
        """See `Declared`."""
        self._pairs.replace(self._all())

    def remove(self) -> None:
        """See `Declared`."""

    def _all(self) -> set[Pair]:
        return {Pair(care_of_address, home_address) for home_address, care_of_address in self._wanted.items()}


class Proxy(Protocol):
    """What `ProxyEntries` needs of `home_link.HomeLink`."""

    wanted: set[str]

    def defended(self) -> set[str]: ...
    def defend(self, address: str) -> None: ...
    def release(self, address: str) -> None: ...


class ProxyEntries:
    """The addresses for which the kernel answers on the home link (RFC 6275, section 10.4.1)."""

    def __init__(self, home_link: Proxy) -> None:
        self._home_link = home_link

    def __str__(self) -> str:
        return "proxy entries on the home link"

    def difference(self, look: Look) -> str | None:
        """See `Declared`."""
        wanted, found = self._home_link.wanted, self._home_link.defended()
        return off("proxy entries", wanted - found, found - wanted)

    def make(self) -> None:
        """Answer for all of them, and tell the link so: it may have asked while nobody answered."""
        found = self._home_link.defended()
        for address in self._home_link.wanted - found:
            self._home_link.defend(address)
        for address in found - self._home_link.wanted:
            self._home_link.release(address)

    def remove(self) -> None:
        """See `Declared`."""
        self._home_link.wanted.clear()
        self.make()
