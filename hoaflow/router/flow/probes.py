# SPDX-License-Identifier: Apache-2.0
"""Make the packets with which `hoaflow.router.firewall` tries the packet filter around the `flow` backend.

Three kinds meet it: tunnel packets that the tunnel device makes (output; forward with IPv4 outer headers), those that
it decapsulates (input), and what OpenFlow has verified (forward). Open vSwitch sends them the way that all of them go.
Their addresses are chosen by the kernel's routes, as rules may name interfaces: care-of addresses are behind the
bridge, correspondents may be anywhere.
"""

import contextlib
import ipaddress
from collections.abc import Callable, Iterator

from hoaflow.linux import AF_INET6, MAIN_TABLE, RTN_UNICAST
from hoaflow.router.endpoint import TOUT_SIDE_IPV4
from hoaflow.router.errors import NoRoute
from hoaflow.router.firewall import Probe, Send
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.flow.packet_out import packet_out
from hoaflow.router.flow.record import FlowRecord
from hoaflow.router.packet_filter import (
    FLOW_TABLE,
    FLOW_TABLE_IPV4,
    PROBE_DELIVERED,
    PROBE_FORWARDED,
    PROBE_INNER,
    PROBE_INNER_IPV4,
    PROBE_LEFT,
    PROBE_RECEIVED,
    PROBE_SENT,
)
from hoaflow.router.probes import (
    IPV4_HEADER,
    LEAVES_THE_TUNNEL,
    TCP_HEADER,
    answer,
    frame,
    ipv4,
    ipv6,
)
from hoaflow.tunnel.actual_state import ActualState

Network = ipaddress.IPv6Network | ipaddress.IPv4Network
NO_NEXT_HEADER = 59
PADDING = 8  # octets that make each kind longer than another
NOBODY = "100::1"  # in the prefix that nobody may use (RFC 6666)


def flow_probes(record: FlowRecord, bridge: str, db: str | None) -> list[Probe]:
    """Return the probes for a bridge's `flow` backend. Raises NoRoute where the kernel has none to try."""
    near, far = _sample_addresses(bridge, record.family)
    is_ipv4 = record.is_ipv4
    packet_of, address = (ipv4, PROBE_INNER_IPV4) if is_ipv4 else (ipv6, PROBE_INNER)
    short, long = (packet_of(address, address, NO_NEXT_HEADER, bytes(octets)) for octets in (PADDING, 2 * PADDING))
    header = IPV4_HEADER if is_ipv4 else 0  # which IPv4's length includes
    tun = "tun" if is_ipv4 else "tun_ipv6"
    encapsulate = f"set_field:{far}->{tun}_src,set_field:{near}->{tun}_dst,output:{record.transmit_port}"
    table = FLOW_TABLE_IPV4 if is_ipv4 else FLOW_TABLE
    payload = "IPv4 protocol 4" if is_ipv4 else "IPv6 next header 41"
    accept_sent = f"forward iifname {record.kernel_port} accept" if is_ipv4 else "output meta l4proto { 4, 41 } accept"

    def sender(packet: bytes, actions: str) -> Callable[[], contextlib.AbstractContextManager[Send]]:
        @contextlib.contextmanager
        def opened() -> Iterator[Send]:
            yield lambda: packet_out(bridge, db, frame(record.mac, packet), actions)

        return opened

    return [
        Probe(
            LEAVES_THE_TUNNEL,
            header + TCP_HEADER,
            table,
            PROBE_RECEIVED,
            PROBE_FORWARDED,
            far,
            f"accept them, e.g. nft insert rule inet filter forward iifname {bridge} ether saddr {TUNNEL_MAC} accept",
            sender(answer(far, far), "LOCAL"),
        ),
        Probe(
            f"tunnel packets from care-of addresses ({payload})",
            header + len(long),
            table,
            PROBE_RECEIVED,
            PROBE_DELIVERED,
            record.decapsulation_address,
            f"accept them, e.g. nft insert rule inet filter input {'ip' if is_ipv4 else 'ip6'} daddr "
            f"{record.decapsulation_address} accept",
            sender(packet_of(near, record.decapsulation_address, 4 if is_ipv4 else 41, long), "LOCAL"),
        ),
        Probe(
            f"tunnel packets to care-of addresses ({payload})",
            header + len(short),
            table,
            PROBE_SENT,
            PROBE_LEFT,
            near,
            f"accept them, e.g. nft insert rule inet filter {accept_sent}",
            sender(short, encapsulate),
        ),
    ]


def _sample_addresses(bridge: str, family: int) -> tuple[str, str]:
    """Return an unused address like a care-of address, and one like a correspondent node's. Raises NoRoute."""
    with ActualState() as actual:
        own = actual.link(None, bridge).number
        found = [
            (ipaddress.ip_network(route.prefix), route.interface == own)
            for route in actual.routes(None, family, MAIN_TABLE, 0)
            if route.kind == RTN_UNICAST
        ]
    routed = sorted((each for each in found if _leads_to_others(each[0])), key=lambda each: each[0].prefixlen)
    if not routed:
        raise NoRoute(f"the router's kernel has no {'IPv6' if family == AF_INET6 else 'IPv4'} route, except to itself")
    behind_bridge = [network for network, on_bridge in routed if on_bridge and network.prefixlen]
    elsewhere = [network for network, on_bridge in routed if not on_bridge or not network.prefixlen]
    near, far = (behind_bridge or [routed[0][0]])[0], (elsewhere or [routed[0][0]])[0]
    return _unused(near), _unused(far)


def _leads_to_others(network: Network) -> bool:
    if not network.prefixlen:
        return True
    own = network.prefixlen == network.max_prefixlen
    return not (network.is_link_local or network.is_multicast or network.is_loopback or own)


def _unused(network: Network) -> str:
    """Return an address of the network that nobody has: the highest one, which is reserved (RFC 2526).

    That of IPv4 is for broadcasts, so it is the one before; whoever has it is sent nothing, as the packets are dropped.
    """
    if not network.prefixlen:
        return NOBODY if network.version == 6 else TOUT_SIDE_IPV4
    return str(network[-1 if network.version == 6 else -2])
