# SPDX-License-Identifier: Apache-2.0
"""Build what all topologies share: routers with their segments, end nodes, the home link, the management network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from mininet.topo import Topo

from topologies import addresses as at
from topologies.nodes import DataIntf, DataLink, DelayLine, IpNode, LinkBridge
from topologies.ovs_router import USER, OvsRouter


class Attachment(NamedTuple):
    """Name the interface by which a node is attached to a segment."""

    node: str
    interface: str


@dataclass(frozen=True)
class Segment:
    """Describe one side of a router: its link (/64), the router's address there, and the nodes attached to it."""

    name: str
    address: str
    attached: tuple[Attachment, ...]


class MobilityTopo(Topo):
    """Base class of the topologies: adds the end nodes, and routers on request.

    `routers`: names of the routers, `rN`; each has its bridge, `ovs_router.BRIDGE`. `foreign_links`: numbers of the
    foreign links; the mobile node's interface on link N is `mn-fN`. `agent_links`: numbers of the links of foreign
    agents; the mobile node's interface on the one of foreign agent N is `mn-aN`.
    """

    routers: ClassVar[tuple[str, ...]]
    foreign_links: ClassVar[tuple[int, ...]]
    agent_links: ClassVar[tuple[int, ...]] = ()
    anchor: ClassVar[str] = "ha"
    """The node by which all traffic of the mobile node goes without hoaflow."""

    def build(self, datapath: str = USER) -> None:
        """Add the end nodes; `datapath` is that of the routers' Open vSwitch, as in `OvsRouter`."""
        self.datapath = datapath
        self.add_end_nodes()

    def datapath_of(self, router: str) -> str:
        """Return the datapath of a router's Open vSwitch."""
        return self.datapath

    def link(self, node1: str, interface1: str, node2: str, interface2: str) -> None:
        """Join two nodes by a veth pair whose ends are INTERFACE1 and INTERFACE2."""
        self.addLink(node1, node2, cls=DataLink, intfName1=interface1, intfName2=interface2, intf=DataIntf)

    def add_router(self, number: int, segments: list[Segment], routes: dict[str, str] | None = None) -> None:
        """Add router `rNUMBER` and attach it to its segments and to the management network.

        The nodes at the other ends of its segments must be there already. ROUTES: destination → next hop.
        """
        router = f"r{number}"
        self.addSwitch(
            router,
            cls=OvsRouter,
            listenPort=None,
            segments={segment.name: [f"{router}-{end.node}" for end in segment.attached] for segment in segments},
            addresses={segment.name: [f"{segment.address}/64"] for segment in segments},
            routes=routes or {},
            management=f"{at.management_router(number)}/{at.MANAGEMENT_PREFIX_LENGTH}",
            datapath=self.datapath_of(router),
        )
        for segment in segments:
            for end in segment.attached:
                self.link(router, f"{router}-{end.node}", end.node, end.interface)
        self.link("mgmt", f"mgmt-{router}", router, f"{router}-mgmt")

    def add_edge_router(self, number: int, gateway: str, *attached: Attachment, more: Sequence[Segment] = ()) -> None:
        """Add router NUMBER between the core and an access link, on which GATEWAY is its address, and MORE links."""
        access = Segment("access", gateway, attached)
        core = Segment("core", at.router_side(number), (Attachment("core", f"core-r{number}"),))
        self.add_router(number, [access, *more, core], routes={"default": at.core_side(number)})

    def add_core_router(self, delay: float, routes: dict[str, str]) -> None:
        """Add the core router, and the delay line between it and the anchor, DELAY milliseconds one way.

        ROUTES: destination → next hop.
        """
        links = {f"core-{router}": int(router.removeprefix("r")) for router in self.routers}
        links[f"core-{self.anchor}"] = 9
        self.addHost(
            "core",
            cls=IpNode,
            address=at.core_side(9),
            addresses={interface: [f"{at.core_side(number)}/64"] for interface, number in links.items()},
            routes=routes,
            forwarding=True,
        )
        self.addSwitch("slow", cls=DelayLine, delay=delay, dpid="9b", inNamespace=True)
        self.link("slow", "slow-core", "core", f"core-{self.anchor}")
        self.link("slow", f"slow-{self.anchor}", self.anchor, f"{self.anchor}-core")

    def add_end_nodes(self) -> None:
        """Add all end nodes, the anchor, and the management network."""
        self.add_other_nodes()
        self.add_mobile_node()
        # In the root namespace, where the controller is.
        management = f"{at.MANAGEMENT_ROOT}/{at.MANAGEMENT_PREFIX_LENGTH}"
        self.addSwitch("mgmt", cls=LinkBridge, dpid="9a", listenPort=None, address=management)
        self.link("mgmt", f"mgmt-{self.anchor}", self.anchor, f"{self.anchor}-mgmt")

    def add_other_nodes(self) -> None:
        """Add correspondent node and stranger, a host on foreign link 1 that nobody has reason to trust."""
        self.addHost(
            "cn",
            cls=IpNode,
            address=at.CORRESPONDENT,
            addresses={"cn-eth0": [f"{at.CORRESPONDENT}/64"]},
            routes={"default": at.CORRESPONDENT_GATEWAY},
        )
        self.addHost(
            "stranger",
            cls=IpNode,
            address=at.STRANGER,
            addresses={"stranger-eth0": [f"{at.STRANGER}/64"]},
            routes={"default": at.foreign_gateway(1)},
        )

    def add_mobile_node(self) -> None:
        """Add home agent, mobile node and home link."""
        self.addHost(
            "ha",
            cls=IpNode,
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
            cls=IpNode,
            address=at.HOME_ADDRESS,
            addresses={"mn-home": [f"{at.HOME_ADDRESS}/64"]},
            routes={"default": at.HOME_AGENT},
            down=[f"mn-f{number}" for number in self.foreign_links] + [f"mn-a{number}" for number in self.agent_links],
        )
        self.addSwitch("home", cls=LinkBridge, dpid="99", listenPort=None, inNamespace=True)
        self.link("home", "home-ha", "ha", "ha-home")
        self.link("home", "home-mn", "mn", "mn-home")
