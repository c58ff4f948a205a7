# SPDX-License-Identifier: Apache-2.0
"""Neighbour discovery that home agent and mobile node speak themselves (RFC 4861, RFC 4862): bytes only."""

from __future__ import annotations

from ipaddress import IPv6Address

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, IPv6

ALL_NODES = "ff02::1"
HOP_LIMIT = 255
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136


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


def unsolicited_advertisement(source: str, address: str, link_layer_address: bytes) -> bytes:
    """The Neighbour Advertisement that turns an address to us in every cache on the link (RFC 6275, section 10.4.1).

    Override is set; Solicited and Router are not.
    """
    return bytes(
        IPv6(src=source, dst=ALL_NODES, hlim=HOP_LIMIT)
        / ICMPv6ND_NA(tgt=address, R=0, S=0, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=link_layer_address.hex(":"))
    )


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
