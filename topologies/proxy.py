# SPDX-License-Identifier: Apache-2.0
"""Topology `proxy`: Proxy Mobile IPv6, a local mobility anchor behind a slow core and two mobile access gateways.

    sudo mn --custom topologies/proxy.py --topo proxy [--controller remote]

    cn ───────────── r1 ─┐
                         ├── core ── slow ── lma
    mn ───── mag1 ── r2 ─┤
    (or) ─── mag2 ── r3 ─┘          (a stranger on the link between mag1 and r2)

The mobile node has an interface to each gateway, of the same MAC address, one of them up; it takes its address from
Router Advertisements. See `roaming.py` for how a router is made.
"""

import sys
from pathlib import Path

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.base import Attachment
from topologies.nodes import AutoconfiguredNode, IpNode
from topologies.ovs_router import USER
from topologies.roaming import RoamingTopo


class ProxyTopo(RoamingTopo):
    """Arrange correspondent node, anchor and two gateways with a mobile node around three routers and a core."""

    anchor = "lma"

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        """Build the network; `delay` is the one between core and anchor, one way, in milliseconds.

        datapath: that of the routers' Open vSwitch, as in `OvsRouter`.
        """
        self.datapath = datapath
        self.add_end_nodes()
        self.add_core(float(delay), at.ANCHORED_PREFIX, f"{at.ANCHOR}/128")
        self.add_edge_router(1, at.CORRESPONDENT_GATEWAY, Attachment("cn", "cn-eth0"))
        self.add_edge_router(
            2, at.foreign_gateway(1), Attachment("mag1", "mag1-up"), Attachment("stranger", "stranger-eth0")
        )
        self.add_edge_router(3, at.foreign_gateway(2), Attachment("mag2", "mag2-up"))

    def add_mobile_node(self) -> None:
        """Add anchor, gateways and mobile node. A gateway's address, the Proxy-CoA, is its care-of address there."""
        self.addHost(
            "lma",
            cls=IpNode,
            address=at.router_side(9),
            addresses={
                "lma-core": [f"{at.router_side(9)}/64"],
                "lma-mgmt": [f"{at.MANAGEMENT_HOME_AGENT}/{at.MANAGEMENT_PREFIX_LENGTH}"],
            },
            routes={"default": at.core_side(9)},
            forwarding=True,
        )
        interfaces = [f"mn-f{number}" for number in self.foreign_links]
        self.addHost(
            "mn",
            cls=AutoconfiguredNode,
            macs=dict.fromkeys(interfaces, at.MOBILE_NODE_MAC),
            down=interfaces,
        )
        for number in self.foreign_links:
            gateway = f"mag{number}"
            self.addHost(
                gateway,
                cls=IpNode,
                address=at.care_of_address(number),
                addresses={f"{gateway}-up": [f"{at.care_of_address(number)}/64"]},
                routes={"default": at.foreign_gateway(number)},
                forwarding=True,
            )
            self.link(gateway, f"{gateway}-mn", "mn", f"mn-f{number}")


topos = {"proxy": ProxyTopo}
