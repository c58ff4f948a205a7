# SPDX-License-Identifier: Apache-2.0
"""Lay out addresses and flows of the chaos network (documentation prefixes of RFC 3849 and RFC 5737)."""

from dataclasses import dataclass
from typing import NamedTuple

from topologies import addresses as at

LINKS = (1, 2, 3)  # foreign links; link N is router N + 1's
ROUTERS = ("r1", *(f"r{link + 1}" for link in LINKS))
FORGED = 0xFFFF  # flow of the packets that must not come out of any tunnel
CONTROLLERS = ("c1", "c2", "c3")
PROXIED = 8  # number of the mobile node of Proxy Mobile IPv6
CORRESPONDENT = "cn"
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
    def binding(self) -> str:
        """Return what its binding is called by."""
        return self.home_address

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


class Flow(NamedTuple):
    """Describe one direction of the traffic between two nodes."""

    number: int
    source: str
    destination: str
    source_address: str
    destination_address: str


@dataclass(frozen=True)
class Plan:
    """Say how large the network is."""

    home_agents: tuple[HomeAgent, ...]
    mobile_nodes: tuple[MobileNode, ...]
    routers: tuple[str, ...] = ROUTERS

    @property
    def proxied(self) -> tuple[ProxiedNode, ...]:
        """Return the mobile nodes of Proxy Mobile IPv6."""
        return tuple(node for node in self.mobile_nodes if isinstance(node, ProxiedNode))

    @property
    def anchors(self) -> tuple[HomeAgent, ...]:
        """Return home agents and local mobility anchors."""
        return (*self.home_agents, *dict.fromkeys(node.home_agent for node in self.proxied))

    def flows(self) -> list[Flow]:
        """Return all flows: each mobile node and the correspondent node, and each with a further mobile node."""
        ends = [(CORRESPONDENT, node.name) for node in self.mobile_nodes]
        ends += [
            (one.name, other.name) for one, other in zip(self.mobile_nodes[::2], self.mobile_nodes[1::2], strict=False)
        ]
        addresses = {CORRESPONDENT: at.CORRESPONDENT} | {node.name: node.home_address for node in self.mobile_nodes}
        ways = [way for one, other in ends for way in ((one, other), (other, one))]
        return [
            Flow(number, source, destination, addresses[source], addresses[destination])
            for number, (source, destination) in enumerate(ways)
        ]

    def mobile_node(self, name: str) -> MobileNode | None:
        """Return the mobile node of a name, None for another node's."""
        return next((node for node in self.mobile_nodes if node.name == name), None)


def plan(mobile_nodes: int = 8) -> Plan:
    """Return a network of so many mobile nodes, half of them at each of two home agents; the eighth is proxied.

    Neighbours in number, who talk to each other, have different home agents.
    """
    home_agents = HomeAgent("ha1", 9), HomeAgent("ha2", 8)
    nodes = [MobileNode(each, home_agents[each % 2]) for each in range(1, mobile_nodes + 1)]
    if mobile_nodes >= PROXIED:
        nodes[PROXIED - 1] = ProxiedNode(PROXIED, LocalMobilityAnchor("lma", 7))
    return Plan(home_agents, tuple(nodes))


def management_controller(number: int) -> str:
    """Return the address of controller NUMBER on the management network."""
    return f"192.0.2.{20 + number}"
