# SPDX-License-Identifier: Apache-2.0
"""The tunnel's own hop limit (RFC 2473 §6.3).

seg6 encapsulation copies the inner hop limit of IPv6 to the outer header: a packet sent with a short one would
die inside the tunnel, unseen by its sender, because Time Exceeded then goes to the outer source. nftables sets
it instead, around IPv4 too.
"""

from __future__ import annotations

from tunnel import nft
from tunnel.namespace import Namespace
from tunnel.rtnetlink import parse_address, prefix_text

FAMILY, TABLE = "ip6", "hoaflow_hop_limit"
HOP_LIMIT = 64

RULESET = """
table ip6 hoaflow_hop_limit {{ }}
delete table ip6 hoaflow_hop_limit
table ip6 hoaflow_hop_limit {{
    chain postrouting {{
        type filter hook postrouting priority mangle; policy accept;
        ip6 saddr {source} ip6 nexthdr {{ 4, 41 }} ip6 hoplimit set {hop_limit}
    }}
}}
"""


def set_hop_limit(namespace: Namespace, source: str, hop_limit: int = HOP_LIMIT) -> None:
    """Send tunnel packets with outer source `source` out with this hop limit. Idempotent. Raises
    NftError.
    """
    nft.load(namespace, RULESET.format(source=prefix_text(parse_address(source)), hop_limit=hop_limit))


def is_set(namespace: Namespace) -> bool:
    """Whether the namespace has the rule."""
    return (FAMILY, TABLE) in nft.tables(namespace)
