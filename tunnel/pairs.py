# SPDX-License-Identifier: Apache-2.0
"""The check against spoofing on a tunnel's way back: only known pairs of outer and inner source are accepted.

A mobile node's tunnel packet carries its care-of address as outer and its home address as inner source (RFC
6275 §11.3.1, §10.4.5). nftables compares the pair with the bindings before the kernel decapsulates; all
else is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from hoaflow.addresses import Prefix, canonical_address, parse_prefix
from tunnel import nft
from tunnel.namespace import Namespace

FAMILY, TABLE = "ip6", "hoaflow"


class Payload(NamedTuple):
    """What a tunnel packet carries (RFC 2473 §5.1): its next header, its address length in bits, and where its source
    address stands, in bits from its beginning.
    """

    next_header: int
    bits: int
    source: int

    @property
    def pairs(self) -> str:
        """The set of pairs whose inner source is one address."""
        return f"pairs_{self.next_header}"

    @property
    def prefix_pairs(self) -> str:
        """The set of pairs whose inner source is a prefix (a mobile network prefix).

        A set of its own: an interval set finds by ranges but grows slowly.
        """
        return f"prefix_pairs_{self.next_header}"

    @property
    def left(self) -> str:
        """The chain that lets pass what is the home agent's, whoever sent it."""
        return f"left_{self.next_header}"

    @property
    def check(self) -> str:
        """The chain that compares."""
        return f"check_{self.next_header}"


IPV6, IPV4 = Payload(41, 128, 64), Payload(4, 32, 96)
PAYLOADS = (IPV6, IPV4)
SETS = {name: payload for payload in PAYLOADS for name in (payload.pairs, payload.prefix_pairs)}

# Of what a tunnel packet carries: an IPv6 header whose next header is the Mobility Header's (135) or whose destination
# is multicast or link-local, an IPv4 header with a multicast, link-local or broadcast destination.
LEFT = {
    IPV6: ("@th,48,8 135", "@th,192,8 0xff", "@th,192,16 & 0xffc0 == 0xfe80"),
    IPV4: ("@th,128,8 & 0xf0 == 0xe0", "@th,128,16 0xa9fe", "@th,128,32 0xffffffff"),
}

# On accepted packets: routing has to tell IPv4-in-IPv6 from IPv6-in-IPv6 and cannot look behind extension headers, so
# the filter tells it. And where only what has the mark is decapsulated, nothing is when the filter is gone.
IPV4_MARK, IPV6_MARK = 4, 41

# `meta l4proto` finds the inner packet behind extension headers, as the kernel's decapsulation does: matching
# `ip6 nexthdr` would let anybody pass who puts a destination option before the inner packet. The comparison
# stands in a chain of its own because nft 1.0.6 cannot list it behind l4proto in one rule (it aborts). A
# fragment is dropped: only the first has an inner source to compare, and no end gets it whole.
RULESET = """
table ip6 hoaflow {{
    counter accepted {{ }}
    counter dropped {{ }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
}}
flush chain ip6 hoaflow prerouting
"""
PAYLOAD_RULESET = """
table ip6 hoaflow {{
    set {pairs} {{ typeof ip6 saddr . {source}; }}
    set {prefix_pairs} {{ typeof ip6 saddr . {source}; flags interval; }}
    chain {check} {{ }}
    chain {left} {{ }}
}}
flush chain ip6 hoaflow {check}
flush chain ip6 hoaflow {left}
table ip6 hoaflow {{
    chain {left} {{
        {left_rules}
    }}
    chain {check} {{
        frag more-fragments 1 counter name dropped drop
        jump {left}
        ip6 saddr . {source} @{pairs} {accept}
        ip6 saddr . {source} @{prefix_pairs} {accept}
        counter name dropped drop
    }}
    chain prerouting {{
        {condition}meta l4proto {next_header} jump {check}
    }}
}}
"""


class Pair(NamedTuple):
    """An accepted outer source (care-of address) and inner source (home address or prefix), RFC 5952 text."""

    outer_source: str
    inner_source: str


class Counters(NamedTuple):
    """Packets seen by the filter since its setup."""

    accepted: int
    dropped: int


class PairFilter:
    """The nftables table `ip6 hoaflow` of one network namespace (a name, a path, None = the current).

    `destination` limits the check to tunnel packets for that address (the tunnel's end here); without it
    every IPv6-in-IPv6 and IPv4-in-IPv6 packet that enters the namespace is checked, those only passing through as
    well. Accepted packets get the mark IPV4_MARK or IPV6_MARK, by their payload.
    `left_mark`: given to tunnel packets that carry what is the home agent's (Mobility Headers, multicast, link-local
    destinations), which are not compared; without it they are as all others.
    Every change is one transaction, idempotent, all or nothing. Raises NftError, ValueError for bad
    addresses.
    """

    def __init__(
        self, namespace: Namespace = None, destination: str | None = None, left_mark: int | None = None
    ) -> None:
        self.namespace = namespace
        self._left_mark = left_mark
        self.destination = None if destination is None else canonical_address(destination)

    def setup(self) -> None:
        """Make the table and its rules; pairs and counters that are there already stay."""
        nft.load(self.namespace, self.ruleset)

    @property
    def ruleset(self) -> str:
        """The table and its rules, without pairs, in nft's language."""
        condition = "" if self.destination is None else f"ip6 daddr {self.destination} "
        return RULESET.format() + "".join(_payload_ruleset(each, condition, self._left_mark) for each in PAYLOADS)

    def teardown(self) -> None:
        """Remove the table; afterwards nothing is checked. Fine when it is not there."""
        nft.load(self.namespace, f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n")

    def present(self) -> bool:
        """Whether the table is there, with all its chains."""
        found = {
            entry["chain"]["name"]
            for entry in nft.listing(self.namespace, "chains", FAMILY)
            if entry.get("chain", {}).get("table") == TABLE
        }
        return {chain for payload in PAYLOADS for chain in (payload.check, payload.left)} <= found

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Accept these (outer source, inner source) pairs too."""
        self.change(add=pairs)

    def remove(self, pairs: Iterable[tuple[str, str]]) -> None:
        """No longer accept these; those that are not there are fine."""
        self.change(remove=pairs)

    def change(self, add: Iterable[tuple[str, str]] = (), remove: Iterable[tuple[str, str]] = ()) -> None:
        """Remove and add in one transaction; a pair in both is accepted afterwards."""
        removed, added = _elements(remove), _elements(add)
        # nft fails on deleting what is not there, so it is added first, in the same transaction
        commands = _commands("add", removed) + _commands("delete", removed) + _commands("add", added)
        if commands:
            nft.apply(self.namespace, commands)

    def replace(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Accept exactly these pairs."""
        flush = [{"flush": {"set": {"family": FAMILY, "table": TABLE, "name": name}}} for name in SETS]
        nft.apply(self.namespace, flush + _commands("add", _elements(pairs)))

    def installed(self) -> set[Pair]:
        """The pairs accepted now, read from the kernel."""
        found = set()
        for name, payload in SETS.items():
            for entry in nft.listing(self.namespace, "set", FAMILY, TABLE, name):
                for element in entry["set"].get("elem", []):
                    outer, inner = element["concat"]
                    found.add(Pair(canonical_address(outer), _inner_text(inner, payload)))
        return found

    def counters(self) -> Counters:
        """(accepted, dropped) packets."""
        packets = {
            entry["counter"]["name"]: int(entry["counter"]["packets"])
            for entry in nft.listing(self.namespace, "counters", "table", FAMILY, TABLE)
        }
        return Counters(packets["accepted"], packets["dropped"])


def _elements(pairs: Iterable[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    elements: dict[str, list[dict[str, Any]]] = {name: [] for name in SETS}
    for outer, inner in pairs:
        prefix = parse_prefix(inner)
        payload = IPV6 if prefix.bits == IPV6.bits else IPV4
        source = canonical_address(outer)
        first = int.from_bytes(prefix.packed, "big")
        if prefix.length == prefix.bits:
            elements[payload.pairs].append({"concat": [source, _hex(first, payload)]})
        else:
            last = first | ((1 << (prefix.bits - prefix.length)) - 1)
            span = {"range": [_hex(first, payload), _hex(last, payload)]}
            elements[payload.prefix_pairs].append({"concat": [source, span]})
    return elements


def _commands(verb: str, elements: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {verb: {"element": {"family": FAMILY, "table": TABLE, "name": name, "elem": members}}}
        for name, members in elements.items()
        if members
    ]


def _payload_ruleset(payload: Payload, condition: str, left_mark: int | None) -> str:
    left = () if left_mark is None else (f"{each} meta mark set {left_mark} accept" for each in LEFT[payload])
    mark = f"meta mark set {IPV4_MARK if payload is IPV4 else IPV6_MARK} "
    return PAYLOAD_RULESET.format(
        pairs=payload.pairs,
        prefix_pairs=payload.prefix_pairs,
        check=payload.check,
        left=payload.left,
        left_rules="\n        ".join(left),
        source=f"@th,{payload.source},{payload.bits}",
        accept=f"{mark}counter name accepted accept",
        next_header=payload.next_header,
        condition=condition,
    )


def _hex(number: int, payload: Payload) -> str:
    return f"{number:#0{2 + payload.bits // 4}x}"


def _inner_text(value: Any, payload: Payload) -> str:
    """nft's form of an inner source → text: a number, or a range of numbers that is a prefix."""
    first, last = value["range"] if isinstance(value, dict) else (value, value)
    low, high = _number(first), _number(last)
    return str(Prefix(low.to_bytes(payload.bits // 8, "big"), payload.bits - (low ^ high).bit_length()))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value, 0)
