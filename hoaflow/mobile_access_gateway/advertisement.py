# SPDX-License-Identifier: Apache-2.0
"""Build Router Advertisements for one mobile node (RFC 5213, section 6.9.1; RFC 4861, 4.2)."""

from collections.abc import Iterable
from ipaddress import IPv6Network

from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)

ALL_NODES = "ff02::1"
HOP_LIMIT = 255
LONGEST_ROUTER_LIFETIME = 9000


def advertisement(
    source: str, destination: str | None, link_layer: bytes, prefixes: Iterable[str], lifetime: int, mtu: int
) -> bytes:
    """Build the advertisement; `lifetime` of router and prefixes is that of the binding, in seconds.

    Without a destination it is to all nodes, though the frame goes to one only (RFC 6085).
    """
    packet = IPv6(src=source, dst=destination or ALL_NODES, hlim=HOP_LIMIT)
    packet /= ICMPv6ND_RA(routerlifetime=min(lifetime, LONGEST_ROUTER_LIFETIME), chlim=64, M=0, O=0)
    packet /= ICMPv6NDOptSrcLLAddr(lladdr=link_layer.hex(":"))
    packet /= ICMPv6NDOptMTU(mtu=mtu)
    for prefix in map(IPv6Network, prefixes):
        packet /= ICMPv6NDOptPrefixInfo(
            prefix=str(prefix.network_address),
            prefixlen=prefix.prefixlen,
            L=1,
            A=1,
            validlifetime=lifetime,
            preferredlifetime=lifetime,
        )
    return bytes(packet)
