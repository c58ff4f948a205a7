# SPDX-License-Identifier: Apache-2.0
"""Make the packets with which `hoaflow.router.firewall` tries the packet filter around the `flow` backend.

Three kinds meet it: tunnel packets that the tunnel device makes (output), those that it decapsulates (input), and what
OpenFlow has verified (forward). Open vSwitch sends them the way that all of them go. Their addresses are chosen by the
kernel's routes, as rules may name interfaces: care-of addresses are behind the bridge, correspondents may be anywhere.
"""

import contextlib
import ipaddress
from collections.abc import Callable, Iterator

from hoaflow.linux import AF_INET6, MAIN_TABLE, RTN_UNICAST
from hoaflow.router.errors import NoRoute
from hoaflow.router.firewall import Probe, Send
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.flow.packet_out import packet_out
from hoaflow.router.flow.record import FlowRecord
from hoaflow.router.packet_filter import (
    FLOW_TABLE,
    PROBE_DELIVERED,
    PROBE_FORWARDED,
    PROBE_INNER,
    PROBE_LEFT,
    PROBE_RECEIVED,
    PROBE_SENT,
)
from hoaflow.router.probes import (
    IPV6_HEADER,
    LEAVES_THE_TUNNEL,
    TCP_HEADER,
    TO_CARE_OF_ADDRESSES,
    answer,
    frame,
    ipv6,
    tunnel_packet,
)
from hoaflow.tunnel.actual_state import ActualState

FROM_CARE_OF_ADDRESSES = "tunnel packets from care-of addresses (IPv6 next header 41)"
NO_NEXT_HEADER = 59
PADDING = 8  # octets that make one kind longer than the other
NOBODY = "100::1"  # in the prefix that nobody may use (RFC 6666)


def flow_probes(record: FlowRecord, bridge: str, db: str | None) -> list[Probe]:
    """Return the probes for a bridge's `flow` backend. Raises NoRoute where the kernel has none to try."""
    near, far = _sample_addresses(bridge)
    empty = ipv6(PROBE_INNER, PROBE_INNER, NO_NEXT_HEADER, b"")
    padded = ipv6(PROBE_INNER, PROBE_INNER, NO_NEXT_HEADER, bytes(PADDING))
    encapsulate = f"set_field:{far}->tun_ipv6_src,set_field:{near}->tun_ipv6_dst,output:{record.transmit_port}"

    def sender(packet: bytes, actions: str) -> Callable[[], contextlib.AbstractContextManager[Send]]:
        @contextlib.contextmanager
        def opened() -> Iterator[Send]:
            yield lambda: packet_out(bridge, db, frame(record.mac, packet), actions)

        return opened

    return [
        Probe(
            LEAVES_THE_TUNNEL,
            TCP_HEADER,
            FLOW_TABLE,
            PROBE_RECEIVED,
            PROBE_FORWARDED,
            far,
            f"accept them, e.g. nft insert rule inet filter forward iifname {bridge} ether saddr {TUNNEL_MAC} accept",
            sender(answer(far, far), "LOCAL"),
        ),
        Probe(
            FROM_CARE_OF_ADDRESSES,
            IPV6_HEADER + PADDING,
            FLOW_TABLE,
            PROBE_RECEIVED,
            PROBE_DELIVERED,
            record.decapsulation_address,
            f"accept them, e.g. nft insert rule inet filter input ip6 daddr {record.decapsulation_address} accept",
            sender(tunnel_packet(near, record.decapsulation_address, padded), "LOCAL"),
        ),
        Probe(
            TO_CARE_OF_ADDRESSES,
            IPV6_HEADER,
            FLOW_TABLE,
            PROBE_SENT,
            PROBE_LEFT,
            near,
            "accept them, e.g. nft insert rule inet filter output meta l4proto { 4, 41 } accept",
            sender(empty, encapsulate),
        ),
    ]


def _sample_addresses(bridge: str) -> tuple[str, str]:
    """Return an unused address like a care-of address, and one like a correspondent node's. Raises NoRoute."""
    with ActualState() as actual:
        own = actual.link(None, bridge).number
        found = [
            (ipaddress.IPv6Network(route.prefix), route.interface == own)
            for route in actual.routes(None, AF_INET6, MAIN_TABLE, 0)
            if route.kind == RTN_UNICAST
        ]
    routed = sorted((each for each in found if _leads_to_others(each[0])), key=lambda each: each[0].prefixlen)
    if not routed:
        raise NoRoute("the router's kernel has no IPv6 route, except to itself")
    behind_bridge = [network for network, on_bridge in routed if on_bridge and network.prefixlen]
    elsewhere = [network for network, on_bridge in routed if not on_bridge or not network.prefixlen]
    near, far = (behind_bridge or [routed[0][0]])[0], (elsewhere or [routed[0][0]])[0]
    return _unused(near), _unused(far)


def _leads_to_others(network: ipaddress.IPv6Network) -> bool:
    if not network.prefixlen:
        return True
    return not (network.is_link_local or network.is_multicast or network.is_loopback or network.prefixlen == 128)


def _unused(network: ipaddress.IPv6Network) -> str:
    """Return an address of the network that nobody has: the highest one, which is reserved (RFC 2526)."""
    return str(network[-1]) if network.prefixlen else NOBODY
