# SPDX-License-Identifier: Apache-2.0
"""Count, in an anchor's namespace, the data packets that reach it from the core; signalling is not data.

The anchor is a home agent or local mobility anchor. Data is: packets for the home address (or home network prefix), and
packets in a tunnel to the anchor. Neither counts when a Mobility Header (next header 135) is what it carries.
"""

import json

from topologies import addresses as at
from topologies.testbed import Testbed

TABLE = "hoaflow_load"
RULES = """
table ip6 {table} {{
 counter data {{ }}
 chain arriving {{
  type filter hook prerouting priority -450;
  iifname "{interface}" ip6 daddr {home} meta l4proto != 135 counter name data
  iifname "{interface}" ip6 daddr {anchor} ip6 nexthdr 41 @th,48,8 != 135 counter name data
 }}
}}
"""


class AnchorLoad:
    """Count data packets by an nftables counter, from construction until the namespace is gone."""

    def __init__(self, bed: Testbed, anchor: str = at.HOME_AGENT, home: str = at.HOME_ADDRESS) -> None:
        """Load the counter's rules into the kernel of the topology's anchor, which has the address `anchor`.

        `home` is the home address or prefix. Raises ProcessError.
        """
        self._bed, self._node = bed, bed.topology.anchor
        rules = RULES.format(table=TABLE, interface=f"{self._node}-core", home=home, anchor=anchor)
        bed.run("nft", "-f", "-", node=self._node, stdin=rules)

    def packets(self) -> int:
        """Return how many data packets reached the anchor since construction. Raises ProcessError."""
        answer = json.loads(self._bed.run("nft", "--json", "list", "counter", "ip6", TABLE, "data", node=self._node))
        return next(int(item["counter"]["packets"]) for item in answer["nftables"] if "counter" in item)
