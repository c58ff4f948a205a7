# SPDX-License-Identifier: Apache-2.0
"""Define the Mininet nodes, links and interfaces of the topologies; the routers are in `ovs_router`.

They configure themselves (`config`, `start`), so that a topology is complete under plain `mn`, which only
builds it.
Nothing but mininet and the standard library is used: `mn` runs with the system's Python.
"""

import itertools
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mininet.link import Intf, Link
from mininet.node import Node, RemoteController, Switch

from hoaflow.errors import HoaflowError
from topologies.processes import Process

OFFLOADS = ("tx", "rx", "tso", "gso", "gro")
# Duplicate address detection would hold up every address for a second; there are no router advertisements.
# `default`, before any interface is there, so that each interface starts with it.
IPV6_DEFAULTS = ("disable_ipv6=0", "accept_dad=0", "accept_ra=0", "autoconf=0")
# A neighbour solicitation is lost now and then on a link that has just come up, before the bridge has noticed: not a
# whole second (RFC 4861) until the next. As long as there, altogether: a proxy may answer after 0.8 s.
RETRANSMIT_MILLISECONDS, SOLICITATIONS = 100, 30
START_TIMEOUT = 60.0  # seconds


class TopologyError(HoaflowError):
    """A command that sets up a node or bridge failed; the message has the command and its output."""


def checked(node: Node, *command: str, stdin: str = "") -> str:
    """Run COMMAND in NODE and return its standard output, or raise what it printed.

    A signal that interrupts this ends the command, other than with Mininet's `pexec`. Raises TopologyError when it
    fails.
    """
    done = subprocess.run(["mnexec", "-da", str(node.pid), *command], input=stdin, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        told = f" with {stdin!r}" if stdin else ""
        raise TopologyError(f"{node.name}: {' '.join(command)}{told}: exit status {done.returncode}: {said}")
    return done.stdout


def checked_ip(node: Node, lines: Sequence[str]) -> None:
    """Run `ip LINE` in NODE for each of them, in one process: starting one takes long under emulation.

    Raises TopologyError.
    """
    checked(node, "ip", "-batch", "-", stdin="\n".join(lines))


def prepare_kernel(node: Node, forwarding: bool) -> None:
    """Set the defaults that NODE's future interfaces inherit. Raises TopologyError."""
    settings = [f"net.ipv6.conf.default.{setting}" for setting in IPV6_DEFAULTS]
    # Of `all`, as it sets `default` as well.
    settings += [f"net.ipv6.conf.all.forwarding={forwarding:d}", f"net.ipv4.ip_forward={forwarding:d}"]
    checked(node, "sysctl", "-qw", *settings)


def configure(node: Node, addresses: Mapping[str, Sequence[str]], routes: Mapping[str, str]) -> None:
    """Set the addresses and static routes of NODE, whose interfaces must exist.

    addresses: interface → addresses with prefix length. routes: destination (prefix or "default") → next hop.
    Raises TopologyError.
    """
    retransmissions = (f"retrans_time_ms={RETRANSMIT_MILLISECONDS}", f"mcast_solicit={SOLICITATIONS}")
    interfaces = {*addresses, *(intf.name for intf in node.intfList())}
    checked(
        node,
        "sysctl",
        "-qw",
        *(f"net.ipv6.neigh.{name}.{setting}" for name in sorted(interfaces) for setting in retransmissions),
    )
    lines = ["link set dev lo up"]
    for interface, wanted in addresses.items():
        lines.append(f"link set dev {interface} up")
        lines += [f"address replace {each} dev {interface}{' nodad' * (':' in each)}" for each in wanted]
    checked_ip(node, [*lines, *(f"route replace {to} via {gateway}" for to, gateway in routes.items())])


class DataIntf(Intf):
    """Configure an end of a veth pair without offloads.

    A userspace datapath sees what the kernel hands over: with offloads on, checksums that nobody has computed
    and segments longer than the MTU.
    """

    def config(self, **params: Any) -> dict[str, Any]:
        """Turn the offloads off, then bring the interface up; Mininet calls this."""
        checked(self.node, "ethtool", "-K", self.name, *(word for name in OFFLOADS for word in (name, "off")))
        # A bridge's port has no business with addresses: the kernel's own IPv6 must not speak on the links.
        silent = ("addrgenmode", "none") if isinstance(self.node, Switch) else ()
        checked(self.node, "ip", "link", "set", "dev", self.name, *silent, "up")
        result: dict[str, Any] = super().config(up=None, **params)  # else Mininet has `ifconfig` do that
        return result

    def updateIP(self) -> str | None:
        """Return the address that Mininet's CLI substitutes for the node's name."""
        address: str | None = self.node.IP()
        return address


class DataLink(Link):
    """Join two nodes by a veth pair whose ends have interface indexes of their own.

    Where both ends, in two namespaces, have the same index, the kernel does not see a pair, and may announce a second
    late that an end has come up (linkwatch_urgent_event in Linux's net/core/link_watch.c).
    """

    indexes = itertools.count(10_000)

    @classmethod
    def makeIntfPair(
        cls, intfname1: str, intfname2: str, addr1: str, addr2: str, node1: Node, node2: Node, **_params: Any
    ) -> None:
        """Create the pair with Ethernet addresses ADDR1 and ADDR2; Mininet calls this. Raises TopologyError."""
        # The root namespace has indexes of its own. Its end comes second, for only then the other may have one.
        ends = [(node1, intfname1, addr1), (node2, intfname2, addr2)]
        ends.sort(key=lambda end: not end[0].inNamespace)
        words = []
        for node, name, address in ends:
            index = ["index", str(next(cls.indexes))] if node.inNamespace else []
            words.append(["name", name, "address", address, *index])
        (first, *_), (second, *_) = ends
        checked(first, "ip", "link", "add", *words[0], "type", "veth", "peer", *words[1], "netns", str(second.pid))


class IpNode(Node):
    """Run a host or Linux router with addresses and static routes."""

    def __init__(self, name: str, forwarding: bool = False, **params: Any) -> None:
        """Create the node, as a router if `forwarding`. Raises TopologyError."""
        super().__init__(name, **params)
        prepare_kernel(self, forwarding)

    def config(
        self,
        addresses: Mapping[str, Sequence[str]] | None = None,
        routes: Mapping[str, str] | None = None,
        down: Sequence[str] = (),
        macs: Mapping[str, str] | None = None,
        **_params: Any,
    ) -> dict[str, Any]:
        """Set addresses and routes; Mininet calls this once the node's interfaces exist.

        addresses, routes: see `configure`. down: interfaces to leave down. macs: interface → MAC address.
        Raises TopologyError.
        """
        if macs:
            checked_ip(self, [f"link set dev {interface} address {mac}" for interface, mac in macs.items()])
        configure(self, addresses or {}, routes or {})
        if down:
            checked_ip(self, [f"link set dev {interface} down" for interface in down])
        return {}

    def IP(self, intf: Intf | None = None) -> str | None:
        """Return the node's address, for `pingall` and Mininet's CLI."""
        address = self.params.get("address")
        return None if address is None else str(address)


class AutoconfiguredNode(IpNode):
    """Run a host that takes its addresses from Router Advertisements (RFC 4862)."""

    def __init__(self, name: str, **params: Any) -> None:
        """Create the node. Raises TopologyError."""
        super().__init__(name, **params)
        checked(self, "sysctl", "-qw", *(f"net.ipv6.conf.default.{name}=1" for name in ("accept_ra", "autoconf")))


class Device(Switch):
    """Join links, as a switch that Mininet starts and stops together with the programs that it runs."""

    # Of a switch in a network namespace, Mininet asks for it without ever having set it.
    controlIntf: Intf | None = None

    def __init__(self, name: str, logs: Path | None = None, **params: Any) -> None:
        """Create the node; its programs log into the directory `logs`, if given, which must exist."""
        super().__init__(name, **params)
        self.logs = logs
        self.processes: list[Process] = []

    def data_interfaces(self) -> list[str]:
        """Return the names of all interfaces but `lo`, in the order in which links were added."""
        return [intf.name for intf in self.intfList() if intf.name != "lo"]

    def run(self, program: str, command: Sequence[str]) -> Process:
        """Start a program in the node that runs until `stop`; PROGRAM names its log file. Raises OSError."""
        name = f"{self.name}-{program}"
        log = Path(os.devnull) if self.logs is None else self.logs / f"{name}.log"
        process = Process(name, command, log, ["mnexec", "-a", str(self.pid)])
        self.processes.append(process)
        return process

    def stop(self, deleteIntfs: bool = True) -> None:
        """End the programs, the last one first, and remove the interfaces. Raises ProcessError."""
        while self.processes:
            self.processes.pop().stop()
        super().stop(deleteIntfs)


class LinkBridge(Device):
    """Connect all nodes of an Ethernet segment by a Linux bridge, which knows no controller."""

    def __init__(self, name: str, address: str | None = None, **params: Any) -> None:
        """Create the node; `address`, with prefix length, is the bridge's own on the segment."""
        super().__init__(name, **params)
        self.address = address

    def start(self, _controllers: Sequence[Node]) -> None:
        """Create the bridge and attach its ports, with multicast snooping off. Raises TopologyError."""
        # Without snooping: no querier is there, and neighbour discovery is multicast.
        lines = [f"link add dev {self.name} type bridge mcast_snooping 0"]
        lines.append(f"link set dev {self.name} addrgenmode none up")
        lines += [f"link set dev {port} master {self.name}" for port in self.data_interfaces()]
        lines += [] if self.address is None else [f"address add {self.address} dev {self.name}"]
        checked_ip(self, lines)

    def stop(self, deleteIntfs: bool = True) -> None:
        """Delete the bridge and its interfaces."""
        self.pexec("ip", "link", "del", "dev", self.name)
        super().stop(deleteIntfs)


class DelayLine(Device):
    """Delay every frame between two nodes by the same time; `delay_line.py` carries the frames."""

    def __init__(self, name: str, delay: float, **params: Any) -> None:
        """Create the node; `delay` is one way, in milliseconds."""
        super().__init__(name, **params)
        self.delay = delay
        checked(self, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")

    def start(self, _controllers: Sequence[Node]) -> None:
        """Start `delay_line.py` and wait until it carries frames. Raises OSError, ProcessError."""
        script = str(Path(__file__).with_name("delay_line.py"))
        command = [sys.executable, script, *self.data_interfaces(), "--delay", str(self.delay)]
        line = self.run("delay-line", command)
        line.wait_for("event=ready", START_TIMEOUT)


class LaterController(RemoteController):
    """Name a controller that may start later, and again.

    The bridges must know it from the beginning: when a bridge is first given one, Open vSwitch removes all its flows.
    """

    def checkListening(self) -> None:
        """Skip Mininet's check and its warning: the controller starts later."""
