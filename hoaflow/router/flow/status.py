# SPDX-License-Identifier: Apache-2.0
"""Read the status of a bridge's `flow` backend from the kernel and from Open vSwitch."""

from dataclasses import dataclass, field

from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.record import DEVICE, FlowRecord
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.router.status import not_as_declared
from hoaflow.tunnel import links


@dataclass
class FlowStatus:
    """The status of a flow backend. Values that cannot be read are None, and `problems` says why.

    Ports have names and OpenFlow numbers; `transmitted`, `received` and `dropped` are packets of the tunnel device.
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
    )
    found.problems += problems(record, bridge, ovsdb)
    if links.link(None, bridge) is not None:
        found.ipv4_problem = ipv4_problem(bridge)
    found.transmitted, found.received, found.dropped = _counters()
    return found


def problems(record: FlowRecord, bridge: str, ovsdb: Ovsdb) -> list[str]:
    """Return what of the backend is not as declared, each with what to do."""
    return not_as_declared(lambda: declaration(bridge, record, ovsdb))


def forwards_ipv4(bridge: str) -> bool:
    """Tell whether the kernel forwards IPv4 from the bridge's own interface, where it leaves the tunnels."""
    return links.sysctl(None, f"{bridge}.forwarding", "ipv4") == "1"


def checks_sources_strictly(bridge: str) -> bool:
    """Tell whether the kernel drops IPv4 packets that leave the tunnels, as the route back is by another interface.

    The higher of the two settings counts: 1 is strict, 2 is loose (Linux, ip-sysctl).
    """
    return max(int(links.sysctl(None, f"{name}.rp_filter", "ipv4")) for name in ("all", bridge)) == 1


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
        f"  dropped by {DEVICE}: {_cell(found.dropped)} packets",
    ]
    if found.ipv4_problem is not None:
        lines.append(f"  no IPv4 home addresses: {found.ipv4_problem}")
    return "\n".join([*lines, *(f"problem: {problem}" for problem in found.problems)])


def _counters() -> tuple[int, int, int] | tuple[None, None, None]:
    """Return the numbers of packets that the tunnel device sent, received and dropped."""
    with links.netlink(None) as ipr:
        index = next(iter(ipr.link_lookup(ifname=DEVICE)), None)
        if index is None:
            return None, None, None
        found = ipr.get_links(index)[0].get_attr("IFLA_STATS64")
        dropped = sum(found[name] for name in ("tx_dropped", "tx_errors", "rx_dropped", "rx_errors"))
        return found["tx_packets"], found["rx_packets"], dropped


def _cell(value: int | None) -> str:
    return "-" if value is None else str(value)
