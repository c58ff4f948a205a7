# SPDX-License-Identifier: Apache-2.0
"""Find out whether the router's kernel has a way to the care-of addresses that an endpoint tunnels to.

A tunnel is of no use where its packets are dropped on their way out: for want of a route, by one that makes the address
unreachable, or by a routing rule. Only the host's administrator can mend that, so such bindings are left to their home
agents. How many there may be decides how often each is looked up.
"""

from collections.abc import Iterable, Mapping
from itertools import chain, islice

from hoaflow.addresses import parse_address
from hoaflow.linux import RTN_LOCAL, RTN_UNICAST
from hoaflow.logs import Log
from hoaflow.router.endpoint import Endpoint
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.errors import TunnelError

LOG = Log("router")

SAMPLE = 1000  # the most care-of addresses that are looked up at a time, at 23 µs each


class CareOfRoutes:
    """The ways from a bridge's endpoints to care-of addresses, as last looked up."""

    def __init__(self, bridge: str) -> None:
        """Begin with nothing looked up."""
        self._bridge = bridge
        self._actual = ActualState()
        self._ways: dict[EndpointRoutes, _Ways] = {}

    def compare(self, tunnels: Mapping[EndpointRoutes, Mapping[str, str]]) -> None:
        """Look up, of each endpoint's tunnels ({home address: care-of address}), what had no way, and some others.

        These are what was not looked up yet, and then what was looked up longest ago.
        """
        self._actual.close()  # a namespace of the same name may have been made since
        self._ways = {routes: ways for routes, ways in self._ways.items() if routes in tunnels}
        for routes, each in tunnels.items():
            self._of(routes).compare(each.values())

    def blocked(
        self, routes: EndpointRoutes, tunnels: Mapping[str, str], changed: Iterable[str] | None
    ) -> dict[str, str]:
        """Return {home address: reason} of those of an endpoint's tunnels that have no way out.

        ``changed``: the home addresses that may have moved since the last call, None for all. Their care-of addresses
        are looked up if they are new.
        """
        return self._of(routes).blocked(tunnels, tunnels if changed is None else changed)

    def close(self) -> None:
        """Close what was opened to look."""
        self._actual.close()

    def _of(self, routes: EndpointRoutes) -> "_Ways":
        if routes not in self._ways:
            self._ways[routes] = _Ways(Endpoint.of(self._bridge, routes.record), self._actual)
        return self._ways[routes]


class _Ways:
    def __init__(self, endpoint: Endpoint, actual: ActualState) -> None:
        self._endpoint, self._actual = endpoint, actual
        self._known: dict[str, None] = {}  # what was looked up longest ago comes first
        self._blocked: dict[str, str] = {}

    def compare(self, care_of_addresses: Iterable[str]) -> None:
        wanted = dict.fromkeys(care_of_addresses)
        self._known = {each: None for each in self._known if each in wanted}
        self._blocked = {each: reason for each, reason in self._blocked.items() if each in wanted}
        new = (each for each in wanted if each not in self._known)
        self._look_up(dict.fromkeys(chain(self._blocked, islice(chain(new, self._known), SAMPLE))))

    def blocked(self, tunnels: Mapping[str, str], changed: Iterable[str]) -> dict[str, str]:
        moved = (tunnels[home] for home in changed if home in tunnels)
        self._look_up(dict.fromkeys(islice((to for to in moved if to not in self._known), SAMPLE)))
        if not self._blocked:
            return {}
        return {home: self._blocked[to] for home, to in tunnels.items() if to in self._blocked}

    def _look_up(self, care_of_addresses: Iterable[str]) -> None:
        try:
            found = {each: self._problem(each) for each in care_of_addresses}
        except (TunnelError, OSError) as error:  # the comparison of the endpoint finds what is missing
            LOG.warning("routes-unread", home_agent=self._endpoint.home_agent, reason=error)
            return
        for each, problem in found.items():
            self._known.pop(each, None)
            self._known[each] = None
            self._blocked.pop(each, None)
            if problem is not None:
                self._blocked[each] = problem

    def _problem(self, care_of_address: str) -> str | None:
        """Say why a tunnel packet to an address does not leave the router, None if it does."""
        home_agent, namespace = self._endpoint.home_agent, self._endpoint.kernel_namespace
        entrance = self._actual.link(namespace, self._endpoint.kernel_port)
        ends = parse_address(care_of_address), parse_address(home_agent)
        route = self._actual.route_to(namespace, *ends, entrance.number)
        if route is not None and route.kind == RTN_LOCAL:
            return None  # a foreign agent, or gateway, on the router itself
        shown_by = f"ip route get {care_of_address} from {home_agent} iif {self._endpoint.kernel_port}"
        if route is None or route.kind != RTN_UNICAST:
            return f"the router's kernel has no route to care-of address {care_of_address}: {shown_by}"
        if not any(link.number == route.interface and link.running for link in self._actual.links(namespace).values()):
            return f"the interface to care-of address {care_of_address} is down or has no carrier: {shown_by}"
        return None
