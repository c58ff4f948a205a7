# SPDX-License-Identifier: Apache-2.0
"""Declare the kinds of bindings, and the rules in which they differ.

A binding's key is its protocol and its home address or prefix. An anchor is whoever takes the packets of a home prefix:
the home agent of Mobile IP, the Local Mobility Anchor (LMA) of Proxy Mobile IPv6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from hoaflow.sequence import SEQUENCE_SPACE, is_newer

# How long a report may be under way, in seconds: as long as a request's body may take (`request_timeout`).
UNDER_WAY = 30.0
# The identification of a Registration Request has 64 bits: mostly an NTP timestamp, which begins anew in 2036.
IDENTIFICATION_SPACE = 1 << 64
# How far behind the last sequence number that of a delayed report may lie: a mobile node sends at most three Binding
# Updates a second (RFC 6275 section 12, MAX_UPDATE_RATE).
MOST_BEHIND = round(UNDER_WAY * 3)


class Protocol(Enum):
    """A protocol by which an anchor learns where packets have to go."""

    MIPV6 = "mipv6"  # RFC 6275: the mobile node registers itself
    PMIPV6 = "pmipv6"  # RFC 5213: a Mobile Access Gateway (MAG) registers the mobile node
    MIPV4 = "mipv4"  # RFC 5944: the mobile node registers itself, often by a foreign agent

    __hash__ = object.__hash__  # each is one object; Enum's own, in Python, is a tenth of a refresh


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one protocol.

    ``ordered_by``: the number by which of two updates the newer is known. ``deregistered_by``: who may end a binding,
    anybody who may report it, or only the one at the care-of address that it has. ``ends_at_home``: so does an update
    whose care-of address is the home address. ``rank``: of two protocols' bindings of the same home address, the one of
    the higher rank takes the packets. ``forever``: the lifetime that does not end. ``both_ways``: mobile nodes always
    send by way of their anchors, too; else those that have registered it.
    """

    ordered_by: Literal["sequence", "timestamp", "identification"]
    deregistered_by: Literal["anybody", "care-of-address"]
    ends_at_home: bool
    rank: int
    forever: int | None = None
    both_ways: bool = True

    def is_newer(self, candidate: int, than: int) -> bool:
        """Tell whether an update's number is newer than another's."""
        if self.ordered_by == "identification":
            return is_newer(candidate, than, IDENTIFICATION_SPACE)
        return is_newer(candidate, than) if self.ordered_by == "sequence" else candidate > than

    def may_be_late(self, candidate: int, last: int, repeated: bool) -> bool:
        """Tell whether an update's number may be that of a delayed one, after the ``last``.

        ``repeated``: the last number itself counts, too.
        """
        if self.ordered_by != "sequence":
            return self.is_newer(last, candidate) or (repeated and candidate == last)
        return (not repeated) <= (last - candidate) % SEQUENCE_SPACE <= MOST_BEHIND


class Tunnel(Enum):
    """What an anchor and a gateway carry a binding's packets in."""

    IPV6 = "ipv6"  # IPv6 encapsulation (RFC 2473)
    IPV4 = "ipv4"  # IPv4 encapsulation (RFC 2003), also of Mobile IPv6 (RFC 5555) and Proxy Mobile IPv6 (RFC 5844)
    GRE = "gre"  # GRE (RFC 5944), with keys (RFC 5845)
    MINIMAL = "minimal"  # minimal encapsulation (RFC 2004)
    UDP = "udp"  # over IPv4 and UDP, through NAT (RFC 3519, RFC 5555, RFC 5844)


# Why bindings in these tunnels are left to their anchors. Their packets do not match the flows of others.
OTHER_TUNNELS: Mapping[Tunnel, str] = {
    Tunnel.IPV4: "its tunnel is over IPv4 (RFC 5555, RFC 5844), and its anchor is announced by an IPv6 address",
    Tunnel.GRE: "GRE carries its packets (RFC 5944; with keys RFC 5845), which routers do not",
    Tunnel.MINIMAL: "minimal encapsulation carries its packets (RFC 2004), which routers do not",
    Tunnel.UDP: "its tunnel is over UDP and IPv4, as behind a NAT (RFC 3519, RFC 5555, RFC 5844), which routers do not "
    "carry",
}
IN_OTHER_TUNNELS = frozenset(OTHER_TUNNELS.values())
# Why a mobile node is left to its home agent that wants a copy of each packet at several care-of addresses.
SIMULTANEOUS = "it has several care-of addresses at a time (RFC 5944, flag S), and routers send to one only"

RULES: Mapping[Protocol, Rules] = {
    # Sequence numbers compare modulo 2**16, and a mobile node ends its binding by lifetime 0 or from home (RFC 6275
    # section 9.5.1). It says itself that it is not at home, where a gateway may still have it registered (RFC 6612).
    Protocol.MIPV6: Rules(ordered_by="sequence", deregistered_by="anybody", ends_at_home=True, rank=3),
    # Sequence numbers belong to each MAG and begin anew at every handover, so the timestamps of Proxy Binding Updates
    # tell which is newer (RFC 5213 section 5.5). A former MAG may not end what its successor has registered (5.3.5).
    Protocol.PMIPV6: Rules(ordered_by="timestamp", deregistered_by="care-of-address", ends_at_home=False, rank=1),
    # The identification tells which registration is newer, where it is a timestamp (RFC 5944 section 5.7.1), and a
    # mobile node ends its binding by lifetime 0 or from home (3.6.1.2). It sends from where it is unless it has
    # registered a reverse tunnel (RFC 3024).
    Protocol.MIPV4: Rules(
        ordered_by="identification",
        deregistered_by="anybody",
        ends_at_home=True,
        rank=2,
        forever=0xFFFF,
        both_ways=False,
    ),
}

# What a protocol calls what others name otherwise: whole words, those that contain another first.
WORDS: Mapping[Protocol, Mapping[str, str]] = {
    Protocol.MIPV6: {},
    Protocol.PMIPV6: {
        "a home registration that home agent": "a Proxy Binding Update that LMA",
        "a deregistration or another binding update of the mobile node": "a deregistration, or a registration by a MAG",
        "a home agent": "an LMA",
        "home agent": "LMA",
        "a home address": "a home network prefix",
        "home addresses": "home network prefixes",
        "home address": "home network prefix",
        "care-of address": "Proxy-CoA",
    },
    Protocol.MIPV4: {
        "a home registration that home agent": "a registration that home agent",
        "another binding update of the mobile node": "another registration of the mobile node",
    },
}


def in_words_of(protocol: Protocol, text: str) -> str:
    """Return a sentence about a binding in the words of its protocol.

    >>> in_words_of(Protocol.PMIPV6, "no router is prepared for its home agent")
    'no router is prepared for its LMA'
    """
    for word, own in WORDS[protocol].items():
        text = text.replace(word, own)
    return text
