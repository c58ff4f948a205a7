# SPDX-License-Identifier: Apache-2.0
"""The packet filter's part of both backends: nftables tables of our own in the router's kernel and in the endpoint.

In the router's kernel:

- What leaves the tunnel is not tracked. Its other direction enters the tunnel in Open vSwitch, so connection tracking
  would see answers only, call them invalid, and the common rule `ct state invalid drop` would drop all of them. Only
  what is forwarded: the router's own connections are seen whole.
- An ICMPv6 error for a tunnel packet goes to its outer source, the home agent, whose host may be down or not know what
  to do with it. What the router's kernel sends or forwards of them is copied into the endpoint, where the agent tells
  the correspondent (`hoaflow.router.error_relays`). The errors themselves go on as they were.

- A packet that `hoaflow.router.firewall` sends is traced, and dropped where it has passed everybody's rules.

In the endpoint: packets that no link towards care-of addresses carries with their outer header, and which nobody may be
asked to make smaller (IPv6 needs 1280 octets, RFC 8200 §5), take the home agent's path: it can send fragments.
"""

from __future__ import annotations

from hoaflow.router.endpoint import ENC_OUT, KEPT_BACK_MARK, MINIMUM_MTU, TOUT_SIDE, Endpoint, tunnel_mtu
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.tunnel.nft_table import Table

RAW, EARLY, LAST = -300, -300, 500  # priorities: before connection tracking; before and after anybody's rules
FLOW_TABLE = "hoaflow_flow"
FORWARD_CHAIN, PROBE_CHAIN = "errors_forwarded", "probe_passed"
ERRORS = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
UNTRACKED = "fib daddr type != local notrack"
COPIED_A_SECOND = 100  # ICMPv6 errors: more than that teach a correspondent nothing new


def kernel_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """The tables in the router's kernel."""
    ours, name = endpoint.kernel_port, endpoint.namespace
    untracked = _chain("untracked", "prerouting", RAW, f'iifname "{ours}" {UNTRACKED}')
    # What `hoaflow.router.firewall` sends.
    probe = f'iifname "{ours}" ip6 saddr {endpoint.home_agent} ip6 daddr {endpoint.home_agent}'
    copied = (
        f"ip6 daddr {endpoint.home_agent} icmpv6 type {{ {', '.join(ERRORS)} }} "
        f'limit rate {COPIED_A_SECOND}/second burst {COPIED_A_SECOND} packets dup to {TOUT_SIDE} device "{ours}"'
    )
    return (
        _table("ip", name, untracked),
        _table(
            "ip6",
            name,
            untracked,
            _chain("probe_traced", "prerouting", RAW, f"{probe} meta nftrace set 1"),
            _chain(PROBE_CHAIN, "forward", LAST, f"{probe} drop"),
            _chain(FORWARD_CHAIN, "forward", EARLY, f'iifname != "{ours}" {copied}'),
            _chain("errors_sent", "output", EARLY, copied),
        ),
    )


def flow_tables(bridge: str) -> tuple[Table, ...]:
    """The tables in the kernel of a router with the `flow` backend: what leaves its tunnel comes in by the bridge's own
    interface, with the Ethernet source that the diversion out of the tunnel gave it.
    """
    chain = _chain("untracked", "prerouting", RAW, f'iifname "{bridge}" ether saddr {TUNNEL_MAC} {UNTRACKED}')
    return tuple(_table(family, FLOW_TABLE, chain) for family in ("ip", "ip6"))


def endpoint_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """The tables in the endpoint's namespace, besides the pair filter and the outer header's."""
    room = tunnel_mtu(endpoint.mtu)
    too_long = f'iifname "{ENC_OUT}" meta length > {room} meta mark set {KEPT_BACK_MARK}' if room < MINIMUM_MTU else ""
    chain = _chain("kept_back", "prerouting", RAW, too_long)
    return tuple(_table(family, "hoaflow_kept_back", chain) for family in ("ip", "ip6"))


def _table(family: str, name: str, *chains: str) -> Table:
    return Table(family, name, f"table {family} {name} {{\n{''.join(chains)}}}\n")


def _chain(name: str, hook: str, priority: int, rule: str) -> str:
    """A base chain that accepts what its rule says nothing about."""
    return f"chain {name} {{\ntype filter hook {hook} priority {priority}; policy accept;\n{rule}\n}}\n"
