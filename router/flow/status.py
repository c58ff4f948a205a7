# SPDX-License-Identifier: Apache-2.0
"""What is there of a bridge's `flow` backend, read from the kernel and from Open vSwitch."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.flow import device, tc
from router.flow.record import DEVICE, FlowRecord
from router.flow.setup import diversions
from router.ovsdb import Ovsdb
from router.packet_filter import flow_tables
from tunnel import links
from tunnel.errors import TunnelError


@dataclass
class FlowStatus:
    """A flow backend. Ports by name and OpenFlow number; packets of the tunnel device, both directions and lost.

    What cannot be read because a part is missing is None, and `problems` says so.
    """

    transmit_port: str
    transmit_ofport: int | None
    receive_port: str
    receive_ofport: int | None
    decapsulation_address: str
    mac: str
    mtu: int
    ipv4_problem: str | None = None
    transmitted: int | None = None
    received: int | None = None
    dropped: int | None = None
    problems: list[str] = field(default_factory=list)


def status(record: FlowRecord, bridge: str, ovsdb: Ovsdb) -> FlowStatus:
    """The backend of a bridge. Raises RouterError when the database does not answer."""
    transmit, receive = ovsdb.port_state(record.transmit_port), ovsdb.port_state(record.receive_port)
    found = FlowStatus(
        record.transmit_port,
        transmit.number,
        record.receive_port,
        receive.number,
        record.decapsulation_address,
        record.mac,
        record.mtu,
    )
    for port in (transmit, receive):
        if port.number is None:
            found.problems.append(f"OVS port: {port.error}")
    found.problems += problems(record, bridge)
    if links.link(None, bridge) is not None:
        found.ipv4_problem = ipv4_problem(bridge)
    if (tunnel := _device()) is not None:
        found.transmitted, found.received, found.dropped = tunnel.transmitted, tunnel.received, tunnel.dropped
    return found


def problems(record: FlowRecord, bridge: str) -> list[str]:
    """What of the kernel's part is missing or wrong; quick, for it is asked before each call to the controller."""
    found = []
    interface = links.link(None, bridge)
    if interface is None:
        found.append(f"the bridge's own interface {bridge} is missing (is ovs-vswitchd running?)")
    else:
        if not interface["up"]:
            found.append(f"the bridge's own interface {bridge} is down: ip link set {bridge} up")
        if interface["mac"] != record.mac:
            found.append(f"the MAC address of {bridge} is {interface['mac']}, not {record.mac}: run setup again")
        for key in ("all.forwarding", f"{bridge}.forwarding"):
            if links.sysctl(None, key) != "1":
                found.append(f"the kernel does not forward IPv6: sysctl -w net.ipv6.conf.{key}=1")
    for table in flow_tables(bridge):
        if not table.is_there(None):
            found.append(f"nftables table {table.family} {table.name} is missing or changed: run setup again")
    tunnel = _device()
    if tunnel is None:
        found.append(f"link {DEVICE} is missing: run setup again")
        return found
    if not tunnel.up:
        found.append(f"link {DEVICE} is down: run setup again")
    if not links.has_address(None, DEVICE, record.decapsulation_address):
        found.append(f"address {record.decapsulation_address} is not on {DEVICE}: run setup again")
    try:
        for wanted in diversions(record):
            if wanted not in [filter_.diversion for filter_ in tc.installed(wanted.interface, wanted.hook)]:
                found.append(f"the tc {wanted.hook.name.lower()} diversion is missing: run setup again")
    except TunnelError as error:
        found.append(f"{error}: run setup again")
    return found


def forwards_ipv4(bridge: str) -> bool:
    """Whether the kernel forwards IPv4 that leaves the tunnels: it comes from the bridge's own interface."""
    return links.sysctl(None, f"{bridge}.forwarding", "ipv4") == "1"


def checks_sources_strictly(bridge: str) -> bool:
    """Whether the kernel drops IPv4 that leaves the tunnels because no route leads back to where it comes from.

    The higher of the two settings counts; 1 is strict, 2 is loose (Linux, ip-sysctl).
    """
    return max(int(links.sysctl(None, f"{name}.rp_filter", "ipv4")) for name in ("all", bridge)) == 1


def ipv4_problem(bridge: str) -> str | None:
    """Why IPv4 home addresses cannot be carried, with what would help; None if they can. Raises RouterError."""
    if not forwards_ipv4(bridge):
        return "the router's kernel does not forward IPv4: sysctl -w net.ipv4.ip_forward=1"
    if checks_sources_strictly(bridge):
        return f"the router's kernel checks IPv4 sources strictly: sysctl -w net.ipv4.conf.{bridge}.rp_filter=2"
    return None


def table(found: FlowStatus) -> str:
    """The backend for people."""
    lines = [
        f"flow backend, decapsulates at {found.decapsulation_address}, MAC {found.mac}, MTU in tunnels {found.mtu}",
        f"  transmit port {found.transmit_port} (OpenFlow {_cell(found.transmit_ofport)}): "
        f"{_cell(found.transmitted)} packets",
        f"  receive port {found.receive_port} (OpenFlow {_cell(found.receive_ofport)}): "
        f"{_cell(found.received)} packets",
        f"  dropped by {DEVICE}: {_cell(found.dropped)} packets",
    ]
    if found.ipv4_problem is not None:
        lines.append(f"  no IPv4 home addresses: {found.ipv4_problem}")
    return "\n".join([*lines, *(f"problem: {problem}" for problem in found.problems)])


def _device() -> device.Device | None:
    try:
        return device.find()
    except TunnelError:
        return None  # something else has the name: for setup to say


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
