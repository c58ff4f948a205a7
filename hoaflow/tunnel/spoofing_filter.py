# SPDX-License-Identifier: Apache-2.0
"""Check tunnel packets from mobile nodes against spoofing: only known pairs of outer and inner source are accepted.

A mobile node's tunnel packet has its care-of address as outer and its home address as inner source (RFC 6275 §11.3.1,
§10.4.5). nftables compares the pair with the bindings before the kernel decapsulates; all other packets are dropped and
counted.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from hoaflow.addresses import Prefix, format_address, parse_address, parse_prefix
from hoaflow.tunnel import nft
from hoaflow.tunnel.errors import NftError
from hoaflow.tunnel.namespace import Namespace
from hoaflow.tunnel.nfnetlink import Element, NftSocket, parsed
from hoaflow.tunnel.nft_table import Table

TABLE = "hoaflow"


class Outer(NamedTuple):
    """A tunnel packet's outer header. `family`: nft's word for it. `words`: ours. `octets`: of its addresses.

    `fragment`: matches fragments of tunnel packets, of which only the first has an inner source.
    """

    family: str
    words: str
    octets: int
    fragment: str


OUTER_IPV6 = Outer("ip6", "IPv6", 16, "frag more-fragments 1")
OUTER_IPV4 = Outer("ip", "IPv4", 4, "ip frag-off & 0x3fff != 0")


class Payload(NamedTuple):
    """A tunnel packet's payload protocol (RFC 2473 §5.1).

    `next_header`: its number. `bits`: the length of its addresses. `source`: the offset of its source address in bits.
    """

    next_header: int
    bits: int
    source: int

    @property
    def pairs(self) -> str:
        """The name of the set of pairs whose inner source is a single address."""
        return f"pairs_{self.next_header}"

    @property
    def prefix_pairs(self) -> str:
        """The name of the set of pairs whose inner source is a mobile network prefix.

        It is separate, as sets of intervals are slow to grow.
        """
        return f"prefix_pairs_{self.next_header}"

    @property
    def left(self) -> str:
        """The name of the chain that leaves packets to the home agent, whoever sent them."""
        return f"left_{self.next_header}"

    @property
    def check(self) -> str:
        """The name of the chain that compares pairs."""
        return f"check_{self.next_header}"


IPV6, IPV4 = Payload(41, 128, 64), Payload(4, 32, 96)
PAYLOADS = (IPV6, IPV4)
SETS = {name: payload for payload in PAYLOADS for name in (payload.pairs, payload.prefix_pairs)}

# Of what a tunnel packet carries: an IPv6 header with the Mobility Header (135) next, with a multicast or link-local
# destination, or with a link-local or unspecified source; an IPv4 header with a multicast, link-local or broadcast
# destination. nftables cannot skip an extension header of any length, but sees what follows the first one (hop-by-hop,
# routing, fragment, authentication, destination options): the Mobility Header, or a second one that hides what follows.
LEFT = {
    IPV6: (
        "@th,48,8 135",
        "@th,48,8 { 0, 43, 44, 51, 60 } @th,320,8 { 0, 43, 44, 51, 60, 135 }",
        "@th,192,8 0xff",
        "@th,192,16 & 0xffc0 == 0xfe80",
        "@th,64,16 & 0xffc0 == 0xfe80",
        "@th,64,128 0",
    ),
    IPV4: ("@th,128,8 & 0xf0 == 0xe0", "@th,128,16 0xa9fe", "@th,128,32 0xffffffff"),
}

# Marks on accepted packets. Routing rules need them to tell IPv4-in-IPv6 from IPv6-in-IPv6 behind extension headers. As
# only marked packets are decapsulated, none is while the filter is missing.
IPV4_MARK, IPV6_MARK = 4, 41
INNER_MARK = 42
"""Marks accepted packets whose inner packet is for the tunnel's own end, where that is asked for."""

# `meta l4proto` finds the inner packet behind extension headers, as the kernel's decapsulation does; with `ip6 nexthdr`
# a destination option before the inner packet would evade the check. The comparison is in a chain of its own, as nft
# 1.0.6 aborts when it lists it behind l4proto in one rule. Fragments are dropped: only the first has an inner source.
RULESET = """
table {family} hoaflow {{
    counter accepted {{ }}
    counter dropped {{ }}
    chain prerouting {{ type filter hook prerouting priority raw; policy accept; }}
}}
flush chain {family} hoaflow prerouting
"""
PAYLOAD_RULESET = """
table {family} hoaflow {{
    set {pairs} {{ typeof {family} saddr . {source}; }}
    set {prefix_pairs} {{ typeof {family} saddr . {source}; flags interval; }}
    chain {check} {{ }}
    chain {left} {{ }}
}}
flush chain {family} hoaflow {check}
flush chain {family} hoaflow {left}
table {family} hoaflow {{
    chain {left} {{
        {left_rules}
    }}
    chain {check} {{
        {fragment} counter name dropped drop
        jump {left}
        {accepted}
        counter name dropped drop
    }}
    chain prerouting {{
        {condition}meta l4proto {next_header} jump {check}
    }}
}}
"""


class SourcePair(NamedTuple):
    """An accepted outer source (care-of address) and inner source (home address or prefix), as RFC 5952 text."""

    outer_source: str
    inner_source: str


class Counters(NamedTuple):
    """Numbers of packets that the filter accepted and dropped since its setup."""

    accepted: int
    dropped: int


class SpoofingFilter:
    """The nftables table `ip6 hoaflow` of one network namespace; with an IPv4 `destination`, the table `ip hoaflow`.

    `destination`: check only tunnel packets for that address; by default, all IPv6-in-IPv6 and IPv4-in-IPv6 packets
    that enter the namespace, including those that it forwards. Accepted packets get the mark IPV4_MARK or IPV6_MARK, by
    their payload. `left_mark`: the mark of tunnel packets with a payload for the home agent (Mobility Headers,
    multicast, link-local addresses), which are then accepted unchecked; by default, they are checked as all others.
    `inner_mark`: of accepted packets that carry an IPv6 packet to `destination` itself; by default IPV6_MARK.

    Every change is idempotent and one transaction. Raises NftError, and ValueError for bad addresses.
    """

    def __init__(
        self,
        namespace: Namespace = None,
        destination: str | None = None,
        left_mark: int | None = None,
        inner_mark: int | None = None,
    ) -> None:
        self.namespace = namespace
        self._kept: NftSocket | None = None
        self._left_mark, self._inner_mark = left_mark, inner_mark
        packed = None if destination is None else parse_address(destination)
        self.destination = None if packed is None else format_address(packed)
        self._outer = OUTER_IPV4 if packed is not None and len(packed) == OUTER_IPV4.octets else OUTER_IPV6

    def setup(self) -> None:
        """Make the table and its rules, keeping existing pairs and counters."""
        nft.load(self.namespace, self.ruleset)

    @property
    def ruleset(self) -> str:
        """The table and its rules, without pairs, in nft's language."""
        outer = self._outer
        condition = "" if self.destination is None else f"{outer.family} daddr {self.destination} "
        inner = []
        if self._inner_mark is not None and self.destination is not None:
            end = int.from_bytes(parse_address(self.destination), "big")  # nft takes a number only
            inner = [(f"@th,192,128 {end:#x} ", self._inner_mark)]
        marks = {IPV6: [*inner, ("", IPV6_MARK)], IPV4: [("", IPV4_MARK)]}
        return RULESET.format(family=outer.family) + "".join(
            _payload_ruleset(outer, each, condition, self._left_mark, marks[each]) for each in PAYLOADS
        )

    @property
    def table(self) -> Table:
        """The table for a declaration, which does not cover its pairs."""
        return Table(self._outer.family, TABLE, self.ruleset, "the check against spoofing", terse=True)

    def teardown(self) -> None:
        """Remove the table, if it exists; then nothing is checked."""
        family = self._outer.family
        nft.load(self.namespace, f"table {family} {TABLE}\ndelete table {family} {TABLE}\n")

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Accept more pairs of outer and inner source."""
        self.change(add=pairs)

    def remove(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Stop accepting these pairs; unknown ones are fine."""
        self.change(remove=pairs)

    def change(self, add: Iterable[tuple[str, str]] = (), remove: Iterable[tuple[str, str]] = ()) -> None:
        """Remove and add pairs in one transaction; a pair in both is accepted afterwards."""
        added, removed = _elements(self._outer, add), _elements(self._outer, remove)
        changes = [(name, added[name], removed[name]) for name in SETS if added[name] or removed[name]]
        with self._opened() as opened:
            opened.change_elements(self._outer.family, TABLE, changes)

    def replace(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Accept these pairs and no others."""
        added = _elements(self._outer, pairs)
        with self._opened() as opened:
            opened.change_elements(self._outer.family, TABLE, [(name, added[name], None) for name in SETS])

    def installed(self) -> set[SourcePair]:
        """Return the accepted pairs, read from the kernel."""
        return {pair for part in self.listed() for pair in part()}

    def listed(self) -> list[Callable[[], Iterator[SourcePair]]]:
        """Read the accepted pairs, and return functions that each parse a part of them, which takes longest."""
        with self._opened() as opened:
            return [
                partial(_pairs_of, self._outer, payload, message)
                for name, payload in SETS.items()
                for message in opened.elements(self._outer.family, TABLE, name)
            ]

    def counters(self) -> Counters:
        """Return the numbers of accepted and dropped packets. Raises NftError, also if the table is missing."""
        with NftSocket(self.namespace) as opened:
            counts = opened.counters(self._outer.family, TABLE)
        if not counts.keys() >= {"accepted", "dropped"}:
            raise NftError(f"the counters of {self.table} are missing")
        return Counters(counts["accepted"].packets, counts["dropped"].packets)

    @property
    def port(self) -> int:
        """The netlink port that changes to the pairs come from, if they are made in the current namespace."""
        with self._opened() as opened:
            return opened.port

    def close(self) -> None:
        """Close the socket; the next call opens another one."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[NftSocket]:
        """Open a socket in the namespace, or reuse the one that is kept for the current namespace."""
        if self.namespace is not None:
            with NftSocket(self.namespace) as opened:
                yield opened
            return
        if self._kept is None:
            self._kept = NftSocket()
        try:
            yield self._kept
        except OSError:
            self.close()  # a late answer must not be taken for that to the next request
            raise


def _pairs_of(outer: Outer, payload: Payload, message: bytes) -> Iterator[SourcePair]:
    for element in parsed(message):
        source, inner, last = element.key[: outer.octets], element.key[outer.octets :], element.end[outer.octets :]
        low = int.from_bytes(inner, "big")
        length = payload.bits - (low ^ int.from_bytes(last or inner, "big")).bit_length()
        yield SourcePair(format_address(source), str(Prefix(inner, length)))


def _elements(outer: Outer, pairs: Iterable[tuple[str, str]]) -> dict[str, list[Element]]:
    elements: dict[str, list[Element]] = {name: [] for name in SETS}
    for outer_source, inner in pairs:
        prefix, source = parse_prefix(inner), parse_address(outer_source)
        if len(source) != outer.octets:
            raise ValueError(f"expected an {outer.words} address as outer source, got {outer_source!r}")
        payload = IPV6 if prefix.bits == IPV6.bits else IPV4
        if prefix.is_host:
            elements[payload.pairs].append(Element(source + prefix.packed))
        else:
            span = (1 << (prefix.bits - prefix.length)) - 1
            last = (int.from_bytes(prefix.packed, "big") | span).to_bytes(prefix.bits // 8, "big")
            elements[payload.prefix_pairs].append(Element(source + prefix.packed, source + last))
    return elements


def _payload_ruleset(
    outer: Outer, payload: Payload, condition: str, left_mark: int | None, marks: Iterable[tuple[str, int]]
) -> str:
    """Return a payload's chains. `marks`: conditions and the marks of packets that meet them, the first that does."""
    left = () if left_mark is None else (f"{each} meta mark set {left_mark} accept" for each in LEFT[payload])
    source = f"@th,{payload.source},{payload.bits}"
    accepted = (
        f"{which}{outer.family} saddr . {source} @{pairs} meta mark set {mark} counter name accepted accept"
        for which, mark in marks
        for pairs in (payload.pairs, payload.prefix_pairs)
    )
    return PAYLOAD_RULESET.format(
        family=outer.family,
        fragment=outer.fragment,
        pairs=payload.pairs,
        prefix_pairs=payload.prefix_pairs,
        check=payload.check,
        left=payload.left,
        left_rules="\n        ".join(left),
        source=source,
        accepted="\n        ".join(accepted),
        next_header=payload.next_header,
        condition=condition,
    )
