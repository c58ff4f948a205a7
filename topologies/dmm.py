# SPDX-License-Identifier: Apache-2.0
"""Topology `dmm`: distributed mobility (RFC 7333), three sites with a home agent each, and a central one to compare.

    sudo mn --custom topologies/dmm.py --topo dmm [--controller remote]

             ha1 ── link of site 1 ── r1 ─┐
             ha2 ── link of site 2 ── r2 ─┼── core ── slow ── ha ─── home link ── mn
             ha3 ── link of site 3 ── r3 ─┘      (and mn on the link of any site)

The link of each site is the home link of its home agent; the router has another network, with a correspondent node: r1
cn1, and so on. The mobile node has an interface on each site's link, of which one is up, and one on the central home
agent's home link. See `roaming.py` for how a router is made, and for `slow`.
"""

import sys
from pathlib import Path
from typing import ClassVar

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.base import Attachment, MobilityTopo, Segment
from topologies.nodes import IpNode
from topologies.ovs_router import USER


class DmmTopo(MobilityTopo):
    """Arrange three sites around a core, and the central home agent behind a delay line."""

    routers = ("r1", "r2", "r3")
    foreign_links: ClassVar[tuple[int, ...]] = (1, 2, 3)
    """Numbers of the sites: the links of all are foreign to the central home agent."""

    def build(self, datapath: str = USER, delay: float = 5.0) -> None:
        """Build the network; `delay` is the one between core and central home agent, one way, in milliseconds.

        datapath: that of the routers' Open vSwitch, as in `OvsRouter`.
        """
        super().build(datapath)
        routes = {at.site_prefix(site): at.router_side(site) for site in self.foreign_links}
        routes |= {at.site_network(site): at.router_side(site) for site in self.foreign_links}
        self.add_core_router(float(delay), routes | {at.HOME_PREFIX: at.router_side(9)})
        for site in self.foreign_links:
            attached = Attachment(f"ha{site}", f"ha{site}-home"), Attachment("mn", f"mn-f{site}")
            network = Segment("network", at.site_gateway(site), (Attachment(f"cn{site}", f"cn{site}-eth0"),))
            self.add_edge_router(site, at.site_address(site, at.SITE_ROUTER), *attached, more=[network])
            self.link("mgmt", f"mgmt-ha{site}", f"ha{site}", f"ha{site}-mgmt")

    def add_other_nodes(self) -> None:
        """Add home agent and correspondent node of each site."""
        for site in self.foreign_links:
            name, own = f"ha{site}", at.site_address(site, at.SITE_HOME_AGENT)
            management = f"{at.management_home_agent(site)}/{at.MANAGEMENT_PREFIX_LENGTH}"
            self.addHost(
                name,
                cls=IpNode,
                address=own,
                addresses={f"{name}-home": [f"{own}/64"], f"{name}-mgmt": [management]},
                routes={"default": at.site_address(site, at.SITE_ROUTER)},
                forwarding=True,
            )
            name, own = f"cn{site}", at.site_correspondent(site)
            self.addHost(
                name,
                cls=IpNode,
                address=own,
                addresses={f"{name}-eth0": [f"{own}/64"]},
                routes={"default": at.site_gateway(site)},
            )


topos = {"dmm": DmmTopo}
