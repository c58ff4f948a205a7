# SPDX-License-Identifier: Apache-2.0
"""What the home agent carries: packets and bytes in tunnels, both ways, whichever way the kernel tunnels.

Uplink: what mobile nodes send in tunnels, once it has passed the pair filter. Downlink: what leaves in tunnels to them.
"""

from __future__ import annotations

from hoaflow.tunnel.nfnetlink import Count, NftSocket
from hoaflow.tunnel.nft_table import Table

FAMILY, TABLE = "ip6", "hoaflow_ha_load"
UPLINK, DOWNLINK = "uplink", "downlink"
# -290: behind the pair filter, which drops what it does not accept at priority raw (-300).
RULESET = """
table ip6 hoaflow_ha_load {{
    counter uplink {{ }}
    counter downlink {{ }}
    chain uplink {{
        type filter hook prerouting priority -290; policy accept;
        ip6 daddr {home_agent} meta l4proto {{ 4, 41 }} counter name uplink
    }}
    chain downlink {{
        type filter hook postrouting priority 300; policy accept;
        ip6 saddr {home_agent} meta l4proto {{ 4, 41 }} counter name downlink
    }}
}}
"""


class Load:
    """The counters, in the current network namespace."""

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent

    @property
    def table(self) -> Table:
        """The table; it counts from when it is loaded, from zero."""
        ruleset = RULESET.format(home_agent=self._home_agent)
        return Table(FAMILY, TABLE, ruleset, "the counter of the tunnels' load")

    def carried(self) -> dict[str, Count]:
        """Packets, and bytes with the tunnel's header, since the table was loaded, by direction. Raises NftError."""
        with NftSocket() as opened:
            return opened.counters(FAMILY, TABLE)
