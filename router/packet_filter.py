# SPDX-License-Identifier: Apache-2.0
"""The packet filter's part of both backends: nftables tables of our own in the router's kernel and in the endpoint.

In the router's kernel:

- What leaves the tunnel is not tracked. Its other direction enters the tunnel in Open vSwitch, so connection tracking
  would see answers only, call them invalid, and the common rule `ct state invalid drop` would drop all of them. Only
  what is forwarded: the router's own connections are seen whole.
- An ICMPv6 error for a tunnel packet goes to its outer source, the home agent, whose host may be down or not know what
  to do with it. What the router's kernel sends or forwards of them is copied into the endpoint, where the agent tells
  the correspondent (`router.error_relays`). The errors themselves go on as they were.

- A packet that `router.firewall` sends is traced, and dropped where it has passed everybody's rules.

In the endpoint: packets that no link towards care-of addresses carries with their outer header, and which nobody may be
asked to make smaller (IPv6 needs 1280 octets, RFC 8200 §5), take the home agent's path: it can send fragments.
"""

from __future__ import annotations

from typing import Any

from router.endpoint import ENC_OUT, KEPT_BACK_MARK, MINIMUM_MTU, TOUT_SIDE, Endpoint, tunnel_mtu
from router.flow.kernel import TUNNEL_MAC
from tunnel.nft_table import Chain, Rule, Table

RAW, EARLY, LAST = -300, -300, 500  # priorities: before connection tracking; before and after anybody's rules
FLOW_TABLE = "hoaflow_flow"
FORWARD_CHAIN, PROBE_CHAIN = "errors_forwarded", "probe_passed"
ERRORS = ("destination-unreachable", "packet-too-big", "time-exceeded", "parameter-problem")
COPIED_A_SECOND = 100  # ICMPv6 errors: more than that teach a correspondent nothing new


def kernel_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """The tables in the router's kernel."""
    ours, name = endpoint.kernel_port, endpoint.namespace
    untracked = Chain("untracked", "prerouting", RAW, (_untracked(_interface("==", ours)),))
    copied = _copied(endpoint.home_agent, ours)
    return (
        Table("ip", name, (untracked,)),
        Table(
            "ip6",
            name,
            (
                untracked,
                Chain("probe_traced", "prerouting", RAW, ((*_probe(endpoint), _TRACE),)),
                Chain(PROBE_CHAIN, "forward", LAST, ((*_probe(endpoint), {"drop": None}),)),
                Chain(FORWARD_CHAIN, "forward", EARLY, ((_interface("!=", ours), *copied),)),
                Chain("errors_sent", "output", EARLY, (copied,)),
            ),
        ),
    )


def flow_tables(bridge: str) -> tuple[Table, ...]:
    """The tables in the kernel of a router with the `flow` backend: what leaves its tunnel comes in by the bridge's own
    interface, with the Ethernet source that the diversion out of the tunnel gave it.
    """
    source = {"payload": {"protocol": "ether", "field": "saddr"}}
    ours = (_interface("==", bridge), {"match": {"op": "==", "left": source, "right": TUNNEL_MAC}})
    chain = Chain("untracked", "prerouting", RAW, (_untracked(*ours),))
    return tuple(Table(family, FLOW_TABLE, (chain,)) for family in ("ip", "ip6"))


def endpoint_tables(endpoint: Endpoint) -> tuple[Table, ...]:
    """The tables in the endpoint's namespace, besides the pair filter and the outer header's."""
    room = tunnel_mtu(endpoint.mtu)
    too_long: tuple[Rule, ...] = ()
    if room < MINIMUM_MTU:
        longer = {"match": {"op": ">", "left": {"meta": {"key": "length"}}, "right": room}}
        mark = {"mangle": {"key": {"meta": {"key": "mark"}}, "value": KEPT_BACK_MARK}}
        too_long = ((_interface("==", ENC_OUT), longer, mark),)
    chain = Chain("kept_back", "prerouting", RAW, too_long)
    return tuple(Table(family, "hoaflow_kept_back", (chain,)) for family in ("ip", "ip6"))


def _untracked(*arrived: dict[str, Any]) -> Rule:
    forwarded = {"match": {"op": "!=", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}}
    return (*arrived, forwarded, {"notrack": None})


def _probe(endpoint: Endpoint) -> Rule:
    """What `router.firewall` sends."""
    ends = [{"payload": {"protocol": "ip6", "field": field}} for field in ("saddr", "daddr")]
    here = [{"match": {"op": "==", "left": end, "right": endpoint.home_agent}} for end in ends]
    return (_interface("==", endpoint.kernel_port), *here)


_TRACE = {"mangle": {"key": {"meta": {"key": "nftrace"}}, "value": 1}}


def _copied(home_agent: str, into: str) -> Rule:
    return (
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "daddr"}}, "right": home_agent}},
        {
            "match": {
                "op": "==",
                "left": {"payload": {"protocol": "icmpv6", "field": "type"}},
                "right": {"set": list(ERRORS)},
            }
        },
        {"limit": {"rate": COPIED_A_SECOND, "burst": COPIED_A_SECOND, "per": "second"}},
        {"dup": {"addr": TOUT_SIDE, "dev": into}},
    )


def _interface(operator: str, name: str) -> dict[str, Any]:
    return {"match": {"op": operator, "left": {"meta": {"key": "iifname"}}, "right": name}}
