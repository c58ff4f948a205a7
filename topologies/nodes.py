# SPDX-License-Identifier: Apache-2.0
"""Mininet nodes, bridges and interfaces that the topologies are made of.

They configure themselves (`config`, `start`), so that a topology is complete under plain `mn`, which only
builds it.
Nothing but mininet and the standard library is used: `mn` runs with the system's Python.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from mininet.link import Intf
from mininet.node import Node, OVSBridge, OVSSwitch, RemoteController, Switch
from mininet.util import errRun

OFFLOADS = ("tx", "rx", "tso", "gso", "gro")
# Duplicate address detection would hold up every address for a second; there are no router advertisements.
# `default`, before any interface is there, so that each interface starts with it.
IPV6_DEFAULTS = ("disable_ipv6=0", "accept_dad=0", "accept_ra=0", "autoconf=0")
# A neighbour solicitation is lost now and then on a link that has just come up, before the bridge has noticed: not a
# whole second (RFC 4861) until the next.
RETRANSMIT_MILLISECONDS = 100
# Of priority 1, so that it is not the same flow as a table-miss flow that a controller adds.
BASE_FLOW = "priority=1,actions=NORMAL"


class TopologyError(RuntimeError):
    """A command that sets a node or bridge up failed; the message has the command and what it said."""


def checked(node: Node, *command: str) -> str:
    """Run COMMAND in NODE, return its standard output.

    Raises: TopologyError when it fails.
    """
    out, err, status = node.pexec(*command)
    if status:
        raise TopologyError(f"{node.name}: {' '.join(command)}: exit status {status}: {(err or out).strip()}")
    return str(out)


def run_checked(*command: Any, **options: Any) -> None:
    """Run COMMAND as `mininet.util.errRun` does, for `batchStartup`, which itself looks at no exit status.

    Raises: TopologyError when it fails.
    """
    out, err, status = errRun(*command, **options)
    if status:
        raise TopologyError(f"{' '.join(map(str, command))}: exit status {status}: {(err or out).strip()}")


class DataIntf(Intf):
    """An end of a veth pair without offloads.

    A userspace datapath sees what the kernel hands over: with offloads on, checksums that nobody has computed
    and segments longer than the MTU.
    """

    def config(self, **params: Any) -> dict[str, Any]:
        """Turn the offloads off, then bring the interface up."""
        checked(self.node, "ethtool", "-K", self.name, *(word for name in OFFLOADS for word in (name, "off")))
        if not self.node.inNamespace:
            # A bridge's port has no business with addresses: the host's own IPv6 must not speak on the links.
            checked(self.node, "ip", "link", "set", "dev", self.name, "addrgenmode", "none")
        result: dict[str, Any] = super().config(**params)
        return result

    def updateIP(self) -> str | None:
        """The address that Mininet's CLI puts in the place of the node's name."""
        address: str | None = self.node.IP()
        return address


class Ipv6Node(Node):
    """A host or Linux router with IPv6 addresses and static routes."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **params)
        checked(self, "sysctl", "-qw", *(f"net.ipv6.conf.default.{setting}" for setting in IPV6_DEFAULTS))

    def config(
        self,
        addresses: Mapping[str, Sequence[str]] | None = None,
        routes: Mapping[str, str] | None = None,
        forwarding: bool = False,
        down: Sequence[str] = (),
        **_params: Any,
    ) -> dict[str, Any]:
        """Configure the node; called by Mininet once its interfaces are there.

        addresses: interface → addresses with prefix length.
        routes: destination (prefix or "default") → next hop.
        forwarding: it is a router.
        down: interfaces to leave down.
        Raises: TopologyError.
        """
        checked(self, "ip", "link", "set", "dev", "lo", "up")
        wait = f"retrans_time_ms={RETRANSMIT_MILLISECONDS}"
        settings = [f"net.ipv6.neigh.{intf.name}.{wait}" for intf in self.intfList()]
        settings += ["net.ipv6.conf.all.forwarding=1"] if forwarding else []
        checked(self, "sysctl", "-qw", *settings)
        for interface, wanted in (addresses or {}).items():
            for address in wanted:
                family = () if ":" not in address else ("nodad",)
                checked(self, "ip", "addr", "add", address, "dev", interface, *family)
        for destination, gateway in (routes or {}).items():
            checked(self, "ip", "-6", "route", "add", destination, "via", gateway)
        for interface in down:
            checked(self, "ip", "link", "set", "dev", interface, "down")
        return {}

    def IP(self, intf: Intf | None = None) -> str | None:
        """The node's own IPv6 address, which `pingall` and Mininet's CLI use."""
        address = self.params.get("address")
        return None if address is None else str(address)


class RouterBridge(OVSSwitch):
    """The Open vSwitch bridge of a router: all that the router forwards passes it, on both sides.

    Each segment of the router (access link, core uplink) is a VLAN of access ports on the one bridge, and
    the router's kernel has a port in each. So a packet meets the OpenFlow pipeline when it comes in, and
    again when the kernel has routed it. Without a controller, the one base flow (NORMAL) forwards; it is not
    the controller's.
    """

    def __init__(self, name: str, segments: Mapping[str, int] | None = None, **params: Any) -> None:
        """segments: port name → VLAN, for each port."""
        self.segments = dict(segments or {})
        super().__init__(name, datapath="user", protocols="OpenFlow13", failMode="secure", **params)

    def intfOpts(self, intf: Intf) -> str:
        """Options for `ovs-vsctl add-port`: the port number as Mininet has it, and the VLAN."""
        return f"{super().intfOpts(intf)} -- set Port {intf} tag={self.segments[intf.name]}"

    def start(self, controllers: Sequence[Node]) -> None:
        """Start the bridge. Only a remote controller is taken: what Mininet picks by default is a learning
        switch, whose flows know no VLANs and would join the segments.
        """
        super().start([controller for controller in controllers if isinstance(controller, RemoteController)])

    @classmethod
    def batchStartup(cls, switches: list["RouterBridge"], run: Any = run_checked) -> list["RouterBridge"]:
        """Make all bridges in one go, then give each its base flow."""
        started: list[RouterBridge] = super().batchStartup(switches, run)
        for switch in started:
            checked(switch, "ovs-ofctl", "-O", "OpenFlow13", "add-flow", switch.name, BASE_FLOW)
        return started

    def connected(self) -> bool:
        """Whether it is as connected as it shall be: without a controller it forwards by its base flow."""
        return not self.controllerUUIDs() or bool(super().connected())

    @classmethod
    def isOldOVS(cls) -> bool:
        """Whether it is older than 1.10 (of 2013). Mininet's own way to tell is deprecated in Python."""
        return False


class LaterController(RemoteController):
    """A controller that may start later, and again. The bridges must know it from the beginning, though: the
    first time that a bridge is given one, Open vSwitch removes all its flows.
    """

    def checkListening(self) -> None:
        """Not warned about when it is not there yet."""


class LinkBridge(OVSBridge):
    """A plain Ethernet segment: an uncontrolled bridge."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, datapath="user", **params)

    @classmethod
    def batchStartup(cls, switches: list["LinkBridge"], run: Any = run_checked) -> list["LinkBridge"]:
        """Make all bridges in one go."""
        started: list[LinkBridge] = super().batchStartup(switches, run)
        return started

    isOldOVS = RouterBridge.isOldOVS


class ManagementNetwork(LinkBridge):
    """The management network: an uncontrolled bridge, on which the root namespace has an address itself."""

    def __init__(self, name: str, address: str = "", **params: Any) -> None:
        """address: IPv4 address with prefix length, for the root namespace."""
        self.address = address
        super().__init__(name, **params)

    @classmethod
    def batchStartup(cls, switches: list["LinkBridge"], run: Any = run_checked) -> list["LinkBridge"]:
        """Make the bridge, then address its own interface."""
        started = super().batchStartup(switches, run)
        for switch in started:
            checked(switch, "ip", "addr", "add", switch.address, "dev", switch.name)
            checked(switch, "ip", "link", "set", "dev", switch.name, "up")
        return started


class DelayLine(Switch):
    """A wire on which every frame takes the same while; `delay_line.py` carries the frames."""

    def __init__(self, name: str, delay: float, **params: Any) -> None:
        """delay: one way, in milliseconds."""
        self.delay = delay
        self.process: Popen[bytes] | None = None
        super().__init__(name, **params)
        checked(self, "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")

    def start(self, _controllers: Sequence[Node]) -> None:
        """Start carrying frames; returns when it does.

        Raises: TopologyError when it cannot.
        """
        script = Path(__file__).with_name("delay_line.py")
        ends = [intf.name for intf in self.intfList() if intf.name != "lo"]
        command = [sys.executable, str(script), *ends, "--delay", str(self.delay)]
        # So that nothing of the line is left behind, also where this process is killed.
        bound = ["setpriv", "--pdeathsig", "KILL"]
        self.process = process = self.popen([*bound, *command], stdin=None, stderr=None)
        if not process.stdout.readline():
            raise TopologyError(f"{self.name}: {' '.join(command)}: exit status {process.wait(5)}")

    def stop(self, deleteIntfs: bool = True) -> None:
        """Stop carrying frames."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(5)
            self.process = None
        super().stop(deleteIntfs)
