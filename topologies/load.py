# SPDX-License-Identifier: Apache-2.0
"""Count, in an anchor's namespace, the data packets that reach it from the core; signalling is not data.

The anchor is a home agent or local mobility anchor. Data is: packets for the home address (or home network prefix), and
packets in a tunnel to the anchor. Neither counts when a Mobility Header (next header 135) is what it carries. Nor does
neighbour discovery: the anchor answers it for the home address, and a router may ask again once traffic goes direct.
"""

import json

from topologies import addresses as at
from topologies.testbed import Testbed

TABLE = "hoaflow_load"
RULES = """
table inet {table} {{
 counter data {{ }}
 chain arriving {{
  type filter hook prerouting priority -450;
  icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
  iifname "{interface}" {to_home} counter name data
  iifname "{interface}" {tunnelled} counter name data
 }}
}}
"""
TO_HOME = {True: "ip6 daddr {home} meta l4proto != 135", False: "ip daddr {home}"}
"""By whether the home address is IPv6."""
TUNNELLED = {
    (True, True): "ip6 daddr {anchor} ip6 nexthdr 41 @th,48,8 != 135",
    (True, False): "ip6 daddr {anchor} ip6 nexthdr 4",
    (False, False): "ip daddr {anchor} ip protocol 4",
}
"""By whether anchor and home address are IPv6. Mobile IPv4's signalling is UDP to the anchor itself."""


class AnchorLoad:
    """Count data packets by an nftables counter, from construction until the namespace is gone."""

    def __init__(
        self,
        bed: Testbed,
        anchor: str = at.HOME_AGENT,
        home: str = at.HOME_ADDRESS,
        node: str | None = None,
        interface: str | None = None,
    ) -> None:
        """Load the counter's rules into the kernel of the anchor with the address `anchor`, by default the topology's.

        `home` is the home address or prefix, or several of a family as nft writes a set, `interface` the one by which
        data reaches the anchor, by default that to the core. Raises ProcessError.
        """
        self._bed, self._node = bed, node or bed.topology.anchor
        families = ":" in anchor, ":" in home
        rules = RULES.format(
            table=TABLE,
            interface=interface or f"{self._node}-core",
            to_home=TO_HOME[families[1]].format(home=home),
            tunnelled=TUNNELLED[families].format(anchor=anchor),
        )
        bed.run("nft", "-f", "-", node=self._node, stdin=rules)

    def packets(self) -> int:
        """Return how many data packets reached the anchor since construction. Raises ProcessError."""
        command = ["nft", "--json", "list", "counter", "inet", TABLE, "data"]
        answer = json.loads(self._bed.run(*command, node=self._node))
        return next(int(item["counter"]["packets"]) for item in answer["nftables"] if "counter" in item)
