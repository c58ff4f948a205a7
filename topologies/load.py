# SPDX-License-Identifier: Apache-2.0
"""Count, in an anchor's namespace, the data packets that reach it from the core; signalling is not data.

The anchor is a home agent or local mobility anchor. Data is: packets for the home address (or home network prefix), and
packets in a tunnel to the anchor. Neither counts when a Mobility Header (next header 135) is what it carries.
"""

import json

from topologies import addresses as at
from topologies.testbed import Testbed

TABLE = "hoaflow_load"
IPV6, IPV4 = "ip6", "ip"
RULES = {
    IPV6: """
table ip6 {table} {{
 counter data {{ }}
 chain arriving {{
  type filter hook prerouting priority -450;
  iifname "{interface}" ip6 daddr {home} meta l4proto != 135 counter name data
  iifname "{interface}" ip6 daddr {anchor} ip6 nexthdr 41 @th,48,8 != 135 counter name data
 }}
}}
""",
    IPV4: """
table ip {table} {{
 counter data {{ }}
 chain arriving {{
  type filter hook prerouting priority -450;
  iifname "{interface}" ip daddr {home} counter name data
  iifname "{interface}" ip daddr {anchor} ip protocol 4 counter name data
 }}
}}
""",
}
"""By the anchor's family. Mobile IPv4's signalling is UDP to the anchor itself."""


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

        `home` is the home address or prefix, `interface` the one by which data reaches the anchor, by default that to
        the core. Raises ProcessError.
        """
        self._bed, self._node = bed, node or bed.topology.anchor
        self._family = IPV6 if ":" in anchor else IPV4
        interface = interface or f"{self._node}-core"
        rules = RULES[self._family].format(table=TABLE, interface=interface, home=home, anchor=anchor)
        bed.run("nft", "-f", "-", node=self._node, stdin=rules)

    def packets(self) -> int:
        """Return how many data packets reached the anchor since construction. Raises ProcessError."""
        command = ["nft", "--json", "list", "counter", self._family, TABLE, "data"]
        answer = json.loads(self._bed.run(*command, node=self._node))
        return next(int(item["counter"]["packets"]) for item in answer["nftables"] if "counter" in item)
