# SPDX-License-Identifier: Apache-2.0
"""Build Router Advertisements for one mobile node (RFC 5213, section 6.9.1; RFC 4861, 4.2)."""

from collections.abc import Iterable
from ipaddress import IPv6Interface

from hoaflow.mobility.neighbours import ALL_NODES
from hoaflow.mobility.router_advertisements import (
    LONGEST_ROUTER_LIFETIME,
    PrefixInformation,
    RouterAdvertisement,
    router_advertisement_packet,
)


def advertisement(
    source: str, destination: str | None, link_layer: bytes, prefixes: Iterable[str], lifetime: int, mtu: int
) -> bytes:
    """Build the advertisement; `lifetime` of router and prefixes is that of the binding, in seconds.

    Without a destination it is to all nodes, though the frame goes to one only (RFC 6085).
    """
    options = tuple(PrefixInformation(IPv6Interface(prefix), lifetime, lifetime) for prefix in prefixes)
    message = RouterAdvertisement(source, min(lifetime, LONGEST_ROUTER_LIFETIME), options)
    return router_advertisement_packet(message, link_layer, destination or ALL_NODES, mtu)
