# SPDX-License-Identifier: Apache-2.0
"""Topology `roaming`: a mobile node, its home link and two foreign links, the home agent behind a slow core.

    sudo mn --custom topologies/roaming.py --topo roaming [--controller remote]

    cn ───────────── r1 ─┐
                         ├── core ── slow ── ha ─── home link ───┐
    foreign link 1 ─ r2 ─┤                                      mn
    foreign link 2 ─ r3 ─┘          (and mn on either foreign link, a stranger on link 1)

A router rN is a Linux kernel and an Open vSwitch, in a namespace, with the bridge br0, which all its packets pass (see
`ovs_router`); `--topo roaming,datapath=kernel` gives it the kernel's datapath. `slow` is a delay line: with
`--topo roaming,delay=20`, of 20 ms one way. The mobile node has an interface on each link, one of them up.
"""

import sys
from pathlib import Path
from typing import ClassVar

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.base import Attachment, MobilityTopo
from topologies.ovs_router import USER


class RoamingTopo(MobilityTopo):
    """Arrange correspondent node, home agent and mobile node around three routers and a core."""

    routers = ("r1", "r2", "r3")
    foreign_links: ClassVar[tuple[int, ...]] = (1, 2)

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        """Build the network; `delay` is the one between core and home agent, one way, in milliseconds.

        datapath: that of the routers' Open vSwitch, as in `OvsRouter`.
        """
        super().build(datapath)
        self.add_core(float(delay), at.HOME_PREFIX)
        self.add_edge_router(1, at.CORRESPONDENT_GATEWAY, Attachment("cn", "cn-eth0"))
        self.add_edge_router(
            2,
            at.foreign_gateway(1),
            Attachment("mn", "mn-f1"),
            Attachment("stranger", "stranger-eth0"),
            *self.others_on_foreign_link(1),
        )
        self.add_edge_router(3, at.foreign_gateway(2), Attachment("mn", "mn-f2"), *self.others_on_foreign_link(2))

    def others_on_foreign_link(self, _number: int) -> tuple[Attachment, ...]:
        """Return further nodes on foreign link NUMBER, which are there already."""
        return ()

    def add_core(self, delay: float, *anchored: str) -> None:
        """Add the core router, and the delay line between it and the anchor, DELAY milliseconds one way.

        ANCHORED prefixes are routed to the anchor.
        """
        routes = {
            at.CORRESPONDENT_LINK: at.router_side(1),
            at.foreign_link(1): at.router_side(2),
            at.foreign_link(2): at.router_side(3),
        }
        self.add_core_router(delay, routes | dict.fromkeys(anchored, at.router_side(9)))


topos = {"roaming": RoamingTopo}
