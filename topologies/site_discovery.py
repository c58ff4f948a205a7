# SPDX-License-Identifier: Apache-2.0
"""Find home agents: that of the link where an emulated mobile node arrives, and that of a home prefix elsewhere."""

import random
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import NamedTuple

from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.home_agent_discovery import (
    DISCOVERY_REPLY,
    discovery_request_packet,
    home_agents_anycast,
    parse_discovery_reply,
)
from hoaflow.mobility.icmpv6_socket import Icmpv6Message, Icmpv6Socket
from hoaflow.mobility.neighbours import HOP_LIMIT
from hoaflow.mobility.packet_io import LinkSender, send_packet
from hoaflow.mobility.router_advertisements import (
    ROUTER_ADVERTISEMENT,
    parse_router_advertisement,
    router_solicitation_packet,
)
from topologies.link_follower import report

SOLICITATION_SECONDS = 1.0
"""Until the next one; sooner than RFC 4861 has it (RTR_SOLICITATION_INTERVAL), as the node waits for its addresses."""


class Site(NamedTuple):
    """A link's home agent and home prefix."""

    home_agent: str
    prefix: IPv6Network


class SiteDiscovery:
    """Hear Router Advertisements of home agents (flag H), with their address (RFC 6275, 7.1 and 7.2), and ask afar.

    The latter is Dynamic Home Agent Address Discovery (RFC 6275, 11.4.1).
    """

    def __init__(self) -> None:
        """Open the socket. Raises OSError."""
        self._socket = Icmpv6Socket((ROUTER_ADVERTISEMENT, DISCOVERY_REPLY))
        self._asked: tuple[int, IPv6Network] | None = None  # identifier of the last request, and its home prefix

    def fileno(self) -> int:
        """Return its descriptor, for selectors."""
        return self._socket.fileno()

    def solicit(self, interface: str) -> None:
        """Ask the routers of a link to advertise."""
        sender = LinkSender(interface)
        try:
            sender.multicast(router_solicitation_packet())
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("router-solicitation-not-sent", reason=str(error))
        finally:
            sender.close()

    def ask(self, care_of_address: str, home_prefix: IPv6Network) -> None:
        """Ask the home agents of a home prefix, which has an anycast address for them, for their addresses."""
        anycast = home_agents_anycast(home_prefix)
        self._asked = (random.randrange(0x10000), home_prefix)
        try:
            send_packet(discovery_request_packet(care_of_address, str(anycast), self._asked[0]))
        except OSError as error:  # the link goes down this moment: its event is on the way
            report("discovery-request-not-sent", reason=str(error))

    def heard(self) -> Iterator[tuple[str | None, Site]]:
        """Yield the site of each home agent that was heard of, with the interface of its link, None from afar."""
        for message in self._socket.messages():
            try:
                if message.data[0] == DISCOVERY_REPLY:
                    yield from self._answered(message)
                elif message.hop_limit == HOP_LIMIT and IPv6Address(message.source).is_link_local:
                    yield from self._advertised(message)
            except MalformedPacketError as error:
                report("malformed-packet", reason=str(error))

    def _answered(self, message: Icmpv6Message) -> Iterator[tuple[None, Site]]:
        """Yield the best home agent of the home prefix that was asked for last."""
        identifier, addresses = parse_discovery_reply(message.data)
        if addresses and self._asked is not None and identifier == self._asked[0]:
            yield None, Site(addresses[0], self._asked[1])

    def _advertised(self, message: Icmpv6Message) -> Iterator[tuple[str, Site]]:
        advertisement = parse_router_advertisement(message.source, message.data)
        for information in advertisement.prefixes if advertisement.home_agent else ():
            if information.router_address:
                prefix = information.prefix
                yield socket.if_indextoname(message.interface), Site(str(prefix.ip), prefix.network)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
