# SPDX-License-Identifier: Apache-2.0
"""Topology `nemo`: the roaming one, whose mobile node is a mobile router with a network behind it (RFC 3963).

    sudo mn --custom topologies/nemo.py --topo nemo [--controller remote]

    mn ── mobile network ──┬── node
                           └── visitor ── home link

The visitor is a mobile node of the same home link that can be attached to the mobile network, as to a foreign link. See
`roaming.py` for the rest.
"""

import sys
from pathlib import Path

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.nodes import Ipv6Node, LinkBridge
from topologies.ovs_router import USER
from topologies.roaming import RoamingTopo


class NemoTopo(RoamingTopo):
    """Add a mobile network with a node and a visitor to the roaming topology."""

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        """Build the network, as in `RoamingTopo`."""
        super().build(datapath, delay)

    def add_core(self, delay: float, *anchored: str) -> None:
        """Route the mobile network to the home agent, too."""
        super().add_core(delay, *anchored, at.MOBILE_NETWORK)

    def add_mobile_node(self) -> None:
        """Add the mobile network as well."""
        super().add_mobile_node()
        self.nodeInfo("mn")["addresses"]["mn-net"] = [f"{at.MOBILE_NETWORK_GATEWAY}/64"]
        self.addHost(
            "node",
            cls=Ipv6Node,
            address=at.MOBILE_NETWORK_NODE,
            addresses={"node-eth0": [f"{at.MOBILE_NETWORK_NODE}/64"]},
            routes={"default": at.MOBILE_NETWORK_GATEWAY},
        )
        self.addHost(
            "visitor",
            cls=Ipv6Node,
            address=at.VISITOR,
            addresses={"visitor-home": [f"{at.VISITOR}/64"]},
            routes={"default": at.HOME_AGENT},
            down=["visitor-net"],
        )
        self.addSwitch("net", cls=LinkBridge, dpid="9c", listenPort=None, inNamespace=True)
        self.link("net", "net-mn", "mn", "mn-net")
        self.link("net", "net-node", "node", "node-eth0")
        self.link("net", "net-visitor", "visitor", "visitor-net")
        self.link("home", "home-visitor", "visitor", "visitor-home")


topos = {"nemo": NemoTopo}
