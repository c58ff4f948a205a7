# SPDX-License-Identifier: Apache-2.0
"""Exempt seg6 tunnels from connection tracking, which sees their packets at one place and not at the next.

The kernel encapsulates and decapsulates between netfilter's hooks: a packet that has been encapsulated comes to the
hook `forward` without ever having been looked up, and one out of a tunnel with the tunnel's own connection. A stateful
filter would call invalid what has been encapsulated, answers to what a mobile node began, and ICMPv6 errors about
tunnel packets. The usual rules (`ct state invalid drop`) would then drop all that goes to home addresses.

Nothing is accepted here. Filters see these packets as untracked, and have the last word.

A tunnel packet inside another one is dropped: past netfilter's hooks it would be decapsulated as well, and not checked
against spoofing.
"""

from ipaddress import IPv6Address

from hoaflow.mobility.hairpin import ENTRY, EXIT
from hoaflow.tunnel.nft_table import Table
from hoaflow.tunnel.spoofing_filter import IPV4_MARK, IPV6_MARK

FAMILY, TABLE = "ip6", "hoaflow_ha_untracked"
# -299: after the spoofing filter (raw, -300), which sets the mark, and before connection tracking (-200).
# @th,112,8 is the next header of the packet that the error is about. Other errors are not exempt, as filters accept
# them as related to a connection.
# @th,48,8 and @th,192,128 are next header and destination of what a tunnel packet carries. With an extension header
# before it, the kernel does not decapsulate it again.
# In `forward`, `notrack` does not change packets that belong to a known connection.
RULESET = f"""
table {FAMILY} {TABLE} {{{{
    chain prerouting {{{{
        type filter hook prerouting priority -299; policy accept;
        meta mark {IPV6_MARK} meta l4proto 41 @th,48,8 41 @th,192,128 {{address:#x}} counter drop
        meta mark {IPV6_MARK} meta l4proto 41 notrack
        meta mark {IPV4_MARK} meta l4proto 4 notrack
        icmpv6 type 1-4 @th,112,8 {{{{ 4, 41 }}}} notrack
    }}}}
    chain forward {{{{
        type filter hook forward priority raw; policy accept;
        oifname "{ENTRY}" notrack
        iifname "{EXIT}" meta l4proto {{{{ 4, 41 }}}} notrack
    }}}}
}}}}
"""


def table(address: str) -> Table:
    """Return the table that exempts the tunnels to one of the host's addresses."""
    ruleset = RULESET.format(address=int(IPv6Address(address)))
    return Table(FAMILY, TABLE, ruleset, "the exemption of tunnels from connection tracking")
