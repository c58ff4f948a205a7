# SPDX-License-Identifier: Apache-2.0
"""Build the network: four routers around a core, home agents, mobile nodes, three controllers; all with IPv4, too.

    cn ─────────── r1 ─┐         ┌─ ha1 ─── home link of ha1
    foreign link 1 r2 ─┤         │
    foreign link 2 r3 ─┼── core ─┴─ ha2 ─── home link of ha2
    foreign link 3 r4 ─┘
                        (and ha3 with its home link, if there are mobile nodes of Mobile IPv4,
                         and lma: a local mobility anchor, if there is one of Proxy Mobile IPv6)

Each mobile node has an interface on its home link and on two of the foreign links; a stranger is on link 1. The
mobile node of Proxy Mobile IPv6 has one to each of two gateways, which are on these links. A mobile router has one to
its mobile network, in which there is a node. The management network
joins routers, home agents, the anchor and the controllers, each of which shares a node with a member of etcd.
"""

from ipaddress import ip_network
from typing import Any

from tools.chaos.addresses import (
    CONTROLLERS,
    LINKS,
    ROUTERS,
    HomeAgent,
    LocalMobilityAnchor,
    MobileNode,
    MobileRouter,
    Plan,
    ProxiedNode,
    management_controller,
)
from topologies import addresses as at
from topologies.base import Attachment, MobilityTopo, Segment
from topologies.nodes import AutoconfiguredNode, IpNode, LinkBridge
from topologies.ovs_router import KERNEL, USER

DEFAULT = "0.0.0.0/0"  # of routes; `default` is IPv6's


class ChaosTopo(MobilityTopo):
    """Arrange the network of a plan."""

    routers = ROUTERS
    foreign_links = LINKS

    def __init__(self, plan: Plan) -> None:
        """Build the network."""
        self.plan = plan
        super().__init__()

    def datapath_of(self, router: str) -> str:
        """Return what the router's backend needs."""
        return KERNEL if router in self.plan.by_flows else USER

    def build(self, datapath: str = USER) -> None:
        """Add nodes and links; Mininet calls this."""
        plan = self.plan
        super().build(datapath)
        self.add_router_to_core(1, at.CORRESPONDENT_GATEWAY, [Attachment("cn", "cn-eth0")])
        for link in LINKS:
            attached = [self._attachment(node, link) for node in plan.mobile_nodes if link in node.links]
            attached += [Attachment("stranger", "stranger-eth0")] if link == 1 else []
            self.add_router_to_core(link + 1, at.foreign_gateway(link), attached)

    def add_router_to_core(self, number: int, gateway: str, attached: list[Attachment]) -> None:
        """Add router NUMBER between an access link, on which GATEWAY is its address, and the core."""
        access = Segment("access", gateway, tuple(attached))
        core = Segment("core", at.router_side(number), (Attachment("core", f"core-r{number}"),))
        self.add_router(number, [access, core], routes={"default": at.core_side(number)})

    def add_end_nodes(self) -> None:
        """Add all nodes but the routers."""
        management = f"{at.MANAGEMENT_ROOT}/{at.MANAGEMENT_PREFIX_LENGTH}"
        self.addSwitch("mgmt", cls=LinkBridge, dpid="9a", listenPort=None, address=management)
        for number, name in enumerate(CONTROLLERS, 1):
            self._add_host(name, {f"{name}-mgmt": f"{management_controller(number)}/24"})
            self.link("mgmt", f"mgmt-{name}", name, f"{name}-mgmt")
        self._add_host("cn", {"cn-eth0": f"{at.CORRESPONDENT}/64"}, {"default": at.CORRESPONDENT_GATEWAY})
        self._add_host("stranger", {"stranger-eth0": f"{at.STRANGER}/64"}, {"default": at.foreign_gateway(1)})
        self._add_core()
        for anchor in self.plan.anchors:
            self._add_anchor(anchor)
        for node in self.plan.mobile_nodes:
            if isinstance(node, ProxiedNode):
                self._add_proxied(node)
                continue
            self._add_mobile_node(node)

    def _add_core(self) -> None:
        numbers = {int(name[1:]): f"core-{name}" for name in ROUTERS}
        numbers |= {each.number: f"core-{each.name}" for each in self.plan.anchors}
        routes = {at.CORRESPONDENT_LINK: at.router_side(1)}
        routes |= {at.foreign_link(link): at.router_side(link + 1) for link in LINKS}
        for each in self.plan.anchors:
            for prefix in self.plan.prefixes(each):
                hop = at.router_side(each.number)
                routes[prefix] = hop if ":" in prefix else at.ipv4(hop)
        for node in self.plan.proxied:
            routes[f"{node.home_agent.address}/128"] = at.router_side(node.home_agent.number)
        addresses = {interface: f"{at.core_side(number)}/64" for number, interface in numbers.items()}
        self._add_host("core", addresses, routes, forwarding=True)

    def _add_anchor(self, anchor: HomeAgent) -> None:
        name = anchor.name
        addresses = {
            f"{name}-core": f"{at.router_side(anchor.number)}/64",
            f"{name}-mgmt": f"{anchor.management}/{at.MANAGEMENT_PREFIX_LENGTH}",
        }
        if not isinstance(anchor, LocalMobilityAnchor):
            addresses[f"{name}-home"] = _on_home_link(anchor, anchor.address)
        self._add_host(name, addresses, {"default": at.core_side(anchor.number)}, forwarding=True)
        if not isinstance(anchor, LocalMobilityAnchor):
            home_link, number = f"hl{anchor.number}", anchor.number
            self.addSwitch(home_link, cls=LinkBridge, dpid=f"a{number:x}", listenPort=None, inNamespace=True)
            self.link(home_link, f"hl-{name}", name, f"{name}-home")
        self.link("core", f"core-{name}", name, f"{name}-core")
        self.link("mgmt", f"mgmt-{name}", name, f"{name}-mgmt")

    def _add_mobile_node(self, node: MobileNode) -> None:
        addresses = {node.home_interface: _on_home_link(node.home_agent, node.home_address)}
        if isinstance(node, MobileRouter):
            addresses[node.network_interface] = f"{at.MOBILE_NETWORK_GATEWAY}/64"
        down = [node.interface(link) for link in node.links]
        self._add_host(node.name, addresses, {"default": node.home_agent.address}, down=down)
        self.link(f"hl{node.home_agent.number}", f"hl-{node.name}", node.name, node.home_interface)
        if isinstance(node, MobileRouter):
            self._add_host(
                node.host, {f"{node.host}-eth0": f"{node.address}/64"}, {"default": at.MOBILE_NETWORK_GATEWAY}
            )
            self.link(node.name, node.network_interface, node.host, f"{node.host}-eth0")

    def _attachment(self, node: MobileNode, link: int) -> Attachment:
        """Return what is attached to a foreign link for a mobile node: itself, or its gateway."""
        if isinstance(node, ProxiedNode):
            return Attachment(node.gateway(link), f"{node.gateway(link)}-up")
        return Attachment(node.name, node.interface(link))

    def _add_proxied(self, node: ProxiedNode) -> None:
        interfaces = [node.interface(link) for link in node.links]
        self.addHost(
            node.name, cls=AutoconfiguredNode, macs=dict.fromkeys(interfaces, at.MOBILE_NODE_MAC), down=interfaces
        )
        for link in node.links:
            gateway = node.gateway(link)
            address = {f"{gateway}-up": f"{node.care_of_address(link)}/64"}
            self._add_host(gateway, address, {"default": at.foreign_gateway(link)}, forwarding=True)
            self.link(gateway, f"{gateway}-mn", node.name, node.interface(link))

    def addHost(self, name: str, **facts: Any) -> str:
        """Add a node, whose addresses and routes given in IPv6 it has in IPv4, too."""
        added: str = super().addHost(name, **_with_ipv4(facts))
        return added

    def addSwitch(self, name: str, **facts: Any) -> str:
        """Add a router or link, whose addresses and routes given in IPv6 it has in IPv4, too."""
        added: str = super().addSwitch(name, **_with_ipv4(facts))
        return added

    def _add_host(
        self, name: str, addresses: dict[str, str], routes: dict[str, str] | None = None, **options: object
    ) -> None:
        self.addHost(
            name,
            cls=IpNode,
            addresses={interface: [address] for interface, address in addresses.items()},
            routes=routes or {},
            **options,
        )


def _on_home_link(home_agent: HomeAgent, address: str) -> str:
    """Return an address on a home agent's home link, with the prefix's length."""
    return f"{address}/{ip_network(home_agent.prefix).prefixlen}"


def _with_ipv4(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a node with the IPv4 addresses and routes that stand for those in IPv6."""
    found = dict(facts)
    if "addresses" in found:
        found["addresses"] = {
            name: list(dict.fromkeys([*wanted, *map(at.ipv4, wanted)])) for name, wanted in found["addresses"].items()
        }
    if "routes" in found:
        routes = found["routes"]
        further = {DEFAULT if to == "default" else at.ipv4(to): at.ipv4(hop) for to, hop in routes.items()}
        found["routes"] = routes | {to: hop for to, hop in further.items() if to not in routes and ":" not in to + hop}
    return found
