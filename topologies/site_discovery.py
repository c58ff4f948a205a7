# SPDX-License-Identifier: Apache-2.0
"""Find the home agent of the link on which an emulated mobile node arrives, by its Router Advertisements."""

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from scapy.layers.inet6 import ICMPv6ND_RS, IPv6

from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.icmpv6_socket import Icmpv6Socket
from hoaflow.mobility.neighbours import HOP_LIMIT
from hoaflow.mobility.packet_io import LinkSender
from hoaflow.mobility.router_advertisements import ROUTER_ADVERTISEMENT, parse_router_advertisement
from topologies.link_follower import report

ALL_ROUTERS = "ff02::2"
SOLICITATION = bytes(IPv6(src="::", dst=ALL_ROUTERS, hlim=HOP_LIMIT) / ICMPv6ND_RS())
SOLICITATION_SECONDS = 1.0
"""Until the next one; sooner than RFC 4861 has it (RTR_SOLICITATION_INTERVAL), as the node waits for its addresses."""


class Site(NamedTuple):
    """A link's home agent and home prefix."""

    home_agent: str
    prefix: IPv6Network


class SiteDiscovery:
    """Solicit and hear Router Advertisements of home agents (flag H), with their address (RFC 6275, 7.1 and 7.2)."""

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._socket = Icmpv6Socket((ROUTER_ADVERTISEMENT,))

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def solicit(self, interface: str) -> None:
        """Ask the routers of a link to advertise."""
        sender = LinkSender(interface)
        try:
            sender.multicast(SOLICITATION)
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("router-solicitation-not-sent", reason=str(error))
        finally:
            sender.close()

    def heard(self) -> Iterator[tuple[str, Site]]:
        """Yield interface and site of each home agent that was heard of."""
        for message in self._socket.messages():
            if message.hop_limit != HOP_LIMIT or not IPv6Address(message.source).is_link_local:
                continue
            try:
                advertisement = parse_router_advertisement(message.source, message.data)
            except MalformedPacketError as error:
                report("malformed-packet", reason=str(error))
                continue
            for information in advertisement.prefixes if advertisement.home_agent else ():
                if information.router_address:
                    prefix = information.prefix
                    yield socket.if_indextoname(message.interface), Site(str(prefix.ip), prefix.network)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
