# SPDX-License-Identifier: Apache-2.0
"""Lead packets to mobile networks (RFC 3963, section 6.3).

While its mobile router has a binding, a mobile network's packets are tunnelled like the mobile router's own. Else the
mobile router is at home or nowhere, so they go to its home address on the home link: they must not follow the default
route, as the next router would send them back.
"""

from collections.abc import Collection

from hoaflow.home_agent.prefix_table import PrefixTable
from hoaflow.linux import AF_INET6, MAIN_TABLE, RTN_UNICAST, RTN_UNREACHABLE
from hoaflow.mobility.binding_objects import summary
from hoaflow.mobility.tunnels import Tunnels
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.routing import PROTOCOL, Route


class MobileNetworks:
    """The tunnels of mobile networks, and the routes by the home link of those that are not tunnelled.

    The routes are one declared object; `Tunnels` declares the tunnels.
    """

    def __init__(self, table: PrefixTable, home_link: str, tunnels: Tunnels) -> None:
        """Take the interface of the home link."""
        self._table, self._home_link, self._tunnels = table, home_link, tunnels
        self._routes = {prefix: Route(None, prefix, router, home_link) for prefix, router in table}

    def tunnel(self, router: str, networks: Collection[str], care_of_address: str) -> None:
        """Tunnel these networks of a mobile router, and no others. Raises one of KERNEL_ERRORS."""
        for prefix in self._table.of(router):
            before = self._tunnels.carries(prefix)
            if prefix in networks:
                self._tunnels.tunnel(prefix, care_of_address)
            else:
                self._tunnels.untunnel(prefix)
            if self._tunnels.carries(prefix) is not before:
                self._follow(prefix)

    def untunnel(self, router: str) -> None:
        """Tunnel none of a mobile router's networks. Raises one of KERNEL_ERRORS."""
        self.tunnel(router, (), "")

    def __str__(self) -> str:
        return f"routes to mobile networks dev {self._home_link}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        return summary("routes to mobile networks", *self._compared(actual))

    def make(self) -> None:
        """See `Declared`."""
        with ActualState() as actual:
            missing, surplus = self._compared(actual)
        for prefix in missing | surplus:
            self._follow(prefix)

    def remove(self) -> None:
        """See `Declared`."""
        for route in self._routes.values():
            route.remove()

    def _follow(self, prefix: str) -> None:
        """Make the route to a network, or remove it, as its tunnel is there."""
        if self._tunnels.carries(prefix):
            self._routes[prefix].remove()
        else:
            self._routes[prefix].make()

    def _compared(self, actual: ActualState) -> tuple[set[str], set[str]]:
        """Return the networks whose routes are missing, and those whose routes are wrong or too many."""
        index = actual.link(None, self._home_link).number
        wanted = {
            prefix: (RTN_UNICAST, index, route.via)
            for prefix, route in self._routes.items()
            if not self._tunnels.carries(prefix)
        }
        ours = {
            found.prefix: (found.kind, found.interface, found.hop)
            for found in actual.routes(None, AF_INET6, MAIN_TABLE, PROTOCOL)
            if found.prefix in self._routes and found.kind != RTN_UNREACHABLE
        }
        right = {prefix for prefix, facts in ours.items() if wanted.get(prefix) == facts}
        return wanted.keys() - right, ours.keys() - right
