# SPDX-License-Identifier: Apache-2.0
"""OpenFlow flows as values: what they match, what they do, and how they read in ``ovs-ofctl`` text."""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, TypeGuard

from msgspec import Struct

from hoaflow.addresses import Prefix, format_address

ETH_TYPE_IPV4 = 0x0800
ETH_TYPE_IPV6 = 0x86DD

# Our cookies: "hoaf" in the upper half, the kind of flow in the lowest byte.
COOKIE_OWNER = 0x686F6166 << 32
COOKIE_MASK = 0xFFFFFFFF << 32


class Kind(IntEnum):
    """What a flow is there for; the lowest byte of its cookie."""

    MISS = 1
    GUARD = 2
    GATE = 3
    DOWNLINK = 4
    UPLINK = 5
    VERIFY = 6
    DRAIN = 7


class Normal(NamedTuple):
    """Switch as an ordinary bridge does (OFPP_NORMAL)."""

    def __str__(self) -> str:
        return "NORMAL"


class Output(NamedTuple):
    """Send out of a port, given by its OpenFlow number."""

    port: int

    def __str__(self) -> str:
        return f"output:{self.port}"


class Local(NamedTuple):
    """Hand to the kernel of the switch's own host (OFPP_LOCAL)."""

    def __str__(self) -> str:
        return "LOCAL"


class DecTtl(NamedTuple):
    """Take one from the hop limit."""

    def __str__(self) -> str:
        return "dec_ttl"


class Untag(NamedTuple):
    """Take off the 802.1Q tag, if there is one. Open vSwitch does nothing to a packet without.

    OpenFlow's own pop_vlan asks for a match on a tag: a flow for both would have to be two.
    """

    def __str__(self) -> str:
        return "set_field:0->vlan_tci"


class CheckLength(NamedTuple):
    """Set the lowest bit of register 0 if a packet has more octets than this, Ethernet header included; else clear it.

    Open vSwitch's check_pkt_larger (ovs-actions(7)). Of a segmented packet that the kernel keeps as one, the segments
    count.
    """

    length: int

    def __str__(self) -> str:
        return f"check_pkt_larger({self.length})->reg0[0]"


class SetField(NamedTuple):
    """Set a field, named as in OpenFlow (OXM, NXM): a MAC address as text, an IP address packed, or a hole for one."""

    field: str
    value: "str | bytes | Hole"

    def __str__(self) -> str:
        value = format_address(self.value) if isinstance(self.value, bytes) else self.value
        return f"set_field:{value}->{self.field}"


class Goto(NamedTuple):
    """Go on in another table, given by its name."""

    table: str

    def __str__(self) -> str:
        return f"goto_table:{self.table}"


class Unknown(NamedTuple):
    """Something read back from a switch that no flow of ours does."""

    text: str

    def __str__(self) -> str:
        return self.text


class Hole(NamedTuple):
    """The place of an address: how many bits that has, and of how many of them it is the prefix."""

    bits: int
    length: int


Action = Normal | Output | Local | DecTtl | Untag | CheckLength | SetField | Goto | Unknown
MatchValue = int | Prefix | str
Match = tuple[tuple[str, MatchValue], ...]


class Pattern(Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """The matches of one table and priority that differ in nothing but addresses: ``fields`` has holes for these."""

    table: str
    priority: int
    fields: tuple[tuple[str, int | str | Hole], ...]


# What makes two flows the same one to a switch: the pattern, and the addresses in its holes. A second ADD replaces the
# first.
FlowKey = tuple[Pattern, *tuple[bytes, ...]]


def table_of(key: FlowKey) -> str:
    """Return the name of the table of a flow with this key."""
    return key[0].table


class Shape(Struct, frozen=True, gc=False, cache_hash=True):
    """The flows that differ in nothing but addresses: those that they match, and those that holes in ``actions`` get.

    ``serves`` is the place, among the addresses matched, of the one whose traffic such a flow carries; None: no one's.
    """

    kind: Kind
    pattern: Pattern
    actions: tuple[Action, ...]
    serves: int | None


class Flow(Struct, frozen=True, gc=False):
    """One flow: its shape, the addresses that it matches, and those that its actions set. Without actions it drops.

    A router has several for each binding, so they are small and made without a look at what all of them share.
    """

    shape: Shape
    addresses: tuple[bytes, ...]
    values: tuple[bytes, ...] = ()

    @property
    def key(self) -> FlowKey:
        """What identifies it on a switch."""
        return (self.shape.pattern, *self.addresses)

    @property
    def kind(self) -> Kind:
        """What it is there for; the lowest byte of its cookie."""
        return self.shape.kind

    @property
    def table(self) -> str:
        """The name of its table."""
        return self.shape.pattern.table

    @property
    def priority(self) -> int:
        """Its priority in that table."""
        return self.shape.pattern.priority

    @property
    def match(self) -> Match:
        """What it matches."""
        return match_of(self.key)

    @property
    def actions(self) -> tuple[Action, ...]:
        """What it does."""
        values = iter(self.values)
        return tuple(
            SetField(action.field, next(values)) if _has_hole(action) else action for action in self.shape.actions
        )

    @property
    def serves(self) -> Prefix | None:
        """The home address, home prefix or home agent whose traffic it carries; None for what is there for all."""
        place = self.shape.serves
        if place is None:
            return None
        holes = [value for _, value in self.shape.pattern.fields if isinstance(value, Hole)]
        return Prefix(self.addresses[place], holes[place].length)

    @property
    def cookie(self) -> int:
        """Its cookie: the owner's mark and the kind."""
        return COOKIE_OWNER | self.shape.kind

    def __str__(self) -> str:
        match = ",".join(_match_text(name, value) for name, value in self.match if name != "eth_type")
        protocol = _PROTOCOLS.get(match_value(self.match, "eth_type"), "")
        actions = ",".join(map(str, self.actions)) or "drop"
        head = f"table={self.table},priority={self.priority}{protocol}"
        return f"{head}{',' if match else ''}{match} actions={actions}"


_SOURCES = ("ipv6_src", "ipv4_src")
_DESTINATIONS = ("ipv6_dst", "ipv4_dst")
_PROTOCOLS: dict[object, str] = {ETH_TYPE_IPV6: ",ipv6", ETH_TYPE_IPV4: ",ip"}


def make_flow(kind: Kind, table: str, priority: int, match: Match, actions: tuple[Action, ...]) -> Flow:
    """Return a flow with this match and these actions."""
    pattern, *addresses = make_key(table, priority, match)
    values = [action.value for action in actions if isinstance(action, SetField) and isinstance(action.value, bytes)]
    return Flow(_shape(kind, pattern, tuple(map(_with_hole, actions))), tuple(addresses), tuple(values))


def make_key(table: str, priority: int, match: Match) -> FlowKey:
    """Return the key of flows with this match."""
    fields = tuple(
        (name, Hole(value.bits, value.length) if isinstance(value, Prefix) else value) for name, value in match
    )
    addresses = (value.packed for _, value in match if isinstance(value, Prefix))
    return (_pattern(table, priority, fields), *addresses)


def match_of(key: FlowKey) -> Match:
    """Return the match of flows with this key."""
    pattern, *addresses = key
    left = iter(addresses)
    return tuple(
        (name, Prefix(next(left), value.length) if isinstance(value, Hole) else value) for name, value in pattern.fields
    )


# Equal patterns and shapes are the same object, as long as there are not absurdly many: to tell them apart and to find
# what belongs to one then takes no look inside.
_pattern = lru_cache(maxsize=4096)(Pattern)


@lru_cache(maxsize=4096)
def _shape(kind: Kind, pattern: Pattern, actions: tuple[Action, ...]) -> Shape:
    holes = [name for name, value in pattern.fields if isinstance(value, Hole)]
    # Where a guard looks at sources, these are the home prefix's: it is about what comes out of a tunnel.
    sources = kind in (Kind.UPLINK, Kind.VERIFY) or (kind is Kind.GUARD and not set(_SOURCES).isdisjoint(holes))
    served = () if kind is Kind.DRAIN else _SOURCES if sources else _DESTINATIONS
    return Shape(kind, pattern, actions, next((place for place, name in enumerate(holes) if name in served), None))


def _with_hole(action: Action) -> Action:
    if isinstance(action, SetField) and isinstance(action.value, bytes):
        bits = len(action.value) * 8
        return SetField(action.field, Hole(bits, bits))
    return action


def _has_hole(action: Action) -> TypeGuard[SetField]:
    return isinstance(action, SetField) and isinstance(action.value, Hole)


def is_ours(cookie: int) -> bool:
    """Tell whether a flow carries our cookie."""
    return cookie & COOKIE_MASK == COOKIE_OWNER


def match(**fields: MatchValue) -> Match:
    """Return the canonical match on ``fields``, named as in OpenFlow (OXM), values as ints or prefixes."""
    return tuple(sorted(fields.items()))


def match_value(match: Match, name: str) -> MatchValue | None:
    """Return what ``match`` wants of one field, or None."""
    return next((value for field, value in match if field == name), None)


def _match_text(name: str, value: MatchValue) -> str:
    if isinstance(value, Prefix):
        suffix = "" if value.is_host else f"/{value.length}"
        return f"{name}={format_address(value.packed)}{suffix}"
    return f"{name}={value}"
