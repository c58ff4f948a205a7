# SPDX-License-Identifier: Apache-2.0
"""OpenFlow flows as values: what they match, what they do, and how they read in ``ovs-ofctl`` text."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from controller.core.addresses import Prefix, format_address

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


class SetField(NamedTuple):
    """Set a field, named as in OpenFlow (OXM, NXM): a MAC address as text, an IP address packed."""

    field: str
    value: str | bytes

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


Action = Normal | Output | Local | DecTtl | SetField | Goto | Unknown
MatchValue = int | Prefix | str
Match = tuple[tuple[str, MatchValue], ...]


class FlowKey(NamedTuple):
    """What makes two flows the same one to a switch: a second ADD replaces the first."""

    table: str
    priority: int
    match: Match


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow. An empty ``actions`` drops.

    ``serves`` is the home address, home prefix or home agent whose traffic it carries, None for a table's miss flow.
    """

    kind: Kind
    table: str
    priority: int
    match: Match
    actions: tuple[Action, ...]
    serves: Prefix | None = None

    @property
    def key(self) -> FlowKey:
        """What identifies it on a switch."""
        return FlowKey(self.table, self.priority, self.match)

    @property
    def cookie(self) -> int:
        """Its cookie: the owner's mark and the kind."""
        return COOKIE_OWNER | self.kind

    def __str__(self) -> str:
        match = ",".join(_match_text(name, value) for name, value in self.match if name != "eth_type")
        protocol = _PROTOCOLS.get(match_value(self.match, "eth_type"), "")
        actions = ",".join(map(str, self.actions)) or "drop"
        head = f"table={self.table},priority={self.priority}{protocol}"
        return f"{head}{',' if match else ''}{match} actions={actions}"


_PROTOCOLS: dict[object, str] = {ETH_TYPE_IPV6: ",ipv6", ETH_TYPE_IPV4: ",ip"}


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
