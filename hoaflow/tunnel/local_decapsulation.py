# SPDX-License-Identifier: Apache-2.0
"""Decapsulate tunnel packets for an address that is local to the host.

The kernel looks up table `local` first, so an End.DT6 route for one of its own addresses is never reached. A rule for
IPv6-in-IPv6 (protocol 41) to that address, before the rule for `local`, has tunnel packets decapsulated; ICMPv6,
neighbour discovery and sockets are not affected. Needs Linux >= 4.17.
"""

import errno
import socket

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from hoaflow.linux import AF_INET6, LOCAL_TABLE, MAIN_TABLE
from hoaflow.tunnel.namespace import Namespace, netlink_descriptor
from hoaflow.tunnel.seg6 import Seg6Routes

DECAPSULATION_TABLE = 41
TUNNEL_RULE_PREFERENCE = 5
LOCAL_RULE_PREFERENCE = 10
IPPROTO_IPV6 = 41


def decapsulate_local(
    namespace: Namespace,
    address: str,
    dev: str,
    lookup_table: int = MAIN_TABLE,
    table: int = DECAPSULATION_TABLE,
) -> None:
    """Decapsulate IPv6-in-IPv6 packets for `address`, a local address, and route the inner ones by `lookup_table`.

    `lookup_table`: 254 to forward them (home agent), 255 to deliver those for local addresses (mobile node). `table`
    holds the End.DT6 routes of all such addresses. Moves the rule for `local` from preference 0 to 10; it is added
    there before it is deleted here, so no packet is lost. Idempotent. Raises NamespaceError and Seg6Error.
    """
    with Seg6Routes(namespace) as routes:
        routes.decapsulate(address, dev, lookup_table, table)
    with IPRoute(fileno=netlink_descriptor(namespace, socket.NETLINK_ROUTE)) as ipr:
        _rule(ipr, "add", priority=LOCAL_RULE_PREFERENCE, table=LOCAL_TABLE)
        _rule(ipr, "add", **_tunnel_rule(address, table))
        _rule(ipr, "del", priority=0, table=LOCAL_TABLE)


def stop_decapsulating_local(namespace: Namespace, address: str, table: int = DECAPSULATION_TABLE) -> None:
    """Undo `decapsulate_local` for one address; with the last one, the rule for `local` returns to preference 0."""
    with IPRoute(fileno=netlink_descriptor(namespace, socket.NETLINK_ROUTE)) as ipr:
        _rule(ipr, "del", **_tunnel_rule(address, table))
        left = [rule for rule in ipr.get_rules(family=AF_INET6) if _preference(rule) == TUNNEL_RULE_PREFERENCE]
        if not left:
            _rule(ipr, "add", priority=0, table=LOCAL_TABLE)
            _rule(ipr, "del", priority=LOCAL_RULE_PREFERENCE, table=LOCAL_TABLE)
    with Seg6Routes(namespace) as routes:
        routes.remove(address, table)


def _tunnel_rule(address: str, table: int) -> dict[str, object]:
    return {
        "priority": TUNNEL_RULE_PREFERENCE,
        "table": table,
        "dst": address,
        "dst_len": 128,
        "ip_proto": IPPROTO_IPV6,
    }


def _rule(ipr: IPRoute, verb: str, **rule: object) -> None:
    try:
        ipr.rule(verb, family=AF_INET6, **rule)
    except NetlinkError as error:
        if error.code not in (errno.EEXIST, errno.ENOENT):
            raise


def _preference(rule: object) -> int:
    return rule.get_attr("FRA_PRIORITY") or 0  # type: ignore[attr-defined]
