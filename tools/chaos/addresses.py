# SPDX-License-Identifier: Apache-2.0
"""Lay out addresses and flows of the chaos network (documentation prefixes of RFC 3849 and RFC 5737, RFC 1918)."""

from dataclasses import dataclass
from typing import NamedTuple

from topologies import addresses as at

LINKS = (1, 2, 3)  # foreign links; link N is router N + 1's
ROUTERS = ("r1", *(f"r{link + 1}" for link in LINKS))
BY_FLOWS = ("r1", "r3")  # routers that have the flow backend where the kernel allows it
FORGED = 0xFFFF  # flow of the packets that must not come out of any tunnel
CONTROLLERS = ("c1", "c2", "c3")
ROUTED = 7  # number of the mobile router
PROXIED = 8  # number of the mobile node of Proxy Mobile IPv6
IN_IPV4 = (9, 10)  # numbers of the mobile nodes of Mobile IPv4
CORRESPONDENT = "cn"
# What routers carry tunnels by: the route backend for home agents of IPv6, and of IPv4, and the flow backend.
SEG6, BPF, FLOW = "seg6", "bpf", "flow"
GATEWAY = "mag"  # names of mobile access gateways: this, and the number of their foreign link


@dataclass(frozen=True)
class HomeAgent:
    """Describe a home agent; `number` is that of its link to the core."""

    name: str
    number: int

    @property
    def prefix(self) -> str:
        """Return the home prefix."""
        return f"2001:db8:9{self.number:x}::/64"

    @property
    def address(self) -> str:
        """Return the home agent's address on its home link."""
        return f"2001:db8:9{self.number:x}::1"

    @property
    def management(self) -> str:
        """Return its address on the management network."""
        return f"192.0.2.{self.number}"


@dataclass(frozen=True)
class Ipv4HomeAgent(HomeAgent):
    """Describe a home agent of Mobile IPv4 (RFC 5944), whose home link has IPv4 addresses."""

    @property
    def prefix(self) -> str:
        """Return the home prefix."""
        return at.ipv4(super().prefix)

    @property
    def address(self) -> str:
        """Return the home agent's address on its home link."""
        return at.ipv4(super().address)


@dataclass(frozen=True)
class LocalMobilityAnchor(HomeAgent):
    """Describe a local mobility anchor (RFC 5213): it has no home link, and its prefix is for many mobile nodes."""

    @property
    def prefix(self) -> str:
        """Return the prefix of all home network prefixes."""
        return at.ANCHORED_PREFIX


@dataclass(frozen=True)
class MobileNode:
    """Describe a mobile node, numbered from 1, and the two foreign links that it visits."""

    number: int
    home_agent: HomeAgent

    @property
    def name(self) -> str:
        """Return the node's name."""
        return f"mn{self.number}"

    @property
    def home_address(self) -> str:
        """Return the home address."""
        return f"{self.home_agent.address[:-1]}{0x100 + self.number:x}"

    @property
    def host(self) -> str:
        """Return the name of the node that sends and receives its traffic."""
        return self.name

    @property
    def address(self) -> str:
        """Return the address of its traffic."""
        return self.home_address

    @property
    def binding(self) -> str:
        """Return what the binding of its traffic is called by."""
        return self.home_address

    @property
    def bindings(self) -> tuple[str, ...]:
        """Return what all its bindings are called by."""
        return (self.binding,)

    @property
    def correspondent(self) -> str:
        """Return the correspondent node's address in the family of its home address."""
        return at.CORRESPONDENT

    @property
    def links(self) -> tuple[int, int]:
        """Return the foreign links that it visits."""
        return LINKS[self.number % len(LINKS)], LINKS[(self.number + 1) % len(LINKS)]

    def care_of_address(self, link: int) -> str:
        """Return its address on a foreign link."""
        return f"2001:db8:{link + 1:x}::{0x100 + self.number:x}"

    def interface(self, link: int) -> str:
        """Return the name of its interface on a foreign link."""
        return f"{self.name}-f{link}"

    @property
    def home_interface(self) -> str:
        """Return the name of its interface on the home link."""
        return f"{self.name}-home"


@dataclass(frozen=True)
class MobileRouter(MobileNode):
    """Describe a mobile router (RFC 3963). Its traffic is that of a node in its mobile network."""

    @property
    def host(self) -> str:
        """Return the name of the node in the mobile network."""
        return f"net{self.number}"

    @property
    def address(self) -> str:
        """Return that node's address."""
        return at.MOBILE_NETWORK_NODE

    @property
    def binding(self) -> str:
        """Return the mobile network's prefix."""
        return at.MOBILE_NETWORK

    @property
    def bindings(self) -> tuple[str, ...]:
        """Return its home address, too."""
        return self.home_address, self.binding

    @property
    def network_interface(self) -> str:
        """Return the name of its interface to the mobile network."""
        return f"{self.name}-net"


@dataclass(frozen=True)
class ProxiedNode(MobileNode):
    """Describe a mobile node that knows nothing of mobility: gateways register it. It is never at home.

    Its care-of address is the gateway's on that link, who has it alone.
    """

    @property
    def home_address(self) -> str:
        """Return the address that it makes of its home network prefix."""
        return at.MOBILE_NODE_ADDRESS

    @property
    def binding(self) -> str:
        """Return its home network prefix."""
        return at.HOME_NETWORK_PREFIX

    def gateway(self, link: int) -> str:
        """Return the name of the mobile access gateway on a foreign link."""
        return f"{GATEWAY}{link}"


@dataclass(frozen=True)
class Ipv4MobileNode(MobileNode):
    """Describe a mobile node of Mobile IPv4 with co-located care-of addresses."""

    @property
    def home_address(self) -> str:
        """Return the home address."""
        return f"{self.home_agent.address[:-1]}{100 + self.number}"

    @property
    def correspondent(self) -> str:
        """Return the correspondent node's address in the family of its home address."""
        return at.ipv4(at.CORRESPONDENT)

    def care_of_address(self, link: int) -> str:
        """Return its address on a foreign link."""
        return f"{at.ipv4(at.foreign_gateway(link))[:-1]}{100 + self.number}"


class Flow(NamedTuple):
    """Describe one direction of the traffic between two nodes."""

    number: int
    source: str
    destination: str
    source_address: str
    destination_address: str


@dataclass(frozen=True)
class Plan:
    """Say how large the network is. `home_agents`: those of Mobile IPv6. `by_flows`: routers of the flow backend."""

    home_agents: tuple[HomeAgent, ...]
    mobile_nodes: tuple[MobileNode, ...]
    by_flows: tuple[str, ...] = ()
    routers: tuple[str, ...] = ROUTERS

    def routers_with(self, plane: str | None) -> tuple[str, ...]:
        """Return the routers that carry tunnels by a plane, or by any for None."""
        if plane is None:
            return self.routers
        if plane == FLOW:
            return self.by_flows
        if plane == BPF and not self.ipv4_home_agents:
            return ()
        return tuple(router for router in self.routers if router not in self.by_flows)

    @property
    def proxied(self) -> tuple[ProxiedNode, ...]:
        """Return the mobile nodes of Proxy Mobile IPv6."""
        return tuple(node for node in self.mobile_nodes if isinstance(node, ProxiedNode))

    @property
    def mobile_routers(self) -> tuple[MobileRouter, ...]:
        """Return the mobile routers."""
        return tuple(node for node in self.mobile_nodes if isinstance(node, MobileRouter))

    @property
    def anchors(self) -> tuple[HomeAgent, ...]:
        """Return home agents and local mobility anchors."""
        return tuple(dict.fromkeys([*self.home_agents, *(node.home_agent for node in self.mobile_nodes)]))

    @property
    def ipv4_home_agents(self) -> tuple[Ipv4HomeAgent, ...]:
        """Return the home agents of Mobile IPv4."""
        return tuple(each for each in self.anchors if isinstance(each, Ipv4HomeAgent))

    @property
    def local_mobility_anchors(self) -> tuple[LocalMobilityAnchor, ...]:
        """Return the local mobility anchors."""
        return tuple(each for each in self.anchors if isinstance(each, LocalMobilityAnchor))

    def prefixes(self, anchor: HomeAgent) -> list[str]:
        """Return the prefixes that are routed to an anchor: its own, and its mobile routers' networks."""
        return [anchor.prefix, *(node.binding for node in self.mobile_routers if node.home_agent == anchor)]

    def flows(self) -> list[Flow]:
        """Return all flows: each mobile node and the correspondent node, and each with a further mobile node."""
        nodes = self.mobile_nodes
        ends = [((CORRESPONDENT, node.correspondent), (node.name, node.address)) for node in nodes]
        ends += [
            ((one.name, one.address), (other.name, other.address))
            for one, other in zip(nodes[::2], nodes[1::2], strict=False)
        ]
        ways = [way for one, other in ends for way in ((one, other), (other, one))]
        return [
            Flow(number, source, destination, source_address, destination_address)
            for number, ((source, source_address), (destination, destination_address)) in enumerate(ways)
        ]

    def forgeries(self) -> list[tuple[str, str, str, str]]:
        """Return tunnels' pairs that are wrong: a mobile node's care-of address, another's home agent and address.

        Outer source, outer destination, inner source, inner destination.
        """
        families = [
            [node for node in self.mobile_nodes if isinstance(node, Ipv4MobileNode) is in_ipv4]
            for in_ipv4 in (False, True)
        ]
        return [
            (one.care_of_address(one.links[0]), other.home_agent.address, other.address, other.correspondent)
            for nodes in families
            if len(nodes) > 1
            for one, other in zip(nodes, [*nodes[1:], nodes[0]], strict=True)
        ]

    def mobile_node(self, name: str) -> MobileNode | None:
        """Return the mobile node of a name, None for another node's."""
        return next((node for node in self.mobile_nodes if node.name == name), None)


def plan(mobile_nodes: int = 10, flow: bool = False) -> Plan:
    """Return a network of so many mobile nodes, the first ones at two home agents of Mobile IPv6 by turns.

    The seventh is a mobile router, the eighth is proxied, the ninth and tenth have a home agent of Mobile IPv4.
    Neighbours in number, who talk to each other, have different anchors, but for the last two. `flow`: some routers
    have the flow backend, whose faults here are those of its IPv6 tunnels; then these two are left out.
    """
    home_agents = HomeAgent("ha1", 9), HomeAgent("ha2", 8)
    anchor, home_agent = LocalMobilityAnchor("lma", 7), Ipv4HomeAgent("ha3", 6)
    others: dict[int, MobileNode] = {
        ROUTED: MobileRouter(ROUTED, home_agents[ROUTED % 2]),
        PROXIED: ProxiedNode(PROXIED, anchor),
        **{number: Ipv4MobileNode(number, home_agent) for number in IN_IPV4},
    }
    numbers = [number for number in range(1, mobile_nodes + 1) if not (flow and number in IN_IPV4)]
    nodes = (others.get(number) or MobileNode(number, home_agents[number % 2]) for number in numbers)
    return Plan(home_agents, tuple(nodes), BY_FLOWS if flow else ())


def management_controller(number: int) -> str:
    """Return the address of controller NUMBER on the management network."""
    return f"192.0.2.{20 + number}"
