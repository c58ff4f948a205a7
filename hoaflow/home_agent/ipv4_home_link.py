# SPDX-License-Identifier: Apache-2.0
"""Lead packets to the IPv4 home addresses of dual-stack mobile nodes (RFC 5555, section 4.4).

They are tunnelled like the mobile node's own, and the home agent answers for them on the home link by proxy ARP.
"""

from ipaddress import IPv4Interface

from hoaflow.linux import AF_INET
from hoaflow.mobile_ipv4.home_link import HomeLink
from hoaflow.mobility.binding_objects import ProxyEntries
from hoaflow.mobility.home_links import OwnAddress
from hoaflow.mobility.objects import RestoredSetting
from hoaflow.mobility.routes import OnLinkRoute, UnreachablePrefixes
from hoaflow.mobility.tunnels import Tunnels
from hoaflow.tunnel.declaration import Declared


class Ipv4HomeLink:
    """The home link of IPv4: the home agent's address there, and what mobile nodes that are away have."""

    def __init__(self, interface: str, own: IPv4Interface, tunnels: Tunnels) -> None:
        """Open sockets. `own`: the home agent's address, with the length of the home prefix. Raises OSError."""
        self._own, self._tunnels = own, tunnels
        self._link = HomeLink(interface)

    def declaration(self) -> list[Declared]:
        """Return what the kernel must have, in the order in which it is made."""
        link = self._link.interface
        return [
            RestoredSetting(f"{link}.forwarding", "1", "ipv4"),
            # What a mobile node sends that is back still has a route into a tunnel, until it has deregistered.
            RestoredSetting(f"{link}.rp_filter", "2", "ipv4"),
            OwnAddress(str(self._own.ip), self._own.network.prefixlen, link),
            UnreachablePrefixes([str(self._own.network)], AF_INET),
            OnLinkRoute(str(self._own.network), link),
            ProxyEntries(self._link, "IPv4 proxy entries"),
        ]

    def tunnel(self, address: str, care_of_address: str) -> None:
        """Tunnel an IPv4 home address's traffic to and from a care-of address. Raises one of KERNEL_ERRORS."""
        defended = address in self._link.wanted
        self._link.wanted.add(address)
        self._tunnels.tunnel(address, care_of_address)
        if not defended:
            self._link.defend(address)

    def untunnel(self, address: str) -> None:
        """Stop tunnelling its traffic; fine if it was not tunnelled. Raises one of KERNEL_ERRORS."""
        self._link.wanted.discard(address)
        self._link.release(address)
        self._tunnels.untunnel(address)

    def close(self) -> None:
        """Close its sockets."""
        self._link.close()
