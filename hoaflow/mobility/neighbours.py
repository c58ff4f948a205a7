# SPDX-License-Identifier: Apache-2.0
"""Build and parse the neighbour discovery messages of home agent and mobile node (RFC 4861, RFC 4862)."""

import struct
from ipaddress import IPv6Address
from socket import AF_INET6, IPPROTO_ICMPV6, inet_pton

from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

ALL_NODES = "ff02::1"
HOP_LIMIT = 255
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
ROUTER, OVERRIDE = 0x80000000, 0x20000000


def solicited_node(address: str) -> str:
    """Return an address's solicited-node multicast address (RFC 4291, section 2.7.1).

    >>> solicited_node("2001:db8:99::100")
    'ff02::1:ff00:100'
    """
    return str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(address)) & 0xFFFFFF))


def dad_solicitation(address: str) -> bytes:
    """Build the Neighbour Solicitation of duplicate address detection (RFC 4862, section 5.4.2)."""
    packet = IPv6(src="::", dst=solicited_node(address), hlim=HOP_LIMIT) / ICMPv6ND_NS(tgt=address)
    return bytes(packet)


def unsolicited_advertisement(source: str, address: str, link_layer_address: bytes, router: bool = False) -> bytes:
    """Build the Neighbour Advertisement that tells all nodes on a link an address's link-layer address.

    It overrides what they have cached (RFC 4861, section 7.2.6; RFC 6275, section 10.4.1). `router` must be set for a
    router's own address, or nodes remove it from their default routers. Built without scapy for speed: when the home
    link's MAC address changes, thousands are sent at once.
    """
    ends = inet_pton(AF_INET6, source) + inet_pton(AF_INET6, ALL_NODES)
    flags = OVERRIDE | (ROUTER if router else 0)
    after_checksum = struct.pack("!I16sBB6s", flags, inet_pton(AF_INET6, address), 2, 1, link_layer_address)
    length = 4 + len(after_checksum)
    summed = ends + struct.pack("!IIBBH", length, IPPROTO_ICMPV6, NEIGHBOUR_ADVERTISEMENT, 0, 0) + after_checksum
    checksum = sum(struct.unpack(f"!{len(summed) // 2}H", summed))
    while checksum >> 16:
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
    head = struct.pack("!IHBB", 6 << 28, length, IPPROTO_ICMPV6, HOP_LIMIT) + ends
    return head + struct.pack("!BBH", NEIGHBOUR_ADVERTISEMENT, 0, checksum ^ 0xFFFF) + after_checksum


def claimed_address(packet: bytes) -> str | None:
    """Return the address that a packet's sender has or is about to take; None if it claims none.

    A Neighbour Advertisement claims its target. A Neighbour Solicitation from `::` is another node's duplicate address
    detection for its target (RFC 4862, section 5.4.3).
    """
    if len(packet) < 64 or packet[6] != 58 or packet[7] != HOP_LIMIT:
        return None
    kind = packet[40]
    asks_for_itself = kind == NEIGHBOUR_SOLICITATION and not any(packet[8:24])
    if kind != NEIGHBOUR_ADVERTISEMENT and not asks_for_itself:
        return None
    return str(IPv6Address(packet[48:64]))
