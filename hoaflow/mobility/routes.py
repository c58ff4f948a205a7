# SPDX-License-Identifier: Apache-2.0
"""Declare routes that anchors rely on: to care-of addresses, to the home link, and to nowhere."""

from collections.abc import Iterable, Mapping

from hoaflow.addresses import parse_address
from hoaflow.linux import AF_INET6, MAIN_TABLE, RT_SCOPE_LINK, RTN_UNICAST, RTN_UNREACHABLE
from hoaflow.mobility.binding_objects import LAST_METRIC, paused, remove_routes, summary
from hoaflow.tunnel.actual_state import ActualState, FoundRoute
from hoaflow.tunnel.declaration import Steps, at_once
from hoaflow.tunnel.links import LinkError, family_of, netlink
from hoaflow.tunnel.routing import FOREIGN, PROTOCOL

SAMPLE = 1000
"""Most care-of addresses that one comparison looks up, at 23 µs each."""
KERNEL, ON_LINK_METRIC = 2, 256
"""Protocol and, of IPv6, metric of the on-link route that the kernel makes for an address."""

LINK_LOCAL = "fe80::/64"


class CareOfAddressRoutes:
    """At least half of the care-of addresses have a route, through an interface that is up and has a carrier.

    If the uplink is down or its routes were flushed, every tunnelled packet is lost. Only the host's administrator can
    mend that, so it is reported.

    A single address without a route says nothing about the home agent. Nor does one that a route makes unreachable on
    purpose: while a default route works, addresses without a route do not count. After the last binding has ended, the
    care-of addresses held last are looked up, as all bindings expire while the uplink is down.
    """

    def __init__(self, home_agent: str, wanted: Mapping[str, str]) -> None:
        """Declare them. `wanted` maps home addresses to care-of addresses; it may change any time."""
        self._home_agent, self._wanted = parse_address(home_agent), wanted
        self._any = "::" if ":" in home_agent else "0.0.0.1"
        """An address that only a default route leads to."""
        self._held: list[str] = []

    def __str__(self) -> str:
        return "routes to care-of addresses"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return at_once(self.slices(actual))

    def slices(self, actual: ActualState) -> Steps[str | None]:
        """See `Sliced`."""
        self._held = list(dict.fromkeys(self._wanted.values())) or self._held
        asked = self._held[:: -(-len(self._held) // SAMPLE) or 1]
        running = {link.number for link in actual.links(None).values() if link.running}
        default = self._reached(actual, self._any, running, excluded=False)
        reached = 0
        for address in paused(asked):
            if address is None:
                yield
                continue
            reached += self._reached(actual, address, running, excluded=default)
            if 2 * reached >= len(asked):
                return None
        return f"no route works for {len(asked) - reached} of {len(asked)} care-of addresses" if asked else None

    def make(self) -> None:
        """See `Declared`."""
        raise LinkError("check the uplink and its routes: ip route get CARE-OF-ADDRESS")

    def remove(self) -> None:
        """See `Declared`."""

    def _reached(self, actual: ActualState, address: str, running: set[int], excluded: bool) -> bool:
        """Tell whether packets to an address leave the host. `excluded` is the answer if it has no route."""
        route = actual.route_to(None, parse_address(address), self._home_agent)
        return excluded if route is None else route.kind == RTN_UNICAST and route.interface in running


class OnLinkRoute:
    """A prefix of the home link has a route to that link, as the kernel makes it with an address.

    Its best route leads there, except that every link has a route for the link-local prefix.
    """

    def __init__(self, prefix: str, interface: str) -> None:
        self._prefix, self._interface, self._family = prefix, interface, family_of(prefix)

    def __str__(self) -> str:
        return f"route {self._prefix} dev {self._interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        right, wrong = self._compared(actual)
        if wrong:
            return f"another route leads {self._prefix} away from {self._interface}"
        return None if right else f"route {self._prefix} dev {self._interface} is missing"

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            right, wrong = self._compared(actual)
            index = actual.link(None, self._interface).number
        remove_routes(wrong)
        if right:
            return
        with netlink(None) as route:
            # Not "add": another link may have the same prefix.
            kernels: dict[str, object] = {"proto": KERNEL, "family": self._family}
            if self._family == AF_INET6:
                kernels["priority"] = ON_LINK_METRIC
            else:
                kernels["scope"] = RT_SCOPE_LINK
            route.route("append", dst=self._prefix, oif=index, **kernels)

    def remove(self) -> None:
        """Do nothing: it goes with the address."""

    def _compared(self, actual: ActualState) -> tuple[list[FoundRoute], list[FoundRoute]]:
        """Return the prefix's routes to the home link, and other routes that are preferred to them."""
        index = actual.link(None, self._interface).number
        # Listed by protocol, as the table may also have the routes of 100,000 bindings.
        found = [
            route
            for protocol in (KERNEL, *FOREIGN)
            for route in actual.routes(None, self._family, MAIN_TABLE, protocol)
            if route.prefix == self._prefix
        ]
        right = [each for each in found if (each.kind, each.interface, each.hop) == (RTN_UNICAST, index, "")]
        best = min((each.metric for each in right), default=ON_LINK_METRIC)
        shared = self._prefix == LINK_LOCAL
        return right, [each for each in found if not shared and each not in right and each.metric <= best]


class UnreachablePrefixes:
    """What no other route of table main covers of these prefixes, of one family, is unreachable.

    Packets for a mobile node that is not registered, or whose home link is down, would follow the default route, and
    the next router would send them back, again and again.
    """

    def __init__(self, prefixes: Iterable[str], family: int = AF_INET6) -> None:
        self._prefixes, self._family = frozenset(prefixes), family

    def __str__(self) -> str:
        return f"unreachable {'IPv6' if self._family == AF_INET6 else 'IPv4'} prefixes of mobile nodes"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        there = self._there(actual).keys()
        return summary("unreachable routes", self._prefixes - there, there - self._prefixes)

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            there = self._there(actual)
        remove_routes([route for prefix, route in there.items() if prefix not in self._prefixes])
        where = {"family": self._family, "table": MAIN_TABLE, "proto": PROTOCOL}
        with netlink(None) as route:
            for prefix in self._prefixes - there.keys():
                route.route("replace", dst=prefix, type="unreachable", priority=LAST_METRIC, **where)

    def remove(self) -> None:
        """Remove all of them, also those of a process that was killed."""
        with ActualState() as actual:
            found = list(self._there(actual).values())
        remove_routes(found)

    def _there(self, actual: ActualState) -> dict[str, FoundRoute]:
        return {
            found.prefix: found
            for found in actual.routes(None, self._family, MAIN_TABLE, PROTOCOL)
            if (found.kind, found.metric) == (RTN_UNREACHABLE, LAST_METRIC)
        }
