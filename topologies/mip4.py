# SPDX-License-Identifier: Apache-2.0
"""Topology `mip4`: the topology `roaming` with IPv4 addresses and two foreign agents, for Mobile IPv4.

    sudo mn --custom topologies/mip4.py --topo mip4 [--controller remote]

    foreign link 1 ─ fa1 ─ link of fa1, with mn and mn2
    foreign link 2 ─ fa2 ─ link of fa2, with mn

See `roaming.py` for its other links, and `addresses.ipv4` for its addresses. mn2, a second mobile node, is at home or
on the link of fa1.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.base import Attachment
from topologies.nodes import IpNode, LinkBridge
from topologies.roaming import RoamingTopo


class Mip4Topo(RoamingTopo):
    """Arrange correspondent node, home agent and mobile nodes around three routers and a core, all with IPv4."""

    agent_links: ClassVar[tuple[int, ...]] = (1, 2)

    def others_on_foreign_link(self, number: int) -> tuple[Attachment, ...]:
        """Return the foreign agent."""
        return (Attachment(f"fa{number}", f"fa{number}-core"),)

    def add_mobile_node(self) -> None:
        """Add home agent, mobile nodes, home link, and foreign agents with their links."""
        super().add_mobile_node()
        self.addHost(
            "mn2",
            cls=IpNode,
            address=at.OTHER_HOME_ADDRESS,
            addresses={"mn2-home": [f"{at.OTHER_HOME_ADDRESS}/64"]},
            routes={"default": at.HOME_AGENT},
            down=["mn2-a1"],
        )
        self.link("home", "home-mn2", "mn2", "mn2-home")
        for number, visitors in ((1, ("mn", "mn2")), (2, ("mn",))):
            self._add_foreign_agent(number, visitors)

    def _add_foreign_agent(self, number: int, visitors: Sequence[str]) -> None:
        agent, link = f"fa{number}", f"visited{number}"
        self.addHost(
            agent,
            cls=IpNode,
            address=at.foreign_agent(number),
            addresses={
                f"{agent}-core": [f"{at.foreign_agent(number)}/64"],
                f"{agent}-link": [f"{at.foreign_agent_side(number)}/64"],
            },
            routes={"default": at.foreign_gateway(number)},
            forwarding=True,
        )
        self.addSwitch(link, cls=LinkBridge, dpid=f"d{number}", listenPort=None, inNamespace=True)
        self.link(link, f"{link}-{agent}", agent, f"{agent}-link")
        for visitor in visitors:
            self.link(link, f"{link}-{visitor}", visitor, f"{visitor}-a{number}")

    def addHost(self, name: str, **facts: Any) -> str:
        """Add a node whose addresses and routes are given in IPv6."""
        added: str = super().addHost(name, **in_ipv4(facts))
        return added

    def addSwitch(self, name: str, **facts: Any) -> str:
        """Add a router or link whose addresses and routes are given in IPv6."""
        added: str = super().addSwitch(name, **in_ipv4(facts))
        return added


def in_ipv4(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a node with its addresses and routes in IPv4."""
    found = dict(facts)
    if "address" in found:
        found["address"] = at.ipv4(found["address"])
    if "addresses" in found:
        found["addresses"] = {name: list(map(at.ipv4, wanted)) for name, wanted in found["addresses"].items()}
    if "routes" in found:
        found["routes"] = {at.ipv4(to): at.ipv4(hop) for to, hop in found["routes"].items()}
    return found


topos = {"mip4": Mip4Topo}
