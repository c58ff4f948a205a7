# SPDX-License-Identifier: Apache-2.0
"""The check against spoofing on a tunnel's way back: only known pairs of outer and inner source are accepted.

A mobile node's tunnel packet carries its care-of address as outer and its home address as inner source (RFC
6275 §11.3.1, §10.4.5). nftables compares the pair with the bindings before the kernel decapsulates; all
else is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from tunnel import nft
from tunnel.namespace import Namespace
from tunnel.rtnetlink import Prefix, parse_prefix, prefix_text

FAMILY, TABLE = "ip6", "hoaflow"
SETS = ("pairs", "prefix_pairs")

# `meta l4proto` finds the inner packet behind extension headers, as the kernel's decapsulation does: matching
# `ip6 nexthdr` would let anybody pass who puts a destination option before the inner packet. The comparison
# stands in a chain of its own because nft 1.0.6 cannot list it behind l4proto in one rule (it aborts). A
# fragment carries no comparable inner source and is dropped. Prefixes (a mobile network prefix) have a set
# of their own: an interval set finds by ranges but grows slowly.
RULESET = """
table ip6 hoaflow {{
    counter accepted {{ }}
    counter dropped {{ }}
    set pairs {{ typeof ip6 saddr . @th,64,128; }}
    set prefix_pairs {{ typeof ip6 saddr . @th,64,128; flags interval; }}
    chain check {{ }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
}}
flush chain ip6 hoaflow check
flush chain ip6 hoaflow prerouting
table ip6 hoaflow {{
    chain check {{
        ip6 saddr . @th,64,128 @pairs counter name accepted accept
        ip6 saddr . @th,64,128 @prefix_pairs counter name accepted accept
        counter name dropped drop
    }}
    chain prerouting {{
        {condition}meta l4proto 41 jump check
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
    every IPv6-in-IPv6 packet that enters the namespace is checked, those only passing through as well.
    Every change is one transaction, idempotent, all or nothing. Raises NftError, ValueError for bad
    addresses.
    """

    def __init__(self, namespace: Namespace = None, destination: str | None = None) -> None:
        self.namespace = namespace
        self.destination = None if destination is None else prefix_text(parse_prefix(destination))

    def setup(self) -> None:
        """Make the table and its rules; pairs and counters that are there already stay."""
        condition = "" if self.destination is None else f"ip6 daddr {self.destination} "
        nft.load(self.namespace, RULESET.format(condition=condition))

    def teardown(self) -> None:
        """Remove the table; afterwards nothing is checked. Fine when it is not there."""
        nft.load(self.namespace, f"table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n")

    def present(self) -> bool:
        """Whether the table is there."""
        return (FAMILY, TABLE) in nft.tables(self.namespace)

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
        for name in SETS:
            for entry in nft.listing(self.namespace, "set", FAMILY, TABLE, name):
                for element in entry["set"].get("elem", []):
                    outer, inner = element["concat"]
                    found.add(Pair(prefix_text(parse_prefix(outer)), _inner_text(inner)))
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
        source = prefix_text(parse_prefix(outer))
        first = int.from_bytes(prefix.address, "big")
        if prefix.length == 128:
            elements["pairs"].append({"concat": [source, f"{first:#034x}"]})
        else:
            last = first | ((1 << (128 - prefix.length)) - 1)
            span = {"range": [f"{first:#034x}", f"{last:#034x}"]}
            elements["prefix_pairs"].append({"concat": [source, span]})
    return elements


def _commands(verb: str, elements: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {verb: {"element": {"family": FAMILY, "table": TABLE, "name": name, "elem": members}}}
        for name, members in elements.items()
        if members
    ]


def _inner_text(value: Any) -> str:
    """nft's form of an inner source → text: a number, or a range of numbers that is a prefix."""
    first, last = value["range"] if isinstance(value, dict) else (value, value)
    low, high = _number(first), _number(last)
    return prefix_text(Prefix(low.to_bytes(16, "big"), 128 - (low ^ high).bit_length()))


def _number(value: Any) -> int:
    return value if isinstance(value, int) else int(value, 0)
