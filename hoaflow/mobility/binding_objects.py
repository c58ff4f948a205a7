# SPDX-License-Identifier: Apache-2.0
"""Declare what the kernel has for each binding: routes, accepted pairs, proxy entries.

There may be 100,000 bindings, so one declared object holds all of one kind. It is read at once, compared in slices,
between which signalling goes on, and mended in one batch.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

from hoaflow.addresses import parse_prefix
from hoaflow.linux import (
    AF_INET6,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTA_ENCAP,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_VIA,
    RTAX_MTU,
    RTM_DELROUTE,
    RTM_NEWROUTE,
    RTN_UNICAST,
)
from hoaflow.mobility.hairpin import EXIT_ADDRESS
from hoaflow.tunnel.actual_state import ActualState, FoundRoute, MissingParent, found_route
from hoaflow.tunnel.declaration import Steps, at_once
from hoaflow.tunnel.links import LinkError
from hoaflow.tunnel.rtnetlink import ROUTE, RouteSocket, attribute, attributes, route_body
from hoaflow.tunnel.seg6 import distinct_metric
from hoaflow.tunnel.spoofing_filter import SourcePair, SpoofingFilter

T = TypeVar("T")
OWNER = 16
"""Protocol number of our proxy entries and routes; UMIP uses the same, and so do DHCP clients (RTPROT_DHCP)."""
DEVICE_PREFIX = "hoatnl"
"""How the names of our tunnel devices begin."""
SLICE = 100
"""Items compared between two pauses: a few milliseconds of work."""
LAST_METRIC = 0xFFFFFFFF
"""Of a route that gives way to any other one for the same prefix."""


def summary(what: str, missing: Collection[object], surplus: Collection[object]) -> str | None:
    """Say in one clause, with an example, what is missing and what is surplus; None if nothing is."""
    parts = [
        f"{len(which)} {what} {how}, as {next(iter(which))}"
        for which, how in ((missing, "missing"), (surplus, "wrong or nobody's"))
        if which
    ]
    return "; ".join(parts) or None


def paused(things: Iterable[T]) -> Iterator[T | None]:
    """Yield things one by one, and None when it is time for a pause."""
    for number, thing in enumerate(things):
        if number % SLICE == 0:
            yield None
        yield thing


def metric_of(home_address: str, of_ipv6: int) -> int:
    """Return the metric of a home address's route: of IPv4, a different one for each (`seg6.distinct_metric`)."""
    return of_ipv6 if ":" in home_address else distinct_metric(parse_prefix(home_address))


def next_hop(home_address: str, hop: bytes) -> bytes:
    """Return the attribute of a route for a home address that leads to an IPv6 next hop; nothing without one."""
    if not hop:
        return b""
    return attribute(RTA_GATEWAY, hop) if ":" in home_address else attribute(RTA_VIA, struct.pack("=H", AF_INET6) + hop)


def leads_into_tunnel(route: FoundRoute) -> bool:
    """Tell whether a route is one of ours into a tunnel, of this process or one before, and not a DHCP client's."""
    if route.protocol != OWNER:
        return False
    if route.encap_type or route.hop == EXIT_ADDRESS:
        return True
    try:
        return socket.if_indextoname(route.interface).startswith(DEVICE_PREFIX)
    except OSError:  # the interface has gone since, and its routes with it; or there is none, as with blackholes
        return False


class HostRoute(NamedTuple):
    """The parts of a home address's route that are compared.

    `encap` as the kernel lists it (RTA_ENCAP); `mtu` in octets, 0 for that of the interface.
    """

    protocol: int
    metric: int
    interface: int
    hop: str = ""
    encap: bytes = b""
    mtu: int = 0


class HostRoutes:
    """A table's routes for home addresses: one for each, and no others for the same addresses but with LAST_METRIC."""

    def __init__(
        self,
        table: int,
        wanted: Mapping[str, str],
        route: Callable[[ActualState, str, str], HostRoute],
        ours: Callable[[FoundRoute], bool],
        put: Callable[[Iterable[str]], None],
        family: int = AF_INET6,
    ) -> None:
        """Declare those of one family. `wanted` maps home addresses to what their routes lead to.

        It may change any time, and have home addresses of the other family, too. `route` tells how a home address's
        route there looks, `ours` whether a further route is ours to remove; `put` makes the routes of some home
        addresses.
        """
        self._table, self._wanted, self._route, self._ours, self._put = table, wanted, route, ours, put
        self._family, self._host = family, "/128" if family == AF_INET6 else "/32"

    def __str__(self) -> str:
        return f"routes of {'' if self._family == AF_INET6 else 'IPv4 '}home addresses in table {self._table}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        missing, surplus = yield from self._compared(actual)
        return summary(f"routes of table {self._table}", sorted(missing), [route.prefix for route in surplus])

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            missing, surplus = at_once(self._compared(actual))
        remove_routes(surplus)
        if missing:
            self._put(missing)

    def remove(self) -> None:
        """Remove all of them."""
        self._wanted = {}
        self.make()

    def _compared(self, actual: ActualState) -> Steps[tuple[set[str], list[FoundRoute]]]:
        read, ipv6 = actual.listed_routes(None, self._family, self._table, 0), self._family == AF_INET6
        wanted = {home: leads_to for home, leads_to in self._wanted.items() if (":" in home) is ipv6}
        right: set[str] = set()
        surplus = []
        for message in paused(read):
            if message is None:
                yield
                continue
            route = found_route(message)
            if route.table != self._table:
                continue
            home_address = route.prefix.removesuffix(self._host)
            leads_to = wanted.get(home_address)
            says = HostRoute(route.protocol, route.metric, route.interface, route.hop, _encap(route), _mtu(route))
            if (
                leads_to is not None
                and route.kind == RTN_UNICAST
                and self._route(actual, home_address, leads_to) == says
            ):
                right.add(home_address)
            elif (leads_to is not None and route.metric != LAST_METRIC) or self._ours(route):
                surplus.append(route)
        return wanted.keys() - right, surplus


def remove_routes(routes: Sequence[FoundRoute]) -> None:
    """Remove routes; those that are gone already are fine. Raises LinkError."""
    with contextlib.closing(RouteSocket()) as opened:
        codes = opened.request(RTM_DELROUTE, 0, [route.message for route in routes])
    for route, code in zip(routes, codes, strict=True):
        if code not in (0, errno.ESRCH):
            raise LinkError(f"removing the route {route.prefix} of table {route.table}: {os.strerror(code)}")


class RouteMaker:
    """Makes and removes routes for home addresses, over a socket of its own. Raises LinkError, OSError."""

    def __init__(self, table: int, protocol: int) -> None:
        self._table, self._protocol = table, protocol
        self._socket = RouteSocket()

    @property
    def port(self) -> int:
        """Its netlink port, which the kernel notes in notifications of its changes."""
        return int(self._socket.socket.getsockname()[0])

    def put(self, interfaces: Mapping[str, int], metric: int, hop: bytes = b"", mtu: int = 0) -> None:
        """Make or replace routes. `interfaces` maps home addresses to the index of the outgoing interface.

        `metric` is that of IPv6 routes: see `metric_of`. `hop` is an IPv6 address. `mtu`: 0 for the interface's.
        """
        routes = {}
        metrics = attribute(RTA_METRICS, attribute(RTAX_MTU, struct.pack("=I", mtu))) if mtu else b""
        for home, interface in interfaces.items():
            routes[home] = attribute(RTA_PRIORITY, struct.pack("=I", metric_of(home, metric)))
            routes[home] += next_hop(home, hop) + attribute(RTA_OIF, struct.pack("=I", interface)) + metrics
        self.put_all(routes)

    def put_all(self, attributes_of: Mapping[str, bytes]) -> None:
        """Make or replace routes. `attributes_of` maps home addresses to all else that their routes say."""
        bodies = {home: self._body(home, rest) for home, rest in attributes_of.items()}
        self._request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, bodies)

    def delete(self, home_address: str, metric: int | None = None) -> None:
        """Remove a route, of this metric if there may be several. Fine when it is not there."""
        rest = b"" if metric is None else attribute(RTA_PRIORITY, struct.pack("=I", metric))
        self._request(RTM_DELROUTE, 0, {home_address: self._body(home_address, rest)})

    def close(self) -> None:
        """Close its socket."""
        self._socket.close()

    def _body(self, home_address: str, rest: bytes) -> bytes:
        return route_body(parse_prefix(home_address), self._table, self._protocol, rest)

    def _request(self, kind: int, flags: int, bodies: Mapping[str, bytes]) -> None:
        for home_address, code in zip(bodies, self._socket.request(kind, flags, bodies.values()), strict=True):
            if code and (kind, code) != (RTM_DELROUTE, errno.ESRCH):
                verb = "removing" if kind == RTM_DELROUTE else "making"
                raise LinkError(f"{verb} route {home_address} of table {self._table}: {os.strerror(code)}")


class AcceptedPairs:
    """The pairs that the filter accepts: exactly those of the bindings. They vanish with the filter's table."""

    def __init__(self, pairs: SpoofingFilter, wanted: Mapping[str, str]) -> None:
        """Declare them. `wanted` maps home addresses to care-of addresses; it may change any time."""
        self._pairs, self._wanted = pairs, wanted

    def __str__(self) -> str:
        return "accepted pairs of care-of and home address"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        table = self._pairs.table
        if (table.family, table.name) not in actual.tables(None):
            raise MissingParent("nftables table of pairs is missing")
        parts, wanted = self._pairs.listed(), dict(self._wanted)
        right: set[str] = set()
        surplus = []
        for pair in paused(pair for part in parts for pair in part()):
            if pair is None:
                yield
            elif wanted.get(pair.inner_source) == pair.outer_source:
                right.add(pair.inner_source)
            else:
                surplus.append(pair)
        return summary("accepted pairs", [SourcePair(wanted[home], home) for home in wanted.keys() - right], surplus)

    def make(self) -> None:
        """See `Declared`."""
        self._pairs.replace((care_of_address, home_address) for home_address, care_of_address in self._wanted.items())

    def remove(self) -> None:
        """See `Declared`."""


class Proxy(Protocol):
    """The part of `home_link.HomeLink` that `ProxyEntries` uses."""

    wanted: set[str]

    def defended(self) -> set[str]:
        """See `HomeLink`."""

    def listed(self) -> list[bytes]:
        """See `HomeLink`."""

    def proxied(self, entry: bytes) -> str | None:
        """See `HomeLink`."""

    def defend(self, address: str) -> None:
        """See `HomeLink`."""

    def release(self, address: str) -> None:
        """See `HomeLink`."""


class ProxyEntries:
    """The addresses for which the kernel answers on the home link (RFC 6275, section 10.4.1)."""

    def __init__(self, home_link: Proxy, what: str = "proxy entries") -> None:
        self._home_link, self._what = home_link, what

    def __str__(self) -> str:
        return f"{self._what} on the home link"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        entries, wanted = self._home_link.listed(), set(self._home_link.wanted)
        found: set[str] = set()
        for entry in paused(entries):
            if entry is None:
                yield
            elif (address := self._home_link.proxied(entry)) is not None:
                found.add(address)
        return summary(self._what, wanted - found, found - wanted)

    def make(self) -> None:
        """Answer for all of them, and advertise those that were missing, as nobody answered for them meanwhile."""
        found = self._home_link.defended()
        for address in self._home_link.wanted - found:
            self._home_link.defend(address)
        for address in found - self._home_link.wanted:
            self._home_link.release(address)

    def remove(self) -> None:
        """See `Declared`."""
        self._home_link.wanted.clear()
        self.make()


def _encap(route: FoundRoute) -> bytes:
    return dict(attributes(route.message[ROUTE.size :])).get(RTA_ENCAP, b"") if route.encap_type else b""


def _mtu(route: FoundRoute) -> int:
    metrics = dict(attributes(route.message[ROUTE.size :])).get(RTA_METRICS, b"")
    found = dict(attributes(metrics)).get(RTAX_MTU)
    return struct.unpack("=I", found)[0] if found else 0
