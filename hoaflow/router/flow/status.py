# SPDX-License-Identifier: Apache-2.0
"""Read the status of a bridge's `flow` backend from the kernel and from Open vSwitch."""

from dataclasses import dataclass, field

from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.objects import LooseSources
from hoaflow.router.flow.record import FlowRecord
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.status import not_as_declared
from hoaflow.tunnel import links
from hoaflow.tunnel.actual_state import ActualState

NO_IPV6_INSIDE = (
    "the kernel's ipip device carries no IPv6 in IPv4: a router with the route backend does (hoaflow-router setup "
    "--backend route)"
)


@dataclass
class FlowStatus:
    """The status of a flow backend for one family. Values that cannot be read are None, and `problems` says why.

    Ports have names and OpenFlow numbers; `transmitted`, `received` and `dropped` are packets of the tunnel `devices`.
    """

    transmit_port: str
    transmit_ofport: int | None
    receive_port: str
    receive_ofport: int | None
    decapsulation_address: str
    mac: str
    mtu: int
    devices: list[str]
    ipv4_problem: str | None = None
    ipv6_problem: str | None = None
    transmitted: int | None = None
    received: int | None = None
    dropped: int | None = None
    problems: list[str] = field(default_factory=list)


def status(record: FlowRecord, bridge: str, ovsdb: Ovsdb) -> FlowStatus:
    """Return the status of a bridge's backend. Raises RouterError if the database does not answer."""
    transmit, receive = ovsdb.port_state(record.transmit_port), ovsdb.port_state(record.receive_port)
    found = FlowStatus(
        record.transmit_port,
        transmit.number,
        record.receive_port,
        receive.number,
        record.decapsulation_address,
        record.mac,
        record.mtu,
        sorted({record.sender, record.device}, reverse=True),
        ipv6_problem=NO_IPV6_INSIDE if record.is_ipv4 else None,
    )
    found.problems += problems(record, bridge, ovsdb)
    if links.link(None, bridge) is not None:
        found.ipv4_problem = ipv4_problem(bridge)
    found.transmitted, found.received, found.dropped = _counters(record)
    return found


def problems(record: FlowRecord, bridge: str, ovsdb: Ovsdb) -> list[str]:
    """Return what of the backend is not as declared, each with what to do."""
    return not_as_declared(lambda: declaration(bridge, record, ovsdb))


def forwards_ipv4(bridge: str) -> bool:
    """Tell whether the kernel forwards IPv4 from the bridge's own interface, where it leaves the tunnels."""
    return links.sysctl(None, f"{bridge}.forwarding", "ipv4") == "1"


def checks_sources_strictly(bridge: str) -> bool:
    """Tell whether the kernel drops IPv4 packets that leave the tunnels, as the route back is by another interface."""
    with ActualState() as actual:
        return LooseSources(bridge).difference(actual) is not None


def ipv4_problem(bridge: str) -> str | None:
    """Return why IPv4 home addresses cannot be carried, and what would help, or None if they can."""
    if not forwards_ipv4(bridge):
        return "the router's kernel does not forward IPv4: sysctl -w net.ipv4.ip_forward=1"
    if checks_sources_strictly(bridge):
        return f"the router's kernel checks IPv4 sources strictly: sysctl -w net.ipv4.conf.{bridge}.rp_filter=2"
    return None


def table(found: FlowStatus) -> str:
    """Format the status for display."""
    lines = [
        f"flow backend, decapsulates at {found.decapsulation_address}, MAC {found.mac}, MTU in tunnels {found.mtu}",
        f"  transmit port {found.transmit_port} (OpenFlow {_cell(found.transmit_ofport)}): "
        f"{_cell(found.transmitted)} packets",
        f"  receive port {found.receive_port} (OpenFlow {_cell(found.receive_ofport)}): "
        f"{_cell(found.received)} packets",
        f"  dropped by {' and '.join(found.devices)}: {_cell(found.dropped)} packets",
    ]
    if found.ipv4_problem is not None:
        lines.append(f"  no IPv4 home addresses: {found.ipv4_problem}")
    if found.ipv6_problem is not None:
        lines.append(f"  no IPv6 home addresses: {found.ipv6_problem}")
    return "\n".join([*lines, *(f"problem: {problem}" for problem in found.problems)])


def _counters(record: FlowRecord) -> tuple[int, int, int] | tuple[None, None, None]:
    """Return the numbers of packets that the tunnel devices sent, received and dropped."""
    with links.netlink(None) as ipr:
        numbers = [next(iter(ipr.link_lookup(ifname=name)), None) for name in (record.sender, record.device)]
        if None in numbers:
            return None, None, None
        by_number = {number: ipr.get_links(number)[0].get_attr("IFLA_STATS64") for number in numbers}
    sender, receiver = (by_number[number] for number in numbers)
    names = ("tx_dropped", "tx_errors", "rx_dropped", "rx_errors")
    dropped = sum(found[name] for found in by_number.values() for name in names)
    return sender["tx_packets"], receiver["rx_packets"], dropped


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
