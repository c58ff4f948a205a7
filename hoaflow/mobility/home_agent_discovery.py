# SPDX-License-Identifier: Apache-2.0
"""Build and parse the ICMPv6 messages between mobile node and home agent (RFC 6275, sections 6.5 to 6.8).

They are Dynamic Home Agent Address Discovery and Mobile Prefix Discovery.
"""

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network
from socket import IPPROTO_ICMPV6
from typing import NamedTuple

from scapy.layers.inet6 import ICMPv6HAADReply, ICMPv6HAADRequest, ICMPv6MPAdv, IPv6, IPv6ExtHdrRouting, in6_chksum

from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.router_advertisements import PrefixInformation, prefix_information_option
from hoaflow.mobility.wire import HOP_LIMIT, MINIMUM_MTU, MobilityPacket

DISCOVERY_REQUEST, DISCOVERY_REPLY, PREFIX_SOLICITATION, PREFIX_ADVERTISEMENT = 144, 145, 146, 147
MOST_ADDRESSES = (MINIMUM_MTU - 40 - 8) // 16
"""Addresses that a reply has at most, so that every link carries it whole (RFC 6275, section 10.5)."""
_ANYCAST_IDENTIFIER = 0x7E
_ANYCAST_BITS = 7
_FLAGS, _MOBILE_ROUTER = 6, 0x80
"""Offset of the octet with flag R, and flag R (RFC 3963, sections 7.1 and 7.2)."""


def home_agents_anycast(prefix: IPv6Network) -> IPv6Address | None:
    """Return the Mobile IPv6 Home-Agents anycast address of a prefix; None if the prefix is too long to have one.

    Its interface identifier is all ones before the anycast identifier, but for the universal/local bit where the
    prefix has 64 bits and identifiers are EUI-64 (RFC 2526, section 2).

    >>> str(home_agents_anycast(IPv6Network("2001:db8:99::/64")))
    '2001:db8:99:0:fdff:ffff:ffff:fffe'
    >>> str(home_agents_anycast(IPv6Network("2001:db8:99::/112")))
    '2001:db8:99::fffe'
    """
    if prefix.prefixlen > 128 - _ANYCAST_BITS:
        return None
    address = int(prefix.broadcast_address) & ~((1 << _ANYCAST_BITS) - 1) | _ANYCAST_IDENTIFIER
    if prefix.prefixlen == 64:
        address &= ~(1 << 57)
    return IPv6Address(address)


class DiscoveryRequest(NamedTuple):
    """A request. `mobile_router`: for home agents that take mobile routers (flag R, RFC 3963, section 7.1)."""

    identifier: int
    mobile_router: bool


def parse_discovery_request(message: bytes) -> DiscoveryRequest:
    """Parse a request from its ICMPv6 header on. Raises MalformedPacketError."""
    identifier = _identifier(message, DISCOVERY_REQUEST)
    return DiscoveryRequest(identifier, bool(message[_FLAGS] & _MOBILE_ROUTER))


def discovery_request_packet(source: str, anycast: str, identifier: int) -> bytes:
    """Build the packet of a request to all home agents of a home prefix (see `home_agents_anycast`)."""
    return bytes(IPv6(src=source, dst=anycast, hlim=HOP_LIMIT) / ICMPv6HAADRequest(id=identifier, R=0))


def parse_discovery_reply(message: bytes) -> tuple[int, list[str]]:
    """Return identifier and home agents' addresses, the best first, from its ICMPv6 header on.

    Raises MalformedPacketError.
    """
    identifier = _identifier(message, DISCOVERY_REPLY)
    if len(message) % 16 != 8:
        raise MalformedPacketError(f"a discovery reply of {len(message)} bytes has no whole addresses")
    return identifier, [str(IPv6Address(message[at : at + 16])) for at in range(8, len(message), 16)]


def discovery_reply_packet(
    source: str, destination: str, identifier: int, addresses: Iterable[str], mobile_routers: bool = False
) -> bytes:
    """Build the packet of a reply with the first MOST_ADDRESSES of these home agents' addresses.

    `mobile_routers`: they take mobile routers (flag R, RFC 3963, section 7.2).
    """
    packet = IPv6(src=source, dst=destination, hlim=HOP_LIMIT)
    told = list(addresses)[:MOST_ADDRESSES]
    return bytes(packet / ICMPv6HAADReply(id=identifier, R=mobile_routers, addresses=told))


def is_prefix_solicitation(packet: MobilityPacket) -> bool:
    """Tell whether a packet has a Mobile Prefix Solicitation after its extension headers."""
    return packet.next_header == IPPROTO_ICMPV6 and packet.payload[:1] == bytes([PREFIX_SOLICITATION])


def parse_prefix_solicitation(packet: MobilityPacket) -> int:
    """Return the identifier of a solicitation, after its checksum is verified. Raises MalformedPacketError."""
    # The checksum covers the home address in place of the care-of address (RFC 6275, section 11.3.1).
    pseudo = IPv6(src=packet.home_address or packet.source, dst=packet.destination)
    if in6_chksum(IPPROTO_ICMPV6, pseudo, packet.payload) != 0:
        raise MalformedPacketError("wrong checksum in the Mobile Prefix Solicitation")
    return _identifier(packet.payload, PREFIX_SOLICITATION)


def prefix_advertisement_packet(
    source: str, destination: str, home_address: str, identifier: int, prefixes: Iterable[PrefixInformation]
) -> bytes:
    """Build the packet of a Mobile Prefix Advertisement, with a type 2 routing header (RFC 6275, section 10.6.2)."""
    packet = IPv6(src=source, dst=destination, hlim=HOP_LIMIT)
    packet /= IPv6ExtHdrRouting(nh=IPPROTO_ICMPV6, type=2, segleft=1, addresses=[home_address])
    packet /= ICMPv6MPAdv(id=identifier, flags=0)
    for prefix in prefixes:
        packet /= prefix_information_option(prefix)
    return bytes(packet)


def _identifier(message: bytes, kind: int) -> int:
    if len(message) < 8 or message[:2] != bytes([kind, 0]):
        raise MalformedPacketError(f"not an ICMPv6 message of type {kind}: {message[:8].hex()}")
    return int(struct.unpack_from("!H", message, 4)[0])
