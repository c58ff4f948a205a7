# SPDX-License-Identifier: Apache-2.0
"""Represent OpenFlow flows as values: what they match, what they do, and how ``ovs-ofctl`` writes them."""

import struct
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeGuard

from msgspec import Struct

from hoaflow.addresses import Prefix, format_address

ETH_TYPE_IPV4 = 0x0800
ETH_TYPE_IPV6 = 0x86DD

# How many octets of a packet the controller is told: as far as the addresses in a tunnel packet, and a bit.
TOLD_OCTETS = 128

# Our cookies: "hoaf" in the upper half, the kind of flow in the lowest byte.
COOKIE_OWNER = 0x686F6166 << 32
COOKIE_MASK = 0xFFFFFFFF << 32


class Kind(IntEnum):
    """The purpose of a flow; the lowest byte of its cookie."""

    MISS = 1
    GUARD = 2
    GATE = 3
    DOWNLINK = 4
    UPLINK = 5
    VERIFY = 6
    DRAIN = 7
    CLUSTER = 8
    PACKET_IN = 9
    SUPPRESS = 10


class Normal(NamedTuple):
    """Switch as an ordinary bridge does (OFPP_NORMAL)."""

    def __str__(self) -> str:
        return "NORMAL"


class Output(NamedTuple):
    """Send out of a port, given by its OpenFlow number."""

    port: int

    def __str__(self) -> str:
        return f"output:{self.port}"


class Controller(NamedTuple):
    """Tell the controller of a packet, with its first octets, as often as a meter allows (Nicira's controller2 action).

    The meter drops only what the controller would be told; the packet itself goes its way (ovs-actions(7)).
    """

    meter: int

    def __str__(self) -> str:
        return f"controller(max_len={TOLD_OCTETS},meter_id={self.meter})"


class Local(NamedTuple):
    """Hand to the kernel of the switch's own host (OFPP_LOCAL)."""

    def __str__(self) -> str:
        return "LOCAL"


class DecTtl(NamedTuple):
    """Take one from the hop limit."""

    def __str__(self) -> str:
        return "dec_ttl"


class Untag(NamedTuple):
    """Remove the 802.1Q tag, if there is one. Open vSwitch leaves a packet without a tag alone.

    OpenFlow's own pop_vlan requires a match on a tag, so one flow could not serve both.
    """

    def __str__(self) -> str:
        return "set_field:0->vlan_tci"


class CheckLength(NamedTuple):
    """Set the lowest bit of register 0 if a packet is longer than this, Ethernet header included; else clear it.

    Open vSwitch's check_pkt_larger (ovs-actions(7)), in octets. Of a packet that the kernel will segment, the segments
    count.
    """

    length: int

    def __str__(self) -> str:
        return f"check_pkt_larger({self.length})->reg0[0]"


class SetField(NamedTuple):
    """Set a field, named as in OpenFlow (OXM, NXM), to a MAC address (text), an IP address (packed) or a hole."""

    field: str
    value: "str | bytes | Hole"

    def __str__(self) -> str:
        value = format_address(self.value) if isinstance(self.value, bytes) else self.value
        return f"set_field:{value}->{self.field}"


class SetMark(NamedTuple):
    """Set the packet's mark, which the kernel of the switch's own host keeps (Open vSwitch's pkt_mark)."""

    mark: int

    def __str__(self) -> str:
        return f"set_field:{self.mark:#x}->pkt_mark"


class Goto(NamedTuple):
    """Go on in another table, given by name."""

    table: str

    def __str__(self) -> str:
        return f"goto_table:{self.table}"


class Unknown(NamedTuple):
    """An action read back from a switch that no flow of ours has."""

    text: str

    def __str__(self) -> str:
        return self.text


class Hole(NamedTuple):
    """The place of an address: its size and its prefix length, in bits."""

    bits: int
    length: int


Action = Normal | Output | Controller | Local | DecTtl | Untag | CheckLength | SetField | SetMark | Goto | Unknown
MatchValue = int | Prefix | str
Match = tuple[tuple[str, MatchValue], ...]


class Pattern(Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """Matches of one table and priority that differ only in addresses, for which ``fields`` has holes."""

    table: str
    priority: int
    fields: tuple[tuple[str, int | str | Hole], ...]


# What identifies a flow on a switch: the pattern, and the addresses in its holes. A second ADD with the same key
# replaces the first.
FlowKey = tuple[Pattern, *tuple[bytes, ...]]


def table_of(key: FlowKey) -> str:
    """Return the name of the table of a flow with a key."""
    return key[0].table


class Shape(Struct, frozen=True, gc=False, cache_hash=True):
    """Flows that differ only in addresses: in those that they match, and in those for the holes in ``actions``.

    ``serves`` is the place, among the addresses matched, of the one whose traffic such a flow carries; None for none.
    """

    kind: Kind
    pattern: Pattern
    actions: tuple[Action, ...]
    serves: int | None


class Flow(Struct, frozen=True, gc=False):
    """One flow: its shape, its key on a switch, and the addresses that its actions set. Without actions it drops.

    A router has several for each binding, so they are small, and quick to make.
    """

    shape: Shape
    key: FlowKey  # of the shape's pattern
    values: tuple[bytes, ...] = ()

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """The addresses that it matches."""
        return self.key[1:]

    @property
    def kind(self) -> Kind:
        """Purpose, the lowest byte of the cookie."""
        return self.shape.kind

    @property
    def table(self) -> str:
        """Name of the table."""
        return self.shape.pattern.table

    @property
    def priority(self) -> int:
        """Priority in the table."""
        return self.shape.pattern.priority

    @property
    def match(self) -> Match:
        """Match on all fields."""
        return match_of(self.key)

    @property
    def actions(self) -> tuple[Action, ...]:
        """Actions with all addresses."""
        values = iter(self.values)
        return tuple(
            SetField(action.field, next(values)) if _has_hole(action) else action for action in self.shape.actions
        )

    @property
    def serves(self) -> Prefix | None:
        """Home address, home prefix or home agent whose traffic it carries; None if it is there for all."""
        place = self.shape.serves
        if place is None:
            return None
        holes = [value for _, value in self.shape.pattern.fields if isinstance(value, Hole)]
        return Prefix(self.addresses[place], holes[place].length)

    @property
    def cookie(self) -> int:
        """Cookie: the owner's mark and the kind."""
        return COOKIE_OWNER | self.shape.kind

    def __str__(self) -> str:
        match = ",".join(_match_text(name, value) for name, value in self.match if name != "eth_type")
        protocol = _PROTOCOLS.get(match_value(self.match, "eth_type"), "")
        actions = ",".join(map(str, self.actions)) or "drop"
        head = f"table={self.table},priority={self.priority}{protocol}"
        return f"{head}{',' if match else ''}{match} actions={actions}"


# The addresses in which a flow differs from others of its shape: those that it matches, then those that it sets.
Row = tuple[bytes, ...]


def flow_of(shape: Shape, row: Row) -> Flow:
    """Return the flow of a shape with these addresses."""
    matched = len(_holes(shape.pattern))
    return Flow(shape, (shape.pattern, *row[:matched]), row[matched:])


def told_flow(shape: Shape, octets: bytes) -> Flow:
    """Return the flow of a shape with a row's addresses, whose octets follow each other."""
    return flow_of(shape, _rows(shape).unpack(octets))


@lru_cache(maxsize=4096)
def _holes(pattern: Pattern) -> list[Hole]:
    return [value for _, value in pattern.fields if isinstance(value, Hole)]


@lru_cache(maxsize=4096)
def _rows(shape: Shape) -> struct.Struct:
    """Return what takes the octets of a row apart."""
    values = [action.value for action in shape.actions if isinstance(action, SetField)]
    holes = [*_holes(shape.pattern), *(value for value in values if isinstance(value, Hole))]
    return struct.Struct("".join(f"{hole.bits // 8}s" for hole in holes))


_SOURCES = ("ipv6_src", "ipv4_src")
_DESTINATIONS = ("ipv6_dst", "ipv4_dst")
_PROTOCOLS: dict[object, str] = {ETH_TYPE_IPV6: ",ipv6", ETH_TYPE_IPV4: ",ip"}


def make_flow(kind: Kind, table: str, priority: int, match: Match, actions: tuple[Action, ...]) -> Flow:
    """Return a flow with a match and actions."""
    key = make_key(table, priority, match)
    values = [action.value for action in actions if isinstance(action, SetField) and isinstance(action.value, bytes)]
    return Flow(_shape(kind, key[0], tuple(map(_with_hole, actions))), key, tuple(values))


def make_key(table: str, priority: int, match: Match) -> FlowKey:
    """Return the key of flows with a match."""
    fields = tuple(
        (name, Hole(value.bits, value.length) if isinstance(value, Prefix) else value) for name, value in match
    )
    addresses = (value.packed for _, value in match if isinstance(value, Prefix))
    return (_pattern(table, priority, fields), *addresses)


def match_of(key: FlowKey) -> Match:
    """Return the match of flows with a key."""
    pattern, *addresses = key
    left = iter(addresses)
    return tuple(
        (name, Prefix(next(left), value.length) if isinstance(value, Hole) else value) for name, value in pattern.fields
    )


# Equal patterns and shapes are the same object, unless there are absurdly many, so comparing them is cheap.
_pattern = lru_cache(maxsize=4096)(Pattern)


@lru_cache(maxsize=4096)
def _shape(kind: Kind, pattern: Pattern, actions: tuple[Action, ...]) -> Shape:
    holes = [name for name, value in pattern.fields if isinstance(value, Hole)]
    # A guard that matches sources is about what comes out of a tunnel: they are the home prefix's.
    sources = kind in (Kind.UPLINK, Kind.VERIFY) or (kind is Kind.GUARD and not set(_SOURCES).isdisjoint(holes))
    served = () if kind in (Kind.DRAIN, Kind.CLUSTER) else _SOURCES if sources else _DESTINATIONS
    return Shape(kind, pattern, actions, next((place for place, name in enumerate(holes) if name in served), None))


def _with_hole(action: Action) -> Action:
    if isinstance(action, SetField) and isinstance(action.value, bytes):
        bits = len(action.value) * 8
        return SetField(action.field, Hole(bits, bits))
    return action


def _has_hole(action: Action) -> TypeGuard[SetField]:
    return isinstance(action, SetField) and isinstance(action.value, Hole)


def is_ours(cookie: int) -> bool:
    """Tell whether a cookie is one of ours."""
    return cookie & COOKIE_MASK == COOKIE_OWNER


def match(**fields: MatchValue) -> Match:
    """Return the canonical match on fields, named as in OpenFlow (OXM), with values as ints or prefixes."""
    return tuple(sorted(fields.items()))


def match_value(match: Match, name: str) -> MatchValue | None:
    """Return the value that a match requires of one field, None if any."""
    return next((value for field, value in match if field == name), None)


def _match_text(name: str, value: MatchValue) -> str:
    if isinstance(value, Prefix):
        suffix = "" if value.is_host else f"/{value.length}"
        return f"{name}={format_address(value.packed)}{suffix}"
    return f"{name}={value}"
