# SPDX-License-Identifier: Apache-2.0
"""Declare the pipeline: its tables as data, and one function per flow.

Every shape of flows is checked against its table's declaration when its first flow is built, so a wrong one fails here
and not in a switch. Table numbers follow from the order in ``TABLES``; code uses names.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from controller.core.flows import (
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    Action,
    CheckLength,
    Controller,
    DecTtl,
    Flow,
    Goto,
    Kind,
    Local,
    Match,
    Normal,
    Output,
    SetField,
    SetMark,
    Shape,
    Untag,
    make_flow,
    match,
)
from hoaflow.addresses import Prefix, host, parse_prefix
from hoaflow.errors import HoaflowError

CLASSIFY = "classify"
DOWNLINK = "downlink"
UPLINK = "uplink"
VERIFY = "verify"

IPPROTO_IPIP = 4  # IPv4 encapsulation, RFC 2473
IPPROTO_IPV6 = 41  # IPv6 encapsulation, RFC 2473
IPPROTO_ICMPV6 = 58
IPPROTO_MOBILITY = 135  # Mobility Header, RFC 6275 section 6.1

# Router Solicitation to Redirect (RFC 4861 section 4).
NEIGHBOUR_DISCOVERY_TYPES = range(133, 138)
# Hop limits that end at a router, whose kernel answers Time Exceeded. From 2, the endpoint of a `route` backend gives 1
# to the tunnel's own header, and such a packet does not leave the router.
LAST_HOP_LIMITS = (0, 1, 2)
# Values of ip_frag: not fragmented, the first fragment, any later one (ovs-fields(7)).
NOT_FRAGMENTED, FIRST_FRAGMENT, LATER_FRAGMENT = 0, 1, 3

LINK_LOCAL_PRIORITY = 410
RETUNNEL_PRIORITY = 405
# Above all that follow, so that nothing that came out of a tunnel slips past unverified.
RECEIVE_PRIORITY = 400
GUARD_PRIORITY = 300
HOP_LIMIT_PRIORITY = 290
# The home agent's address lies in its home prefix: its gate must outrank the prefix's.
UPLINK_GATE_PRIORITY = 210
DOWNLINK_GATE_PRIORITY = 200
LENGTH_PRIORITY = 110
BINDING_PRIORITY = 100
MARKER_PRIORITY = 1
# Below the flows of bindings: what on-demand routers do with packets that none of these takes.
SUPPRESS_PRIORITY = 3
PACKET_IN_PRIORITY = 2
UNMARK_PRIORITY = 1
MISS_PRIORITY = 0

# Destinations for which mobile nodes' packets must go on to the home agent: multicast, link-local, limited broadcast.
IPV6_NOT_ROUTED = tuple(map(parse_prefix, ("ff00::/8", "fe80::/10")))
# Sources that do not tell a mobile node's home network.
IPV6_LINK_LOCAL = parse_prefix("fe80::/10")
IPV4_NOT_ROUTED = tuple(map(parse_prefix, ("224.0.0.0/4", "169.254.0.0/16", "255.255.255.255")))

# No packet has such a destination (RFC 6666), and no home address lies there.
DISCARD_ONLY = parse_prefix("100::/64")

# What a gate matches of an Ethernet frame: nothing, its destination, or its source.
Frame = tuple[()] | tuple[tuple[Literal["eth_dst", "eth_src"], str]]
ANY_FRAME: Frame = ()

LOCAL_PORT = 0xFFFFFFFE  # OFPP_LOCAL: the kernel of the switch's own host

# Metadata of a tunnel port: a packet's outer addresses, by the octets of these.
TUNNEL_SOURCE = {4: "tun_ipv4_src", 16: "tun_ipv6_src"}
TUNNEL_DESTINATION = {4: "tun_ipv4_dst", 16: "tun_ipv6_dst"}
# Of a packet in the kernel of the switch's own host: it stays when the kernel takes the outer header off.
MARK = "pkt_mark"
# Where CheckLength leaves its result, in the lowest bit.
TOO_LONG = "reg0"
ETHERNET_HEADER = 14  # octets


@dataclass(frozen=True, slots=True)
class Table:
    """One table's declaration: what its flows may match and do, which tables they may lead to, and what a miss does."""

    name: str
    matches: frozenset[str]
    actions: tuple[type, ...]
    leads_to: frozenset[str]
    miss: tuple[Action, ...] | None


TABLES = (
    Table(
        CLASSIFY,
        matches=frozenset(
            {
                *("in_port", "eth_dst", "eth_src", "eth_type", "ipv6_dst", "ipv4_dst"),
                *("ip_proto", "icmpv6_type", "nw_ttl", "ip_frag", MARK, "ipv6_src", "ipv4_src"),
            }
        ),
        actions=(Normal, CheckLength, SetMark, SetField, Output, Goto),
        leads_to=frozenset({DOWNLINK, UPLINK, VERIFY}),
        miss=None,  # a setting
    ),
    Table(
        DOWNLINK,
        matches=frozenset({"eth_type", "ipv6_dst", "ipv4_dst", "ip_frag", TOO_LONG}),
        actions=(Normal, Controller, Untag, SetField, DecTtl, Output),
        leads_to=frozenset(),
        miss=(Normal(),),
    ),
    Table(
        UPLINK,
        matches=frozenset({"eth_type", "ipv6_src", "ipv4_src", "ipv6_dst", "ipv4_dst", "ip_proto"}),
        actions=(Normal, Controller, SetMark, Untag, SetField, Output, Local),
        leads_to=frozenset(),
        miss=(Normal(),),
    ),
    Table(
        VERIFY,
        matches=frozenset({*TUNNEL_SOURCE.values(), *("eth_type", "ipv6_src", "ipv4_src")}),
        actions=(SetField, Local),
        leads_to=frozenset(),
        miss=(),  # dropped, and counted by the flow
    ),
)
_DECLARED = {table.name: table for table in TABLES}


class WrongFlow(HoaflowError):
    """A flow does not fit its table's declaration, which is an error in this program."""


def _flow(kind: Kind, table: str, priority: int, match: Match, actions: tuple[Action, ...]) -> Flow:
    flow = make_flow(kind, table, priority, match, actions)
    _check(flow.shape)
    return flow


@lru_cache(maxsize=4096)
def _check(shape: Shape) -> None:
    """Raise WrongFlow if flows of a shape do not fit their table."""
    declared = _DECLARED[shape.pattern.table]
    for name, _ in shape.pattern.fields:
        if name not in declared.matches:
            raise WrongFlow(f"table {declared.name} does not match on {name}; it matches on {sorted(declared.matches)}")
    for action in shape.actions:
        if isinstance(action, Goto):
            if action.table not in declared.leads_to:
                raise WrongFlow(f"table {declared.name} does not lead to {action.table}")
        elif not isinstance(action, declared.actions):
            raise WrongFlow(f"table {declared.name} has no action {action}")


def miss_flows(classify_miss: tuple[Action, ...] | None) -> list[Flow]:
    """Return what each table does with packets that none of its flows matches.

    ``classify_miss`` is the first table's, None to leave that to other applications' flows.
    """
    misses = {table.name: table.miss for table in TABLES if table.miss is not None}
    flows = [_flow(Kind.MISS, name, MISS_PRIORITY, (), actions) for name, actions in misses.items()]
    if classify_miss is not None:
        # Not checked against the declaration: the setting may lead to a table of somebody else's.
        flows.append(make_flow(Kind.MISS, CLASSIFY, MISS_PRIORITY, (), classify_miss))
    return flows


def drain_marker() -> Flow:
    """Return the flow that marks a router as drained; kept in the switch, the mark outlives the controller.

    It does what its table does anyway, and to packets that never come.
    """
    return _flow(Kind.DRAIN, DOWNLINK, MARKER_PRIORITY, match(**_towards(DISCARD_ONLY)), (Normal(),))


def cluster_marker(identity: bytes) -> Flow:
    """Return the flow by which a cluster marks the switches that it writes to; ``identity`` is 8 bytes, the cluster's.

    Like the drain marker it does nothing. It has a timeout, as the cluster may be gone one day.
    """
    destination = host(DISCARD_ONLY.packed[:8] + identity)
    return _flow(Kind.CLUSTER, DOWNLINK, MARKER_PRIORITY, match(**_towards(destination)), (Normal(),))


def receive_flow(port: int) -> Flow:
    """Return the guard that sends packets out of tunnels to be verified, without a mark (`flow` backend)."""
    return _flow(Kind.GUARD, CLASSIFY, RECEIVE_PRIORITY, match(in_port=port), (SetMark(0), Goto(VERIFY)))


def link_local_flow(port: int, mark: int, actions: tuple[Action, ...]) -> Flow:
    """Return the guard that sends packets out of tunnels on to the home agent if their source is link-local.

    The gate of that home agent has marked them. Multicast listener reports have such sources.
    """
    wanted = match(in_port=port, eth_type=ETH_TYPE_IPV6, ipv6_src=IPV6_LINK_LOCAL, **{MARK: mark})
    return _flow(Kind.GUARD, CLASSIFY, LINK_LOCAL_PRIORITY, wanted, (SetMark(0), *actions))


def unmark_flow() -> Flow:
    """Return the guard that forwards, without their mark, tunnel packets from unknown care-of addresses."""
    return _flow(Kind.GUARD, UPLINK, UNMARK_PRIORITY, (), (SetMark(0), Normal()))


def guard_flows(home_prefix: Prefix) -> list[Flow]:
    """Return what keeps signalling, neighbour discovery and last hops on the home agent's path past an open gate."""
    last_hops = [hop_limit_guard(home_prefix, hop_limit) for hop_limit in LAST_HOP_LIMITS]
    if home_prefix.is_ipv4:
        return last_hops
    neighbour_discovery = [neighbour_discovery_guard(home_prefix, type_) for type_ in NEIGHBOUR_DISCOVERY_TYPES]
    return [mobility_guard(home_prefix), *neighbour_discovery, *last_hops]


def mobility_guard(home_prefix: Prefix) -> Flow:
    """Return the guard that leaves Mobility Header packets to the home agent (RFC 6275 section 10.4.6)."""
    wanted = match(**_towards(home_prefix), ip_proto=IPPROTO_MOBILITY)
    return _flow(Kind.GUARD, CLASSIFY, GUARD_PRIORITY, wanted, (Normal(),))


def neighbour_discovery_guard(home_prefix: Prefix, icmpv6_type: int) -> Flow:
    """Return the guard that leaves neighbour discovery to the home agent, the proxy (RFC 6275 section 10.4.1)."""
    wanted = match(**_towards(home_prefix), ip_proto=IPPROTO_ICMPV6, icmpv6_type=icmpv6_type)
    return _flow(Kind.GUARD, CLASSIFY, GUARD_PRIORITY, wanted, (Normal(),))


def hop_limit_guard(home_prefix: Prefix, hop_limit: int) -> Flow:
    """Return the guard that leaves packets on their last hop to the kernel, to answer Time Exceeded."""
    wanted = match(**_towards(home_prefix), nw_ttl=hop_limit)
    return _flow(Kind.GUARD, CLASSIFY, HOP_LIMIT_PRIORITY, wanted, (Normal(),))


def length_guards() -> list[Flow]:
    """Return the guards that leave IPv4 packets too long for the tunnel to the home agent, to answer or to fragment.

    Fragments go along, even short ones: a router on the way that tracks connections reassembles them first, so it has
    to see them all.
    """
    too_long = match(eth_type=ETH_TYPE_IPV4, **{TOO_LONG: 1})
    fragments = [match(eth_type=ETH_TYPE_IPV4, ip_frag=which) for which in (FIRST_FRAGMENT, LATER_FRAGMENT)]
    return [_flow(Kind.GUARD, DOWNLINK, LENGTH_PRIORITY, wanted, (Normal(),)) for wanted in (too_long, *fragments)]


def own_tunnel_guard(home_agent: bytes, payload: int) -> Flow:
    """Return the guard against a loop: the kernel's own tunnel packets for the home agent have been here already.

    Among them are those that ``retunnel_flows`` sends on.
    """
    wanted = match(**_towards(host(home_agent)), in_port=LOCAL_PORT, ip_proto=payload)
    return _flow(Kind.GUARD, CLASSIFY, GUARD_PRIORITY, wanted, (Normal(),))


def retunnel_flows(port: int, mark: int, home_prefix: Prefix, actions: tuple[Action, ...]) -> list[Flow]:
    """Return what sends packets out of tunnels that are for the home agent on to it, in a tunnel again.

    They are Mobility Headers (Home Test Init, RFC 6275 section 11.6.1), multicast, and packets for neighbours on the
    home link. The home agent verifies their care-of address, as if they had not been here. Several may have the home
    prefix: the mark tells, as for ``link_local_flow``, whose tunnel it was.
    """
    source = {"in_port": port, MARK: mark, **_from(home_prefix)}
    if home_prefix.is_ipv4:
        wanted = [match(**source, ipv4_dst=each) for each in IPV4_NOT_ROUTED]
    else:
        wanted = [match(**source, ip_proto=IPPROTO_MOBILITY), *(match(**source, ipv6_dst=to) for to in IPV6_NOT_ROUTED)]
    return [_flow(Kind.GUARD, CLASSIFY, RETUNNEL_PRIORITY, each, (SetMark(0), *actions)) for each in wanted]


def downlink_gate(home_prefix: Prefix, frame: Frame = ANY_FRAME, limit: int | None = None) -> Flow:
    """Return the gate that sends packets for a home prefix, in matching frames, to the bindings' flows.

    Packets longer than ``limit`` octets are marked for ``length_guards``.
    """
    wanted = match(**dict(frame), **_towards(home_prefix))
    check = () if limit is None else (CheckLength(ETHERNET_HEADER + limit),)
    return _flow(Kind.GATE, CLASSIFY, DOWNLINK_GATE_PRIORITY, wanted, (*check, Goto(DOWNLINK)))


def uplink_gate(home_agent: bytes, payload: int, frame: Frame = ANY_FRAME, mark: int | None = None) -> Flow:
    """Return the gate that sends tunnel packets for a home agent, in matching frames, to the bindings' flows.

    ``payload`` is the protocol in the tunnel, IPPROTO_IPV6 or IPPROTO_IPIP. Fragments are left to the home agent: only
    the first shows what it carries, and whoever decapsulates needs all. ``mark``: what ``link_local_flow`` matches on.
    """
    marked = () if mark is None else (SetMark(mark),)
    wanted = match(**dict(frame), **_towards(host(home_agent)), ip_proto=payload, ip_frag=NOT_FRAGMENTED)
    return _flow(Kind.GATE, CLASSIFY, UPLINK_GATE_PRIORITY, wanted, (*marked, Goto(UPLINK)))


def downlink_flow(home_address: Prefix, actions: tuple[Action, ...]) -> Flow:
    """Return the flow that encapsulates packets for a home address or mobile network prefix to the care-of address."""
    wanted = match(**_towards(home_address))
    return _flow(Kind.DOWNLINK, DOWNLINK, downlink_priority(home_address), wanted, actions)


def downlink_priority(home_address: Prefix) -> int:
    """Return the priority of a home address: longer prefixes rank above shorter ones.

    It is not above `SUPPRESS_PRIORITY` for a mobile network prefix that is too short.
    """
    return BINDING_PRIORITY - (home_address.bits - home_address.length)


def uplink_flow(care_of_address: bytes, home_agent: bytes, payload: int, actions: tuple[Action, ...]) -> Flow:
    """Return the flow that decapsulates tunnel packets from a care-of address to its home agent.

    Several home addresses may share one care-of address; whoever decapsulates verifies the pairs.
    """
    wanted = match(**_towards(host(home_agent)) | _from(host(care_of_address)), ip_proto=payload)
    return _flow(Kind.UPLINK, UPLINK, BINDING_PRIORITY, wanted, actions)


def verify_flow(care_of_address: bytes, home_address: Prefix, actions: tuple[Action, ...]) -> Flow:
    """Return the flow that lets a decapsulated packet pass if outer and inner source are one binding's (`flow`)."""
    tunnel_source = {TUNNEL_SOURCE[len(care_of_address)]: host(care_of_address)}
    wanted = match(**_from(home_address), **tunnel_source)
    return _flow(Kind.VERIFY, VERIFY, downlink_priority(home_address), wanted, actions)


def downlink_packet_in(home_prefix: Prefix, meter: int) -> Flow:
    """Return the flow of on-demand routers that tells of packets for a home prefix which no binding's flow takes.

    They go on to the home agent all the same.
    """
    actions = (Normal(), Controller(meter))
    return _flow(Kind.PACKET_IN, DOWNLINK, PACKET_IN_PRIORITY, match(**_towards(home_prefix)), actions)


def uplink_packet_in(home_agent: bytes, meter: int, marked: bool) -> Flow:
    """Return the flow that does the same for tunnel packets to a home agent; ``marked``: gates have marked them."""
    actions: tuple[Action, ...] = (*_unmarked(marked), Normal(), Controller(meter))
    return _flow(Kind.PACKET_IN, UPLINK, PACKET_IN_PRIORITY, match(**_towards(host(home_agent))), actions)


def downlink_suppression(home_address: Prefix) -> Flow:
    """Return the flow, for a while, by which nothing is told of packets for a home address."""
    return _flow(Kind.SUPPRESS, DOWNLINK, SUPPRESS_PRIORITY, match(**_towards(home_address)), (Normal(),))


def uplink_suppression(care_of_address: bytes, home_agent: bytes, payload: int, marked: bool) -> Flow:
    """Return the flow, for a while, by which nothing is told of tunnel packets from a care-of address."""
    wanted = match(**_towards(host(home_agent)) | _from(host(care_of_address)), ip_proto=payload)
    return _flow(Kind.SUPPRESS, UPLINK, SUPPRESS_PRIORITY, wanted, (*_unmarked(marked), Normal()))


def _unmarked(marked: bool) -> tuple[Action, ...]:
    return (SetMark(0),) if marked else ()


def payload_protocol(home_address: Prefix) -> int:
    """Return the protocol of tunnel packets that carry a home address's packets (RFC 2473 section 5.1, RFC 2003)."""
    return IPPROTO_IPIP if home_address.is_ipv4 else IPPROTO_IPV6


def _towards(destination: Prefix) -> dict[str, int | Prefix]:
    if destination.is_ipv4:
        return {"eth_type": ETH_TYPE_IPV4, "ipv4_dst": destination}
    return {"eth_type": ETH_TYPE_IPV6, "ipv6_dst": destination}


def _from(source: Prefix) -> dict[str, int | Prefix]:
    if source.is_ipv4:
        return {"eth_type": ETH_TYPE_IPV4, "ipv4_src": source}
    return {"eth_type": ETH_TYPE_IPV6, "ipv6_src": source}
