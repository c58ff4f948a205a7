# SPDX-License-Identifier: Apache-2.0
"""Topology `nemo`: the roaming one, whose mobile node is a mobile router with a network behind it (RFC 3963).

    sudo mn --custom topologies/nemo.py --topo nemo [--controller remote]

    mn ── mobile network ── node

See `roaming.py` for the rest.
"""

import sys
from pathlib import Path

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.nodes import IpNode
from topologies.roaming import RoamingTopo


class NemoTopo(RoamingTopo):
    """Add a mobile network with a node to the roaming topology."""

    def add_core(self, delay: float, *anchored: str) -> None:
        """Route the mobile network to the home agent, too."""
        super().add_core(delay, *anchored, at.MOBILE_NETWORK)

    def add_mobile_node(self) -> None:
        """Add the mobile network as well."""
        super().add_mobile_node()
        self.nodeInfo("mn")["addresses"]["mn-net"] = [f"{at.MOBILE_NETWORK_GATEWAY}/64"]
        self.addHost(
            "node",
            cls=IpNode,
            address=at.MOBILE_NETWORK_NODE,
            addresses={"node-eth0": [f"{at.MOBILE_NETWORK_NODE}/64"]},
            routes={"default": at.MOBILE_NETWORK_GATEWAY},
        )
        self.link("mn", "mn-net", "node", "node-eth0")


topos = {"nemo": NemoTopo}
