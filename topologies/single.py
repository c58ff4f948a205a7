# SPDX-License-Identifier: Apache-2.0
"""Topology `single`: one router with all nodes around it, the smallest network in which a mobile node can be away.

    sudo mn --custom topologies/single.py --topo single [--controller remote]

    cn ──────────┐
                 r1 ── ha ── home link ──┐
    foreign link ┘                       mn (and mn, and a stranger, on the foreign link)

See `roaming.py` for how a router is made.
"""

import sys
from pathlib import Path

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.base import Attachment, MobilityTopo, Segment
from topologies.ovs_router import USER


class SingleTopo(MobilityTopo):
    """Arrange correspondent node, home agent and mobile node around one router."""

    routers = ("r1",)
    foreign_links = (1,)

    def build(self, datapath: str = USER) -> None:
        """Build the network; `datapath` is that of the router's Open vSwitch, as in `OvsRouter`."""
        super().build(datapath)
        visitors = (Attachment("mn", "mn-f1"), Attachment("stranger", "stranger-eth0"))
        segments = [
            Segment("cn", at.CORRESPONDENT_GATEWAY, (Attachment("cn", "cn-eth0"),)),
            Segment("foreign", at.foreign_gateway(1), visitors),
            Segment("core", at.core_side(9), (Attachment("ha", "ha-core"),)),
        ]
        self.add_router(1, segments, routes={at.HOME_PREFIX: at.router_side(9)})


topos = {"single": SingleTopo}
