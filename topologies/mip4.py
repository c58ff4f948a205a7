# SPDX-License-Identifier: Apache-2.0
"""Topology `mip4`: the topology `roaming` with IPv4 addresses, for Mobile IPv4.

    sudo mn --custom topologies/mip4.py --topo mip4 [--controller remote]

See `roaming.py` for its links, and `addresses.ipv4` for its addresses.
"""

import sys
from pathlib import Path
from typing import Any

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies import addresses as at
from topologies.roaming import RoamingTopo


class Mip4Topo(RoamingTopo):
    """Arrange correspondent node, home agent and mobile node around three routers and a core, all with IPv4."""

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
