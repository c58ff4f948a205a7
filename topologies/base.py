# SPDX-License-Identifier: Apache-2.0
"""What the topologies have in common: routers of a kernel and a bridge, end nodes, home link, management."""

from dataclasses import dataclass
from typing import ClassVar

from mininet.topo import Topo

from topologies import addresses as at
from topologies.nodes import DataIntf, Ipv6Node, LinkBridge, ManagementNetwork, RouterBridge

FIRST_VLAN = 10


@dataclass(frozen=True)
class Segment:
    """One side of a router: its kernel's address there (/64), and the node and interface at the other end."""

    name: str
    address: str
    node: str
    interface: str


class MobilityTopo(Topo):
    """Base class. What a user of a built topology needs to know of it, beside `addresses`:

    routers: bridge → node that is the router's kernel.
    foreign_links: numbers of the foreign links; the mobile node's interface on link N is `mn-fN`.
    """

    routers: ClassVar[dict[str, str]]
    foreign_links: ClassVar[tuple[int, ...]]

    def link(self, node1: str, interface1: str, node2: str, interface2: str) -> None:
        """A veth pair, its ends named INTERFACE1 and INTERFACE2."""
        self.addLink(node1, node2, intfName1=interface1, intfName2=interface2, intf=DataIntf)

    def add_router(self, bridge: str, segments: list[Segment], routes: dict[str, str] | None = None) -> None:
        """Router `routers[bridge]` and its bridge, with one VLAN per segment.

        The nodes at the other ends must be there already. ROUTES: destination → next hop.
        """
        router = self.routers[bridge]
        outside = {segment.name: f"{bridge}-{segment.name}" for segment in segments}
        inside = {segment.name: f"{bridge}-k-{segment.name}" for segment in segments}
        vlans = {}
        for vlan, segment in enumerate(segments, FIRST_VLAN):
            vlans[outside[segment.name]] = vlans[inside[segment.name]] = vlan
        self.addHost(
            router,
            cls=Ipv6Node,
            address=segments[0].address,
            addresses={f"{router}-{segment.name}": [f"{segment.address}/64"] for segment in segments},
            routes=routes or {},
            forwarding=True,
        )
        self.addSwitch(bridge, cls=RouterBridge, segments=vlans, listenPort=None)
        for segment in segments:
            self.link(bridge, outside[segment.name], segment.node, segment.interface)
            self.link(bridge, inside[segment.name], router, f"{router}-{segment.name}")

    def add_end_nodes(self) -> None:
        """Correspondent node, home agent and mobile node, the latter two joined by the home link."""
        self.addHost(
            "cn",
            cls=Ipv6Node,
            address=at.CORRESPONDENT,
            addresses={"cn-eth0": [f"{at.CORRESPONDENT}/64"]},
            routes={"default": at.CORRESPONDENT_GATEWAY},
        )
        self.addHost(
            "ha",
            cls=Ipv6Node,
            address=at.HOME_AGENT,
            addresses={
                "ha-core": [f"{at.router_side(9)}/64"],
                "ha-home": [f"{at.HOME_AGENT}/64"],
                "ha-mgmt": [f"{at.MANAGEMENT_HOME_AGENT}/{at.MANAGEMENT_PREFIX_LENGTH}"],
            },
            routes={"default": at.core_side(9)},
            forwarding=True,
        )
        # At home, the mobile node is an ordinary host. What it does away from home is `mobile_node.py`'s.
        self.addHost(
            "mn",
            cls=Ipv6Node,
            address=at.HOME_ADDRESS,
            addresses={"mn-home": [f"{at.HOME_ADDRESS}/64"]},
            routes={"default": at.HOME_AGENT},
            down=[f"mn-f{number}" for number in self.foreign_links],
        )
        self.addSwitch("home", cls=LinkBridge, dpid="99", listenPort=None)
        self.link("home", "home-ha", "ha", "ha-home")
        self.link("home", "home-mn", "mn", "mn-home")
        self.addSwitch(
            "mgmt",
            cls=ManagementNetwork,
            dpid="9a",
            listenPort=None,
            address=f"{at.MANAGEMENT_ROOT}/{at.MANAGEMENT_PREFIX_LENGTH}",
        )
        self.link("mgmt", "mgmt-ha", "ha", "ha-mgmt")
