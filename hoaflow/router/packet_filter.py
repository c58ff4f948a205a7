# SPDX-License-Identifier: Apache-2.0
"""Define the nftables tables of both backends, in the router's kernel and in the endpoint.

In the router's kernel:

- Packets that leave the tunnel are not tracked. The other direction enters the tunnel in Open vSwitch, so connection
  tracking would see only answers and call them invalid, and the common rule `ct state invalid drop` would drop them.
  This applies to forwarded packets only: the router's own connections are tracked as usual.
- ICMP errors about tunnel packets go to the outer source, the home agent, whose host may be down or unable to use
  them. Those that the router's kernel sends or forwards are copied into the endpoint, where the agent relays them to
  the correspondent (`hoaflow.router.error_relays`). The errors themselves go on unchanged. Some are the endpoint's
  own: a packet to a care-of address within a home network prefix has to have room for another header.
- A packet that `hoaflow.router.firewall` sends is traced, and dropped once it has passed everybody's rules. It is told
  from all others by its addresses (`route`), or by its content (`flow`, which knows no address that nobody uses).

In the endpoint, packets that are too long for the links with their outer header, but that no sender can be asked to
shorten (IPv6 requires 1280 octets, RFC 8200 §5), are marked for the home agent's path: it can send fragments.
"""

import ipaddress

from hoaflow.router.endpoint import (
    ENC_OUT,
    KEPT_BACK_MARK,
    KERNEL_SIDE_IPV4,
    MINIMUM_MTU,
    NESTED_MARK,
    TOUT_SIDE,
    TOUT_SIDE_IPV4,
    Endpoint,
)
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.flow.record import FlowRecord
from hoaflow.tunnel.nft_table import Table

# Priorities: before connection tracking; before and after all other rules, those of the raw tables included.
RAW, FIRST, LAST = -300, -1000, 500
FLOW_TABLE, FLOW_TABLE_IPV4 = "hoaflow_flow", "hoaflow_flow_ipv4"  # for IPv6 and for IPv4 outer headers
FORWARD_CHAIN, PROBE_CHAIN = "errors_forwarded", "probe_passed"
ICMP_ERRORS = ("destination-unreachable", "time-exceeded", "parameter-problem")
ERRORS = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
UNTRACKED = "fib daddr type != local notrack"
# Of the packets that `flow` is tried with: the TCP header's ports, sequence and acknowledgement number, and the address
# of both ends of the packet within a tunnel, which lies in the prefix that nobody may use (RFC 6666), or is the dummy
# address of nodes without one (RFC 7600).
PROBE_TCP = (443, 50000, 0x686F6166, 0x6C6F7721)
PROBE_INNER, PROBE_INNER_IPV4 = "100::686f:6166:6c6f:7721", KERNEL_SIDE_IPV4
PROBE_RECEIVED, PROBE_SENT = "probe_received", "probe_sent"
PROBE_FORWARDED, PROBE_DELIVERED, PROBE_LEFT = "probe_forwarded", "probe_delivered", "probe_left"
COPIED_A_SECOND = 100  # ICMPv6 errors; correspondents need no more of them


def kernel_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """Return the tables in the router's kernel."""
    ours, name = endpoint.kernel_port, endpoint.namespace
    untracked = _chain("untracked", "prerouting", RAW, f'iifname "{ours}" {UNTRACKED}')
    outer, other, icmp, gateway = (
        ("ip", "ip6", f"icmp type {{ {', '.join(ICMP_ERRORS)} }}", TOUT_SIDE_IPV4)
        if endpoint.is_ipv4
        else ("ip6", "ip", f"icmpv6 type {{ {', '.join(ERRORS)} }}", TOUT_SIDE)
    )
    # What `hoaflow.router.firewall` sends.
    probe = f'iifname "{ours}" {outer} saddr {endpoint.home_agent} {outer} daddr {endpoint.home_agent}'
    copied = (
        f"{outer} daddr {endpoint.home_agent} {icmp} "
        f'limit rate {COPIED_A_SECOND}/second burst {COPIED_A_SECOND} packets dup to {gateway} device "{ours}"'
    )
    return (
        _table(other, name, untracked),
        _table(
            outer,
            name,
            untracked,
            _chain("probe_traced", "prerouting", FIRST, f"{probe} meta nftrace set 1"),
            _chain(PROBE_CHAIN, "forward", LAST, f"{probe} drop"),
            _chain(FORWARD_CHAIN, "forward", FIRST, copied),
            _chain("errors_sent", "output", FIRST, copied),
        ),
    )


def flow_tables(bridge: str, record: FlowRecord) -> tuple[Table, ...]:
    """Return the tables in the kernel of a router with the `flow` backend, for outer headers of one family.

    What leaves the tunnel comes in by the bridge's own interface, with the Ethernet source that tc gave it. What goes
    into one is sent by the kernel itself; with IPv4 outer headers it comes in from the namespace that made these.
    """
    untracked = _chain("untracked", "prerouting", RAW, f'iifname "{bridge}" ether saddr {TUNNEL_MAC} {UNTRACKED}')
    source_port, destination_port, sequence, acknowledged = PROBE_TCP
    answer = (
        f'iifname "{bridge}" tcp sport {source_port} tcp dport {destination_port} tcp sequence {sequence} '
        f"tcp ackseq {acknowledged}"
    )
    traced = "meta nftrace set 1"
    if record.is_ipv4:
        inner = f"0x{ipaddress.IPv4Address(PROBE_INNER_IPV4).packed.hex()}"
        tunnel_packet = f"meta l4proto 4 @th,96,32 {inner} @th,128,32 {inner}"
        sent = f'iifname "{record.kernel_port}"'
        from_namespace = _chain("untracked_sent", "prerouting", RAW, f"{sent} {UNTRACKED}")
        received = f'{answer} {traced}\niifname "{bridge}" {tunnel_packet} {traced}'
        begun = _chain(PROBE_SENT, "prerouting", FIRST, f"{sent} {tunnel_packet} {traced}")
    else:
        inner = f"0x{ipaddress.IPv6Address(PROBE_INNER).packed.hex()}"
        tunnel_packet = f"meta l4proto ipv6 @th,64,128 {inner} @th,192,128 {inner}"
        from_namespace = ""
        received = f"{answer} {traced}\n{tunnel_packet} {traced}"
        begun = _chain(PROBE_SENT, "output", FIRST, f"{tunnel_packet} {traced}")
    with_probes = _table(
        "ip" if record.is_ipv4 else "ip6",
        FLOW_TABLE_IPV4 if record.is_ipv4 else FLOW_TABLE,
        untracked,
        from_namespace,
        _chain(PROBE_RECEIVED, "prerouting", FIRST, received),
        begun,
        _chain(PROBE_FORWARDED, "forward", LAST, f"{answer} drop"),
        _chain(PROBE_DELIVERED, "input", LAST, f"{tunnel_packet} drop"),
        _chain(PROBE_LEFT, "postrouting", LAST, f"{tunnel_packet} drop"),
    )
    return (with_probes,) if record.is_ipv4 else (_table("ip", FLOW_TABLE, untracked), with_probes)


def endpoint_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """Return the tables in the endpoint's namespace, except for the spoofing filter and the outer header's."""
    room = endpoint.tunnel_mtu
    too_long = f'iifname "{ENC_OUT}" meta length > {room} meta mark set {KEPT_BACK_MARK}' if room < MINIMUM_MTU else ""
    # Only what comes in passes this hook, not what the endpoint has encapsulated.
    tunnelled = f"ip6 saddr {endpoint.home_agent} meta l4proto {{ 4, 41 }}"
    nested = "" if endpoint.is_ipv4 else f'iifname "{ENC_OUT}" {tunnelled} meta mark set {NESTED_MARK}'
    return (
        _table("ip", "hoaflow_kept_back", _chain("kept_back", "prerouting", RAW, too_long)),
        _table("ip6", "hoaflow_kept_back", _chain("kept_back", "prerouting", RAW, f"{nested}\n{too_long}")),
    )


def _table(family: str, name: str, *chains: str) -> Table:
    return Table(family, name, f"table {family} {name} {{\n{''.join(chains)}}}\n")


def _chain(name: str, hook: str, priority: int, rules: str) -> str:
    """Return a base chain with one or more rules, which accepts everything else."""
    return f"chain {name} {{\ntype filter hook {hook} priority {priority}; policy accept;\n{rules}\n}}\n"
