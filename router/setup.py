# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup` and `teardown`: make a tunnel endpoint, and leave nothing of it.

Setup looks at each thing and makes what is missing, so it may be run again at any time; it says what it
did. If it fails it undoes what it did itself. The OVS port comes last: what the database names is ready for
use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from pyroute2 import netns

from router.endpoint import (
    ENC_IN,
    ENC_IN_SIDE,
    ENC_OUT,
    ENC_OUT_SIDE,
    ENDS_MTU,
    ERRORS_RULE,
    ERRORS_TABLE,
    INGRESS_RULE,
    INGRESS_TABLE,
    IPV4_PAYLOAD_RULE,
    IPV4_PAYLOAD_TABLE,
    KEPT_BACK_MARK,
    KEPT_BACK_RULE,
    KERNEL_SIDE,
    KERNEL_SIDE_IPV4,
    MINIMUM_MTU,
    PLAIN_IPV4_RULE,
    PLAIN_RULE,
    PLAIN_TABLE,
    TIN,
    TOUT,
    TOUT_SIDE,
    Endpoint,
    tunnel_mtu,
)
from router.errors import RouterError
from router.ovsdb import Bridge, EndpointRecord, Ovsdb
from router.packet_filter import endpoint_tables, kernel_tables
from tunnel import links, namespace, outer_header
from tunnel.pairs import IPV4, IPV4_MARK, IPV6, PairFilter
from tunnel.seg6 import Seg6Routes

Say = Callable[[str], None]

FAMILIES = {links.AF_INET6: "v6", links.AF_INET: "v4"}
ANY_IPV6, ANY_IPV4 = "::/0", "0.0.0.0/0"
IPPROTO_ICMPV6 = 58


class Changes:
    """What setup changed, in order, with how to undo it. Leaving the context by an exception undoes it all."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.count = 0
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def __enter__(self) -> Changes:
        return self

    def did(self, what: str, undo: Callable[[], object] | None = None) -> None:
        """Say what was done; `undo` None where another change's undo covers it."""
        self.say(what)
        self.count += 1
        if undo is not None:
            self._undo.append((what, undo))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        for what, undo in reversed(self._undo):
            try:
                undo()
                self.say(f"undone: {what}")
            except Exception as failure:  # undo the rest all the same; the operator must know what is left
                self.say(f"could not undo: {what}: {failure}")


def setup(endpoint: Endpoint, ovsdb: Ovsdb, icmp_sources: Sequence[str], say: Say) -> bool:
    """Make the endpoint; False when all was there already.

    `icmp_sources`: the source addresses of the ICMPv6 and ICMP errors it sends, the router's own, one of a family;
    of a family without: keep the present one, or take the first lasting global address of the router's kernel
    namespace. Raises RouterError (and NamespaceError, NftError, Seg6Error) after undoing what it did.
    """
    wanted = {links.family_of(address): address for address in icmp_sources}
    if len(wanted) < len(icmp_sources):
        raise RouterError(f"--icmp-source: one IPv6 and one IPv4 address at most, got {' '.join(icmp_sources)}")
    bridge = ovsdb.bridge(endpoint.bridge)
    _check(endpoint, bridge, ovsdb)
    with Changes(say) as changes:
        _namespace(endpoint, changes)
        _links(endpoint, changes)
        for family in FAMILIES:
            _icmp_source(endpoint, family, wanted.get(family), changes)
        _routing(endpoint, changes)
        _filters(endpoint, changes)
        if bridge.userspace:
            _offloads(endpoint, changes)
        _port(endpoint, bridge, ovsdb, changes)
    return changes.count > 0


def teardown(record: EndpointRecord, bridge: str, ovsdb: Ovsdb, say: Say) -> bool:
    """Remove an endpoint's port, links and namespace; False when nothing of it was there. Raises
    RouterError.
    """
    before = ovsdb.bridge_of_port(record.port)
    if before not in (None, bridge):
        raise RouterError(f"port {record.port} belongs to bridge {before}, not {bridge}: nothing removed")
    kernel = record.kernel_namespace or None
    changed = before is not None
    ovsdb.remove_port(bridge, record.port)
    if changed:
        say(f"port {record.port} removed from bridge {bridge}")
    # The links go first and by name: the kernel removes a namespace's links later, when it finds the time.
    if namespace.exists(record.namespace) and links.remove_link(record.namespace, TOUT):
        say(f"link {TOUT} of namespace {record.namespace} removed, with its peer in the router's kernel")
    for table in kernel_tables(Endpoint(bridge, record.home_agent)):
        if namespace.exists(kernel) and table.remove(kernel):
            changed = True
            say(f"nftables table {table.family} {table.name} of the router's kernel removed")
    if links.remove_link(None, record.port):
        changed = True
        say(f"link {record.port} removed")
    if namespace.exists(record.namespace):
        changed = True
        netns.remove(record.namespace)
        say(f"namespace {record.namespace} removed, with its routes and pair filter")
    return changed


def _check(endpoint: Endpoint, bridge: Bridge, ovsdb: Ovsdb) -> None:
    """Refuse, before anything is touched, what could not work."""
    if os.geteuid() != 0:
        raise RouterError("setup needs root")
    tunnel_mtu(endpoint.mtu)
    if links.sysctl(endpoint.kernel_namespace, "all.forwarding") != "1":
        raise RouterError(
            f"the router's kernel (network namespace {endpoint.kernel_namespace or 'current'}) does not forward "
            f"IPv6, so what leaves the tunnel would be lost. Make it a router: sysctl -w "
            f"net.ipv6.conf.all.forwarding=1 (interfaces that take router advertisements then need accept_ra=2)"
        )
    owner = ovsdb.bridge_of_port(endpoint.port)
    if owner not in (None, bridge.name):
        raise RouterError(f"port {endpoint.port} is on bridge {owner} already, not on {bridge.name}")


def _namespace(endpoint: Endpoint, changes: Changes) -> None:
    name = endpoint.namespace
    if not namespace.exists(name):
        netns.create(name)
        changes.did(f"namespace {name} created", partial(netns.remove, name))
    settings = [
        ("ipv6", "all.disable_ipv6", "0"),
        ("ipv6", "all.forwarding", "1"),
        ("ipv6", "default.addr_gen_mode", "1"),
        # IPv4 is carried where the router's kernel forwards it; the agent looks here.
        ("ipv4", "all.forwarding", links.sysctl(endpoint.kernel_namespace, "all.forwarding", "ipv4")),
        # Whence packets may come is OpenFlow's and the pair filter's to say. A new namespace has the settings of the
        # host, and an interface the stricter one of `all` and its own.
        ("ipv4", "all.rp_filter", "0"),
        ("ipv4", "default.rp_filter", "0"),
        # What the router itself sends has the address that errors are sent from here.
        ("ipv4", "all.accept_local", "1"),
    ]
    for protocol, key, value in settings:
        if links.set_sysctl(name, key, value, protocol):
            changes.did(f"net.{protocol}.conf.{key} = {value} in {name}")
    if links.set_up(name, "lo"):
        changes.did(f"link lo up in {name}")


def _links(endpoint: Endpoint, changes: Changes) -> None:
    inside, kernel = endpoint.namespace, endpoint.kernel_namespace
    _veth(endpoint, changes, None, endpoint.port, TIN, endpoint.mac)
    _veth(endpoint, changes, kernel, endpoint.kernel_port, TOUT, None)
    mtu_inside = max(tunnel_mtu(endpoint.mtu), MINIMUM_MTU)
    if links.link(inside, ENC_IN) is None:
        links.add_veth(inside, ENC_IN, inside, ENC_OUT, mtu_inside)
        changes.did(f"link {ENC_IN} - {ENC_OUT} added in {inside}, MTU {mtu_inside}")
    for name, where, mtu in (
        (endpoint.port, None, ENDS_MTU),
        (TIN, inside, ENDS_MTU),
        (endpoint.kernel_port, kernel, ENDS_MTU),
        (TOUT, inside, ENDS_MTU),
        (ENC_IN, inside, mtu_inside),
        (ENC_OUT, inside, mtu_inside),
    ):
        if links.set_mtu(where, name, mtu):
            changes.did(f"MTU of {name} set to {mtu}")
    # Open vSwitch's end is no interface of the host's own IPv6; the other ends have fixed addresses.
    settings = [
        (None, "ipv6", f"{endpoint.port}.disable_ipv6", "1"),
        (kernel, "ipv6", f"{endpoint.kernel_port}.disable_ipv6", "0"),
        (kernel, "ipv6", f"{endpoint.kernel_port}.addr_gen_mode", "1"),
        # Home addresses are routed elsewhere, so the strict check would drop what comes out of the tunnel. Of `all` and
        # the interface the greater value counts: loose, not off. And errors come from an address of the router's own.
        (kernel, "ipv4", f"{endpoint.kernel_port}.rp_filter", "2"),
        (kernel, "ipv4", f"{endpoint.kernel_port}.accept_local", "1"),
    ]
    for where, protocol, key, value in settings:
        if links.set_sysctl(where, key, value, protocol):
            changes.did(f"net.{protocol}.conf.{key} = {value}")
    ends = [(None, endpoint.port), (kernel, endpoint.kernel_port)]
    ends += [(inside, name) for name in (TIN, TOUT, ENC_IN, ENC_OUT)]
    for where, name in ends:
        if links.set_up(where, name):
            changes.did(f"link {name} up")
    for where, name, address in (
        (kernel, endpoint.kernel_port, KERNEL_SIDE),
        (inside, TOUT, TOUT_SIDE),
        (inside, ENC_IN, ENC_IN_SIDE),
        (inside, ENC_OUT, ENC_OUT_SIDE),
    ):
        if links.add_address(where, name, address, 64):
            changes.did(f"address {address}/64 on {name}")
    # The loose check takes nothing in by an interface without IPv4 address. Of link scope: never chosen as a source.
    if links.add_address(kernel, endpoint.kernel_port, KERNEL_SIDE_IPV4, 32, links.LINK_SCOPE):
        changes.did(f"address {KERNEL_SIDE_IPV4}/32 on {endpoint.kernel_port}")


def _veth(
    endpoint: Endpoint, changes: Changes, where: namespace.Namespace, name: str, peer: str, mac: str | None
) -> None:
    inside = endpoint.namespace
    outer, inner = links.link(where, name), links.link(inside, peer)
    if outer is not None and inner is not None:
        return
    if inner is not None:
        raise RouterError(
            f"{peer} of namespace {inside} leads elsewhere than to {name} in namespace {where or 'current'}: "
            f"has --kernel-namespace changed? Run teardown first"
        )
    if outer is not None:
        raise RouterError(f"interface {name} exists but does not lead to namespace {inside}: run teardown first")
    links.add_veth(where, name, inside, peer, ENDS_MTU, peer_mac=mac)
    changes.did(f"link {name} - {peer} added, to namespace {inside}", partial(links.remove_link, where, name))


def _icmp_source(endpoint: Endpoint, family: int, wanted: str | None, changes: Changes) -> None:
    present = links.global_addresses(endpoint.namespace, "lo", family)
    if wanted is None and present:
        return
    if wanted is None:
        candidates = links.global_addresses(endpoint.kernel_namespace, family=family)
        if not candidates and family == links.AF_INET:
            return  # the kernel then takes the dummy address (RFC 7600)
        if not candidates:
            raise RouterError(
                "the router's kernel has no global IPv6 address to send ICMPv6 errors from "
                "(Packet Too Big, Time Exceeded): name one of the router with --icmp-source"
            )
        wanted = candidates[0]
    errors, length = f"ICMP{FAMILIES[family]} errors", 128 if family == links.AF_INET6 else 32
    for address in present:
        if address != wanted:
            links.remove_address(endpoint.namespace, "lo", address, length)
            changes.did(
                f"{errors} no longer from {address}",
                partial(links.add_address, endpoint.namespace, "lo", address, length),
            )
    if links.add_address(endpoint.namespace, "lo", wanted, length):
        changes.did(
            f"{errors} from {wanted}",
            partial(links.remove_address, endpoint.namespace, "lo", wanted, length),
        )


def _routing(endpoint: Endpoint, changes: Changes) -> None:
    inside, home_agent = endpoint.namespace, endpoint.home_agent
    far_end = links.link(inside, ENC_OUT)
    assert far_end is not None, "made just before"
    links.add_neighbour(inside, ENC_IN, ENC_OUT_SIDE, far_end["mac"])
    for destination, via, dev, table in (
        (ANY_IPV6, KERNEL_SIDE, TOUT, 254),
        (ANY_IPV4, KERNEL_SIDE, TOUT, 254),
        (ANY_IPV6, KERNEL_SIDE, TOUT, PLAIN_TABLE),
        (ANY_IPV4, KERNEL_SIDE, TOUT, PLAIN_TABLE),
        (ANY_IPV6, ENC_OUT_SIDE, ENC_IN, INGRESS_TABLE),
        (ANY_IPV4, ENC_OUT_SIDE, ENC_IN, INGRESS_TABLE),
        (f"{KERNEL_SIDE_IPV4}/32", KERNEL_SIDE, TOUT, INGRESS_TABLE),
    ):
        if links.add_route(inside, destination, via, dev, table):
            changes.did(f"route {destination} of table {table} via {via} dev {dev} in {inside}")
    for family, version in FAMILIES.items():
        if links.add_rule(inside, INGRESS_RULE, INGRESS_TABLE, family=family, iifname=TIN):
            changes.did(f"what comes from {TIN} looks into table {INGRESS_TABLE} (IP{version})")
        if links.add_rule(inside, KEPT_BACK_RULE, PLAIN_TABLE, family=family, iifname=ENC_OUT, fwmark=KEPT_BACK_MARK):
            changes.did(f"what is too long for a tunnel packet looks into table {PLAIN_TABLE} (IP{version})")
    for preference, payload in ((PLAIN_RULE, IPV6), (PLAIN_IPV4_RULE, IPV4)):
        match: dict[str, Any] = {"iifname": ENC_OUT, "src": home_agent, "src_len": 128, "ip_proto": payload.next_header}
        if links.add_rule(inside, preference, PLAIN_TABLE, **match):
            changes.did(f"what is encapsulated (next header {payload.next_header}) looks into table {PLAIN_TABLE}")
    if links.add_rule(inside, IPV4_PAYLOAD_RULE, IPV4_PAYLOAD_TABLE, iifname=TIN, fwmark=IPV4_MARK):
        changes.did(f"tunnel packets that carry IPv4 look into table {IPV4_PAYLOAD_TABLE}")
    to_home_agent: dict[str, Any] = {"dst": home_agent, "dst_len": 128, "ip_proto": IPPROTO_ICMPV6}
    if links.add_rule(inside, ERRORS_RULE, ERRORS_TABLE, iifname=TOUT, **to_home_agent):
        changes.did(f"ICMPv6 errors about tunnel packets look into table {ERRORS_TABLE}")
    if links.add_local_route(inside, home_agent, ERRORS_TABLE):
        changes.did(f"route {home_agent} of table {ERRORS_TABLE}: delivered in {inside}")
    with Seg6Routes(inside) as routes:
        if routes.source() != home_agent:
            routes.set_source(home_agent)
            changes.did(f"tunnel source {home_agent} in {inside}")
        if routes.decapsulated(INGRESS_TABLE) != {home_agent: PLAIN_TABLE}:
            routes.decapsulate(home_agent, TOUT, PLAIN_TABLE, INGRESS_TABLE)
            changes.did(f"decapsulation for {home_agent} in {inside}")
        if routes.decapsulated(IPV4_PAYLOAD_TABLE) != {home_agent: KERNEL_SIDE_IPV4}:
            routes.decapsulate_ipv4(home_agent, KERNEL_SIDE_IPV4, TOUT, IPV4_PAYLOAD_TABLE)
            changes.did(f"decapsulation of IPv4 for {home_agent} in {inside}")


def _filters(endpoint: Endpoint, changes: Changes) -> None:
    pairs = PairFilter(endpoint.namespace, destination=endpoint.home_agent)
    if not pairs.present():
        pairs.setup()
        changes.did(f"pair filter set up in {endpoint.namespace}")
    if not outer_header.is_set(endpoint.namespace):
        outer_header.set_outer_header(endpoint.namespace, endpoint.home_agent)
        changes.did(f"tunnel hop limit {outer_header.HOP_LIMIT} and IPv4's traffic class in {endpoint.namespace}")
    for table in endpoint_tables(endpoint):
        if table.put(endpoint.namespace):
            changes.did(f"nftables table {table.family} {table.name} in {endpoint.namespace}")
    for table in kernel_tables(endpoint):
        if table.put(endpoint.kernel_namespace):
            undo = partial(table.remove, endpoint.kernel_namespace)
            changes.did(f"nftables table {table.family} {table.name} in the router's kernel", undo)


def _offloads(endpoint: Endpoint, changes: Changes) -> None:
    for where, name in ((None, endpoint.port), (endpoint.namespace, TIN)):
        if links.offloads_off(where, name):
            changes.did(f"checksum and segmentation offloads of {name} off (userspace datapath)")


def _port(endpoint: Endpoint, bridge: Bridge, ovsdb: Ovsdb, changes: Changes) -> None:
    if endpoint.record not in bridge.endpoints:
        if ovsdb.bridge_of_port(endpoint.port) is None:
            undo = partial(ovsdb.remove_port, bridge.name, endpoint.port)
        else:
            undo = None
        try:
            ovsdb.add_endpoint(bridge.name, endpoint.record)
        except RouterError:
            # ovs-vsctl waits for the switch: the database may have the port although this failed
            if undo is not None:
                undo()
            raise
        changes.did(f"port {endpoint.port} added to bridge {bridge.name}", undo)
    state = ovsdb.port_state(endpoint.port)
    if state.number is None:
        raise RouterError(f"Open vSwitch did not take port {endpoint.port}: {state.error}")
