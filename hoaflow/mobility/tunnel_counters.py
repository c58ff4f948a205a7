# SPDX-License-Identifier: Apache-2.0
"""Count packets and bytes in tunnels, in both directions, with either data plane.

Uplink is what mobile nodes send in tunnels and the spoofing filter accepts; downlink is what tunnels carry to them.
"""

from hoaflow.tunnel.nfnetlink import Count, NftSocket
from hoaflow.tunnel.nft_table import Table

TABLE = "hoaflow_ha_load"
UPLINK, DOWNLINK = "uplink", "downlink"
# -290: after the spoofing filter, which drops what it does not accept at priority raw (-300).
RULESET = """
table {family} hoaflow_ha_load {{
    counter uplink {{ }}
    counter downlink {{ }}
    chain uplink {{
        type filter hook prerouting priority -290; policy accept;
        {family} daddr {home_agent} meta l4proto {{ 4, 41 }} counter name uplink
    }}
    chain downlink {{
        type filter hook postrouting priority 300; policy accept;
        {family} saddr {home_agent} meta l4proto {{ 4, 41 }} counter name downlink
    }}
}}
"""


class TunnelCounters:
    """The counters in the current network namespace."""

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent
        self._family = "ip6" if ":" in home_agent else "ip"

    @property
    def table(self) -> Table:
        """The table. Its counters start at zero when it is loaded."""
        ruleset = RULESET.format(family=self._family, home_agent=self._home_agent)
        return Table(self._family, TABLE, ruleset, "the counter of the tunnels' load")

    def carried(self) -> dict[str, Count]:
        """Return packets, and bytes including tunnel headers, by direction. Raises NftError."""
        with NftSocket() as opened:
            return opened.counters(self._family, TABLE)
