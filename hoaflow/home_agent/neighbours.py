# SPDX-License-Identifier: Apache-2.0
"""Neighbour discovery that home agent and mobile node speak themselves (RFC 4861, RFC 4862): bytes only."""

import struct
from ipaddress import IPv6Address
from socket import AF_INET6, IPPROTO_ICMPV6, inet_pton

from scapy.layers.inet6 import ICMPv6ND_NS, IPv6

ALL_NODES = "ff02::1"
HOP_LIMIT = 255
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
ROUTER, OVERRIDE = 0x80000000, 0x20000000


def solicited_node(address: str) -> str:
    """The solicited-node multicast address (RFC 4291, section 2.7.1).

    >>> solicited_node("2001:db8:99::100")
    'ff02::1:ff00:100'
    """
    return str(IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(IPv6Address(address)) & 0xFFFFFF))


def dad_solicitation(address: str) -> bytes:
    """The Neighbour Solicitation that asks whether somebody has an address (RFC 4862, section 5.4.2)."""
    packet = IPv6(src="::", dst=solicited_node(address), hlim=HOP_LIMIT) / ICMPv6ND_NS(tgt=address)
    return bytes(packet)


def unsolicited_advertisement(source: str, address: str, link_layer_address: bytes, router: bool = False) -> bytes:
    """Build the Neighbour Advertisement that tells every node on the link an address's link-layer address.

    It overrides what caches hold (RFC 4861, section 7.2.6; RFC 6275, section 10.4.1). `router`: whether the address is
    a router's own; without it, nodes take a router off their list of default routers. Built by hand: when the home
    link's MAC address changes, one is sent for each of perhaps 20,000 addresses.
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
    """The address that another node has, or is about to take, by this packet; None when it says nothing of the kind.

    A Neighbour Advertisement says that its target is taken; a Neighbour Solicitation from `::`, that another node
    runs duplicate address detection for it at the same time (RFC 4862, section 5.4.3).
    """
    if len(packet) < 64 or packet[6] != 58 or packet[7] != HOP_LIMIT:
        return None
    kind = packet[40]
    asks_for_itself = kind == NEIGHBOUR_SOLICITATION and not any(packet[8:24])
    if kind != NEIGHBOUR_ADVERTISEMENT and not asks_for_itself:
        return None
    return str(IPv6Address(packet[48:64]))
