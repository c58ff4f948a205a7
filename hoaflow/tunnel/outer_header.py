# SPDX-License-Identifier: Apache-2.0
"""Correct the outer header's hop limit and traffic class (RFC 2473 §6.3, §6.4) after seg6 encapsulation.

seg6 copies the inner hop limit of IPv6. A packet with a low one would end inside the tunnel without its sender knowing,
as Time Exceeded goes to the outer source. Around IPv4, seg6 sets the traffic class to 0, and the packet would lose its
priority and ECN capability (RFC 6040). So nftables sets the tunnel's own hop limit, and IPv4's type of service.
"""

from hoaflow.addresses import canonical_ipv6_address
from hoaflow.tunnel import nft
from hoaflow.tunnel.namespace import Namespace
from hoaflow.tunnel.nft_table import Table

FAMILY, TABLE = "ip6", "hoaflow_outer_header"
HOP_LIMIT = 64

# The first two octets of an IPv6 header hold version, traffic class and four bits of the flow label, which seg6 leaves
# 0 around IPv4. The map gives them by the inner type of service; 0 needs no change.
FIRST_OCTETS = ", ".join(f"{service} : {0x6000 | service << 4}" for service in range(1, 256))
RULESET = """
table ip6 hoaflow_outer_header {{ }}
delete table ip6 hoaflow_outer_header
table ip6 hoaflow_outer_header {{
    map first_octets {{
        typeof @th,8,8 : @nh,0,16
        elements = {{ {first_octets} }}
    }}
    chain postrouting {{
        type filter hook postrouting priority mangle; policy accept;
        ip6 saddr {source} ip6 nexthdr {{ 4, 41 }} ip6 hoplimit set {hop_limit}
        ip6 saddr {source} ip6 nexthdr 4 @nh,0,16 set @th,8,8 map @first_octets
    }}
}}
"""


def set_outer_header(namespace: Namespace, source: str, hop_limit: int = HOP_LIMIT) -> None:
    """Give tunnel packets from `source` this hop limit and their payload's traffic class.

    Idempotent. Raises NftError.
    """
    nft.load(namespace, ruleset(source, hop_limit))


def ruleset(source: str, hop_limit: int = HOP_LIMIT) -> str:
    """Return the table and its rules in nft's language. Raises ValueError for a bad address."""
    source = canonical_ipv6_address(source)
    return RULESET.format(source=source, hop_limit=hop_limit, first_octets=FIRST_OCTETS)


def table(source: str) -> Table:
    """Return the table for a declaration. Raises ValueError for a bad address."""
    return Table(FAMILY, TABLE, ruleset(source), "the outer header's filter")


def clear(namespace: Namespace) -> None:
    """Remove the rules, if they are there. Raises NftError."""
    nft.load(namespace, f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n")


def is_set(namespace: Namespace) -> bool:
    """Tell whether the namespace has the rules."""
    return (FAMILY, TABLE) in nft.tables(namespace)
