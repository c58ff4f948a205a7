# SPDX-License-Identifier: Apache-2.0
"""Declare what the `flow` backend consists of, for setup, teardown, status, doctor and the agent's comparison."""

from hoaflow.linux import AF_INET, LOCAL_TABLE, MAIN_TABLE
from hoaflow.router.database_objects import BridgePort, DatabaseRecord, FixedMac
from hoaflow.router.declaration import NO_FORWARDING
from hoaflow.router.endpoint import ENDS_MTU, KERNEL_SIDE, KERNEL_SIDE_IPV4, TOUT, TOUT_SIDE, mac_of
from hoaflow.router.flow.diversion import Ethernet
from hoaflow.router.flow.kernel import IPIP, TUNNEL_MAC
from hoaflow.router.flow.objects import (
    BridgeInterface,
    BridgeUp,
    Diverted,
    LooseSources,
    Roomy,
    SendingDevice,
    TunnelDevice,
)
from hoaflow.router.flow.record import HWADDR, LINK, RECEIVE, ROLE, TRANSMIT, FlowRecord
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.packet_filter import flow_tables
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.objects import (
    FixedNeighbour,
    Free,
    HostSetting,
    IpAddress,
    Mac,
    Mtu,
    NamedNamespace,
    NftTable,
    OnlyTables,
    Setting,
    Up,
    Veth,
)
from hoaflow.tunnel.routing import DEFAULT_RULE, MAIN_RULE, LocalRoute, OnlyRoutes, OnlyRules, Route, Rule
from hoaflow.tunnel.tc import Hook

SYSTEM_MTU = 65000  # octets, what Open vSwitch gives its system devices
NO_IPV6 = "the bridge's own interface has no IPv6"


def declaration(bridge: str, record: FlowRecord, ovsdb: Ovsdb) -> list[Declared]:
    """Return the objects of a bridge's backend for one family, in the order in which they are made.

    The record comes first: it tells teardown what else there is, and what the bridge was like before.
    """
    return [
        BridgeInterface(bridge),
        *_host_settings(bridge, record),
        DatabaseRecord(ovsdb, bridge, _what(record), record.transmit_port, record.facts),
        *_ports(bridge, record, ovsdb),
        *([FixedMac(ovsdb, bridge, record.mac)] if HWADDR in record.changed else []),
        Mac(None, bridge, record.mac),
        BridgeUp(None, bridge, LINK in record.changed),
        *(_ipip(record) if record.is_ipv4 else _ip6tnl(record)),
        *(Up(None, name) for name in (record.device, record.transmit_device, record.receive_device)),
        *(Roomy(None, name, SYSTEM_MTU) for name in (record.transmit_device, record.receive_device)),
        IpAddress(None, record.device, record.decapsulation_address, 32 if record.is_ipv4 else 128, no_source=True),
        # mirred removes the Ethernet header, as the tunnel device has none.
        Diverted(record.transmit_device, Hook.EGRESS, record.sender, receive=False),
        Diverted(record.device, Hook.INGRESS, record.receive_device, receive=True, header=Ethernet(*[TUNNEL_MAC] * 2)),
        *(NftTable(None, table) for table in flow_tables(bridge, record)),
    ]


def _what(record: FlowRecord) -> str:
    return "flow backend (IPv4)" if record.is_ipv4 else "flow backend"


def _host_settings(bridge: str, record: FlowRecord) -> list[Declared]:
    outer = "IPv4" if record.is_ipv4 else "IPv6"
    forwarding: list[Declared] = [
        HostSetting(None, outer.lower(), f"{name}.forwarding", "1", NO_FORWARDING.format(outer))
        for name in ("all", bridge)
    ]
    if record.is_ipv4:
        return [*forwarding, LooseSources(bridge)]
    return [*forwarding, HostSetting(None, "ipv6", f"{bridge}.disable_ipv6", "0", NO_IPV6)]


def _ip6tnl(record: FlowRecord) -> list[Declared]:
    return [
        TunnelDevice(record.device),
        Free(None, record.device),
        Setting(None, "ipv6", f"{record.device}.disable_ipv6", "0"),
        Setting(None, "ipv6", f"{record.device}.addr_gen_mode", "1"),
    ]


def _ipip(record: FlowRecord) -> list[Declared]:
    """Return the devices for IPv4, and the namespace where the one that encapsulates has its outer packets routed.

    As outer sources the kernel takes addresses of that namespace alone. So all are its own, by a route of its local
    table, in which destinations are not looked up there. From there packets come to the router's kernel by a link, and
    go on as its routes say.
    """
    inside, kernel_port = record.namespace, record.kernel_port
    macs = {name: mac_of(inside.encode(), name) for name in (kernel_port, TOUT)}
    settings = [
        # Home agents' addresses are routed elsewhere, or are the router's own.
        *(("ipv4", f"{kernel_port}.{key}", value) for key, value in (("rp_filter", "2"), ("accept_local", "1"))),
        ("ipv4", f"{kernel_port}.forwarding", "1"),
        ("ipv6", f"{kernel_port}.disable_ipv6", "1"),
    ]
    return [
        NamedNamespace(inside),
        Setting(inside, "ipv6", "all.disable_ipv6", "0"),
        Setting(inside, "ipv6", "default.addr_gen_mode", "1"),
        Up(inside, "lo"),
        Veth(None, kernel_port, macs[kernel_port], inside, TOUT, macs[TOUT], ENDS_MTU),
        *(
            declared
            for where, name in ((None, kernel_port), (inside, TOUT))
            for declared in (Mac(where, name, macs[name]), Mtu(where, name, ENDS_MTU), Free(where, name))
        ),
        *(Setting(None, *setting) for setting in settings),
        Setting(inside, "ipv6", f"{TOUT}.disable_ipv6", "0"),
        *(Up(where, name) for where, name in ((None, kernel_port), (inside, TOUT))),
        # The loose check accepts nothing on an interface without an IPv4 address. Of link scope: never a source.
        IpAddress(None, kernel_port, KERNEL_SIDE_IPV4, 32, no_source=True),
        LocalRoute(inside, "0.0.0.0/0", LOCAL_TABLE),
        # An IPv6 gateway, for which no addresses of IPv4 are needed (RFC 8950).
        IpAddress(inside, TOUT, TOUT_SIDE, 64),
        FixedNeighbour(inside, TOUT, KERNEL_SIDE, macs[kernel_port]),
        Route(inside, "0.0.0.0/0", KERNEL_SIDE, TOUT),
        Rule(inside, MAIN_RULE, MAIN_TABLE, AF_INET),
        OnlyRoutes(inside, AF_INET),
        OnlyRules(inside, AF_INET, frozenset(), kernels=frozenset({MAIN_RULE, DEFAULT_RULE})),
        OnlyTables(inside, frozenset()),
        SendingDevice(record.sender, IPIP, inside, kernel_port),
        Up(None, record.sender),
        # It drops what does not fit, with an answer that would need a route. Flows keep it from what is too long.
        Roomy(None, record.sender, SYSTEM_MTU),
        TunnelDevice(record.device, IPIP),
        *(Free(None, name) for name in (record.sender, record.device)),
    ]


def _ports(bridge: str, record: FlowRecord, ovsdb: Ovsdb) -> list[Declared]:
    """Return the two flow-based Geneve ports.

    By tos=inherit, the outer header gets the inner one's traffic class (RFC 2473 §6.4), ECN included. DF is always set
    outside of IPv4 (RFC 2003 §3.1 allows it): without df_default, ipip (seen with Linux 6.1) sets it for no packet.
    """
    return [
        BridgePort(
            ovsdb,
            bridge,
            name,
            record.facts | {ROLE: role},
            "geneve",
            {"remote_ip": "flow", "local_ip": "flow", "key": "0", "dst_port": str(udp), "tos": "inherit"},
            device,
        )
        for role, name, udp, device in (
            (TRANSMIT, record.transmit_port, record.transmit_udp, record.transmit_device),
            (RECEIVE, record.receive_port, record.receive_udp, record.receive_device),
        )
    ]
