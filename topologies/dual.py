# SPDX-License-Identifier: Apache-2.0
"""Topology `dual`: the topology `roaming` with IPv4 besides, for dual-stack mobile nodes (RFC 5555).

    sudo mn --custom topologies/dual.py --topo dual [--controller remote]

See `roaming.py` for its links, and `addresses.ipv4` for its IPv4 addresses. The mobile node visits its foreign links
with IPv6 alone, and is reached there by its IPv4 home address.
"""

import sys
from pathlib import Path
from typing import Any

if "__file__" not in globals():  # `mn --custom` executes this text as it is, knowing nothing of packages
    sys.path.insert(0, str(Path(sys._getframe().f_code.co_filename).resolve().parents[1]))

from topologies.mip4 import in_ipv4
from topologies.roaming import RoamingTopo


class DualTopo(RoamingTopo):
    """Arrange correspondent node, home agent and mobile node around three routers and a core, with both families."""

    def addHost(self, name: str, **facts: Any) -> str:
        """Add a node whose addresses and routes are given in IPv6, with the same of IPv4."""
        added: str = super().addHost(name, **_in_both(facts))
        return added

    def addSwitch(self, name: str, **facts: Any) -> str:
        """Add a router or link whose addresses and routes are given in IPv6, with the same of IPv4."""
        added: str = super().addSwitch(name, **_in_both(facts))
        return added


def _in_both(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts of a node with its addresses and routes in both families."""
    found, ipv4 = dict(facts), in_ipv4(facts)
    if "addresses" in found:
        # The management network's are IPv4 already.
        both = {name: [*own, *ipv4["addresses"][name]] for name, own in found["addresses"].items()}
        found["addresses"] = {name: list(dict.fromkeys(each)) for name, each in both.items()}
    if "routes" in found:
        found["routes"] = found["routes"] | {
            "0.0.0.0/0" if to == "default" else to: hop for to, hop in ipv4["routes"].items()
        }
    return found


topos = {"dual": DualTopo}
