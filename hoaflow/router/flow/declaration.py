# SPDX-License-Identifier: Apache-2.0
"""Declare what the `flow` backend consists of, for setup, teardown, status, doctor and the agent's comparison."""

from hoaflow.router.database_objects import BridgePort, DatabaseRecord, FixedMac
from hoaflow.router.declaration import NO_FORWARDING
from hoaflow.router.flow.diversion import Ethernet
from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.flow.objects import BridgeInterface, BridgeUp, Diverted, Roomy, TunnelDevice
from hoaflow.router.flow.record import DEVICE, HWADDR, LINK, RECEIVE, ROLE, TRANSMIT, FlowRecord
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.packet_filter import flow_tables
from hoaflow.tunnel.declaration import Declared
from hoaflow.tunnel.objects import Free, HostSetting, IpAddress, Mac, NftTable, Setting, Up
from hoaflow.tunnel.tc import Hook

SYSTEM_MTU = 65000  # octets, what Open vSwitch gives its system devices
NO_IPV6 = "the bridge's own interface has no IPv6"


def declaration(bridge: str, record: FlowRecord, ovsdb: Ovsdb) -> list[Declared]:
    """Return the objects of a bridge's backend in the order in which they are made.

    The record comes first: it tells teardown what else there is, and what the bridge was like before.
    """
    settings = [(f"{name}.forwarding", "1", NO_FORWARDING.format("IPv6")) for name in ("all", bridge)]
    settings.append((f"{bridge}.disable_ipv6", "0", NO_IPV6))
    return [
        BridgeInterface(bridge),
        *(HostSetting(None, "ipv6", *setting) for setting in settings),
        DatabaseRecord(ovsdb, bridge, "flow backend", record.transmit_port, record.facts),
        *_ports(bridge, record, ovsdb),
        *([FixedMac(ovsdb, bridge, record.mac)] if HWADDR in record.changed else []),
        Mac(None, bridge, record.mac),
        BridgeUp(None, bridge, LINK in record.changed),
        TunnelDevice(DEVICE),
        Free(None, DEVICE),
        Setting(None, "ipv6", f"{DEVICE}.disable_ipv6", "0"),
        Setting(None, "ipv6", f"{DEVICE}.addr_gen_mode", "1"),
        *(Up(None, name) for name in (DEVICE, record.transmit_device, record.receive_device)),
        *(Roomy(None, name, SYSTEM_MTU) for name in (record.transmit_device, record.receive_device)),
        IpAddress(None, DEVICE, record.decapsulation_address, 128, no_source=True),
        # mirred removes the Ethernet header, as the tunnel device has none.
        Diverted(record.transmit_device, Hook.EGRESS, DEVICE, receive=False),
        Diverted(DEVICE, Hook.INGRESS, record.receive_device, receive=True, header=Ethernet(TUNNEL_MAC, TUNNEL_MAC)),
        *(NftTable(None, table) for table in flow_tables(bridge)),
    ]


def _ports(bridge: str, record: FlowRecord, ovsdb: Ovsdb) -> list[Declared]:
    """Return the two flow-based Geneve ports.

    By tos=inherit, the outer header gets the inner one's traffic class (RFC 2473 §6.4), ECN included.
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
