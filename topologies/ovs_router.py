# SPDX-License-Identifier: Apache-2.0
"""Run a router as a Mininet node: a Linux kernel and an Open vSwitch in a network namespace of their own.

The namespace is what a router's host is elsewhere. Open vSwitch has its kernel datapath there once, and the kernel one
collect-metadata ip6tnl device: so each router can have either of hoaflow's backends.
Nothing but mininet and the standard library is used: `mn` runs with the system's Python.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mininet.node import Node, RemoteController

from topologies import addresses as at
from topologies.nodes import START_TIMEOUT, Device, TopologyError, checked, configure, prepare_kernel
from topologies.processes import Process

BRIDGE = "br0"
FIRST_VLAN = 10
# Of priority 1, so that it is not the same flow as a table-miss flow that a controller adds.
BASE_FLOW = "priority=1,actions=NORMAL"
KERNEL, USER = "kernel", "user"  # Mininet's words for the datapaths `system` and `netdev`
RUN_DIRECTORY = "/run/openvswitch"  # where Open vSwitch's own tools look
DATABASE, DATABASE_SOCKET = f"{RUN_DIRECTORY}/conf.db", f"{RUN_DIRECTORY}/db.sock"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


class OvsRouter(Device):
    """Run a router all of whose traffic passes the bridge BRIDGE, both on its way in and on its way out.

    Each segment of the router (access link, uplink) is a VLAN of the bridge: access ports for those who are attached,
    and an internal port of the segment's name, which is the kernel's interface there. So a packet meets the OpenFlow
    pipeline when it comes in, and again when the kernel has routed it. Without a controller, the one base flow (NORMAL)
    forwards; it is not the controller's.
    """

    def __init__(
        self,
        name: str,
        segments: Mapping[str, Sequence[str]],
        addresses: Mapping[str, Sequence[str]],
        routes: Mapping[str, str],
        management: str,
        datapath: str = USER,
        **params: Any,
    ) -> None:
        """Create the node and check its settings; `start` makes the bridge. Raises TopologyError.

        `segments`: name → interfaces of the node that are attached to it. `addresses`, `routes`: see `configure`; a
        segment is an interface. `management`: address with prefix length of the interface NAME-mgmt, by which
        controllers are reached. `datapath`: KERNEL, if the host's kernel has Open vSwitch's, or USER, which is for any.
        """
        if datapath not in (KERNEL, USER):
            raise TopologyError(f"datapath: expected {KERNEL} or {USER}, got {datapath!r}")
        # The second, for the tunnel endpoints of the `route` backend have the same names on all routers.
        private = [RUN_DIRECTORY, "/run/netns"]
        super().__init__(name, **{**params, "inNamespace": True, "privateDirs": private})
        self.segments = dict(segments)
        self.addresses = dict(addresses)
        self.routes = dict(routes)
        self.management = management
        self.datapath = datapath
        prepare_kernel(self, forwarding=True)

    def start(self, controllers: Sequence[Node]) -> None:
        """Start Open vSwitch, make the bridge, configure the kernel. Raises OSError, ProcessError, TopologyError."""
        configure(self, {f"{self.name}-mgmt": [self.management]}, {})
        self._start_daemons()
        # Only a remote controller is taken: what Mininet picks by default is a learning switch, whose flows know no
        # VLANs and would join the segments. From the beginning, for the first one costs a bridge its flows.
        self._add_bridge([_target(each) for each in controllers if isinstance(each, RemoteController)])
        self.configure_kernel()

    def connected(self) -> bool:
        """Return whether no controller connection is down; without any controller, the base flow forwards."""
        return "false" not in checked(self, "ovs-vsctl", "--columns=is_connected", "list", "controller")

    def IP(self, intf: object = None) -> str:
        """Return the router's address on its first segment, for Mininet's CLI."""
        return self.addresses[next(iter(self.segments))][0].partition("/")[0]

    def _start_daemons(self) -> None:
        checked(self, "ovsdb-tool", "create", DATABASE, SCHEMA)
        self.start_database()
        # --no-wait: ovs-vswitchd, which would acknowledge, starts afterwards.
        checked(self, "ovs-vsctl", f"--timeout={START_TIMEOUT:g}", "--retry", "--no-wait", "init")
        self.start_switch()

    def start_database(self) -> None:
        """Start ovsdb-server, again after it has ended. Raises OSError."""
        self._daemon("ovsdb-server", DATABASE, f"--remote=punix:{DATABASE_SOCKET}")

    def start_switch(self) -> None:
        """Start ovs-vswitchd, again after it has ended, and wait until it runs. Raises OSError, ProcessError."""
        userspace = ["--disable-system"] if self.datapath == USER else []  # else it says that the kernel has none
        switchd = self._daemon("ovs-vswitchd", f"unix:{DATABASE_SOCKET}", *userspace)
        switchd.wait_for(r"ovs-vswitchd \(Open vSwitch\) ", START_TIMEOUT)

    def configure_kernel(self) -> None:
        """Add the base flow, addresses and routes, which are lost when ovs-vswitchd ends. Raises TopologyError."""
        checked(self, "ovs-ofctl", "-O", "OpenFlow13", "add-flow", BRIDGE, BASE_FLOW)
        configure(self, self.addresses, self.routes)

    def _daemon(self, program: str, *arguments: str) -> Process:
        return self.run(program, [program, *arguments, "--pidfile"])

    def _add_bridge(self, controllers: Sequence[str]) -> None:
        """Create the bridge with its ports and controllers in one OVSDB transaction."""
        kind = "system" if self.datapath == KERNEL else "netdev"
        command = f"add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type={kind} protocols=OpenFlow13 fail_mode=secure"
        command += f" other_config:datapath-id={self.dpid} other_config:disable-in-band=true"
        for vlan, (segment, attached) in enumerate(self.segments.items(), FIRST_VLAN):
            command += f" -- add-port {BRIDGE} {segment} tag={vlan} -- set interface {segment} type=internal"
            for port in attached:
                command += f" -- add-port {BRIDGE} {port} tag={vlan}"
        # Else the kernel answers ARP there for the segments' addresses, and packets pass by the bridge.
        ports = [port for attached in self.segments.values() for port in attached]
        checked(self, "sysctl", "-qw", *(f"net.ipv4.conf.{port}.arp_ignore=8" for port in ports))
        if controllers:
            command += f" -- set-controller {BRIDGE} {' '.join(controllers)}"
            command += f" -- set controller {BRIDGE} max_backoff=1000"  # milliseconds between attempts to connect
        checked(self, "ovs-vsctl", f"--timeout={START_TIMEOUT:g}", *command.split())


def _target(controller: RemoteController) -> str:
    """Return the controller's address as routers reach it; 127.0.0.1 becomes the root's management address."""
    address = str(controller.IP())
    return f"{controller.protocol}:{at.MANAGEMENT_ROOT if address == '127.0.0.1' else address}:{controller.port}"
