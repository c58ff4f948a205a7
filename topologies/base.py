# SPDX-License-Identifier: Apache-2.0
"""What the topologies have in common: routers of a kernel and a bridge, end nodes, home link, management."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mininet.topo import Topo

from topologies import addresses as at
from topologies.nodes import DataIntf, Ipv6Node, LinkBridge, ManagementNetwork, RouterBridge

FIRST_VLAN = 10


class Attachment(NamedTuple):
    """A node's interface on a segment."""

    node: str
    interface: str


@dataclass(frozen=True)
class Segment:
    """One side of a router: a link (/64), its kernel's address there, and who else is on it."""

    name: str
    address: str
    attached: tuple[Attachment, ...]


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
        vlans: dict[str, int] = {}
        for vlan, segment in enumerate(segments, FIRST_VLAN):
            ports = [f"{bridge}-k-{segment.name}", *(f"{bridge}-{end.node}" for end in segment.attached)]
            vlans |= dict.fromkeys(ports, vlan)
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
            self.link(bridge, f"{bridge}-k-{segment.name}", router, f"{router}-{segment.name}")
            for end in segment.attached:
                self.link(bridge, f"{bridge}-{end.node}", end.node, end.interface)

    def add_end_nodes(self) -> None:
        """Correspondent node, home agent, mobile node, and a stranger; the home link and the management network.

        The stranger is a host on foreign link 1 that nobody has reason to trust.
        """
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
        self.addHost(
            "stranger",
            cls=Ipv6Node,
            address=at.STRANGER,
            addresses={"stranger-eth0": [f"{at.STRANGER}/64"]},
            routes={"default": at.foreign_gateway(1)},
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
