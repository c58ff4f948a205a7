# SPDX-License-Identifier: Apache-2.0
"""Count, in the home agent's namespace, the data packets that reach it from the core; signalling is not data.

Data is: packets for the home address, and packets in a tunnel to the home agent. Neither counts when a Mobility
Header (next header 135) is what it carries.
"""

import json

from topologies import addresses as at
from topologies.testbed import Testbed

TABLE = "hoaflow_load"
RULES = f"""
table ip6 {TABLE} {{
 counter data {{ }}
 chain arriving {{
  type filter hook prerouting priority -450;
  iifname "ha-core" ip6 daddr {at.HOME_ADDRESS} meta l4proto != 135 counter name data
  iifname "ha-core" ip6 daddr {at.HOME_AGENT} ip6 nexthdr 41 @th,48,8 != 135 counter name data
 }}
}}
"""


class HomeAgentLoad:
    """Count data packets by an nftables counter, from construction until the namespace is gone."""

    def __init__(self, bed: Testbed) -> None:
        """Load the counter's rules into the home agent's kernel. Raises ProcessError."""
        self._bed = bed
        bed.run("nft", "-f", "-", node="ha", stdin=RULES)

    def packets(self) -> int:
        """Return how many data packets reached the home agent since construction. Raises ProcessError."""
        answer = json.loads(self._bed.run("nft", "--json", "list", "counter", "ip6", TABLE, "data", node="ha"))
        return next(int(item["counter"]["packets"]) for item in answer["nftables"] if "counter" in item)
