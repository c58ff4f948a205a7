# SPDX-License-Identifier: Apache-2.0
"""Decode the flows that a switch reports, installed or removed, from OpenFlow 1.3.

Ryu's parser would not do: a switch may hold other applications' flows with actions that Ryu can't parse, and hundreds
of thousands of hoaflow's. Of another application's flow only the key matters, and only if one of hoaflow's may have it.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_common import NX_EXPERIMENTER_ID

from controller.core.flows import (
    Action,
    CheckLength,
    DecTtl,
    Flow,
    FlowKey,
    Goto,
    Kind,
    Local,
    Match,
    MatchValue,
    Normal,
    Output,
    Pattern,
    SetField,
    SetMark,
    Unknown,
    Untag,
    is_ours,
    make_flow,
    make_key,
)
from controller.core.installed import FlowEntry
from controller.core.traffic import Counters
from controller.southbound.encoder import BITS, CHECK_LENGTH, NXAST_CHECK_PKT_LARGER, REG0
from hoaflow.addresses import Prefix

# ofp_header, ofp_flow_removed up to its match (OpenFlow 1.3.5, section 7.4.2).
_REMOVED = struct.Struct("!8xQHBBIIHHQQ")
# ofp_flow_stats up to its match (OpenFlow 1.3.5, section 7.3.5.2).
_STATS = struct.Struct("!HBxIIHHHH4xQQQ")
_TYPE_LENGTH = struct.Struct("!HH")
_OXM = struct.Struct("!HBB")
_OUTPUT = struct.Struct("!HHI")
_EXPERIMENTER = struct.Struct("!4xI")
_CHECK_LENGTH_SIZE = _EXPERIMENTER.size + CHECK_LENGTH.size

OPENFLOW_BASIC, NXM_0, NXM_1 = 0x8000, 0x0000, 0x0001
# The fields that hoaflow's flows match on or set, by OXM class and field number.
FIELDS = {
    (OPENFLOW_BASIC, 0): "in_port",
    (OPENFLOW_BASIC, 3): "eth_dst",
    (OPENFLOW_BASIC, 4): "eth_src",
    (OPENFLOW_BASIC, 5): "eth_type",
    (OPENFLOW_BASIC, 10): "ip_proto",
    (OPENFLOW_BASIC, 11): "ipv4_src",
    (OPENFLOW_BASIC, 12): "ipv4_dst",
    (OPENFLOW_BASIC, 26): "ipv6_src",
    (OPENFLOW_BASIC, 27): "ipv6_dst",
    (OPENFLOW_BASIC, 29): "icmpv6_type",
    (NXM_0, 4): "vlan_tci",
    (NXM_1, 0): "reg0",
    (NXM_1, 26): "ip_frag",
    (NXM_1, 29): "nw_ttl",
    (NXM_1, 33): "pkt_mark",
    (NXM_1, 109): "tun_ipv6_src",
    (NXM_1, 110): "tun_ipv6_dst",
}
MAC_FIELDS = {"eth_dst", "eth_src"}
ADDRESS_FIELDS = {"ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "tun_ipv6_src", "tun_ipv6_dst"}
# Most layouts that are learned. Each kind of flow has a few; the limit is for flows that something else has made.
MOST_LAYOUTS = 1000
_RESERVED_PORTS: dict[int, Action] = {ofp.OFPP_NORMAL: Normal(), ofp.OFPP_LOCAL: Local()}

T = TypeVar("T")


class FlowStatistics:
    """Hold one flow of a statistics reply, with its match and instructions left as bytes.

    The class takes the place of Ryu's, so that Ryu's parser only cuts a reply into flows.
    """

    __slots__ = ("bytes", "cookie", "duration", "hard_timeout", "length", "packets", "priority", "rest", "table_id")

    def __init__(self, buffer: bytes, offset: int) -> None:
        """Read the flow at `offset`. Raises ValueError for an impossible length."""
        (self.length, self.table_id, seconds, nanoseconds, self.priority, _, self.hard_timeout, _, *counts) = (
            _STATS.unpack_from(buffer, offset)
        )
        if not _STATS.size <= self.length <= len(buffer) - offset:
            room = len(buffer) - offset
            raise ValueError(f"expected flow statistics of {_STATS.size} to {room} bytes, got {self.length}")
        self.cookie, self.packets, self.bytes = counts
        self.duration = seconds + nanoseconds / 1e9
        self.rest = bytes(buffer[offset + _STATS.size : offset + self.length])

    def __repr__(self) -> str:
        return f"FlowStatistics(table_id={self.table_id}, priority={self.priority}, cookie={self.cookie:#x})"

    @classmethod
    def parser(cls, buffer: bytes, offset: int) -> "FlowStatistics":
        """Return the flow at `offset`; Ryu calls this for each flow of a reply."""
        return cls(buffer, offset)


parser.OFPFlowStatsReply.cls_stats_body_cls = FlowStatistics


@dataclass(frozen=True, slots=True)
class ReportedFlow:
    """A flow as a switch reports it; `entry` is None for another application's."""

    key: FlowKey
    entry: FlowEntry | None
    packets: int
    bytes: int


class RemovedFlow(NamedTuple):
    """A flow of hoaflow's that a switch has removed, why (OFPRR), and what it had counted."""

    key: FlowKey
    reason: int
    counted: Counters


class Decoder:
    """Decode flow statistics and notices of removal; `names` are those of hoaflow's tables, by number.

    Flows of one shape differ in addresses only, so the addresses' places are learned from the first such flow.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        # By what flows of a shape have in common: table, priority, and the length of their bytes, among others.
        self._flows: dict[tuple[int, ...], Layout[Flow]] = {}
        self._patterns: dict[tuple[int, ...], Layout[Pattern]] = {}

    def removed(self, message: bytes) -> RemovedFlow | None:
        """Return what a FlowRemoved message says; None if the flow was another application's."""
        cookie, priority, reason, table_id, *_, packets, size = _REMOVED.unpack_from(message)
        table, data = self._names.get(table_id), message[_REMOVED.size :]
        if table is None or not is_ours(cookie):
            return None
        alike = (table_id, priority, len(data))
        layout = self._patterns.get(alike)
        addresses = None if layout is None else layout.addresses(data)
        if layout is not None and addresses is not None:
            key: FlowKey = (layout.example, *addresses)
        else:
            match, _ = _match(data)
            if match is None:
                return None
            key = make_key(table, priority, match)
            _learn(self._patterns, alike, Layout(key[0], key[1:], data))
        return RemovedFlow(key, reason, Counters(packets, size))

    def decode(self, statistics: Iterable[FlowStatistics], now: float) -> list[ReportedFlow]:
        """Return the flows in hoaflow's tables; another application's only if one of hoaflow's may have its key."""
        flows = []
        for stats in statistics:
            alike = (stats.table_id, stats.priority, stats.cookie, stats.length)
            layout = self._flows.get(alike)
            addresses = None if layout is None else layout.addresses(stats.rest)
            flow = None
            if layout is not None and addresses is not None:
                matched = len(layout.example.addresses)
                key: FlowKey = (layout.example.key[0], *addresses[:matched])
                flow = Flow(layout.example.shape, key, addresses[matched:])
            else:
                table = self._names.get(stats.table_id)
                match, length = _match(stats.rest)
                if table is None or match is None:
                    # A flow with hoaflow's cookie that matches on other fields can't be deleted by its key.
                    continue
                key = make_key(table, stats.priority, match)
                if is_ours(stats.cookie):
                    flow = _flow(stats, table, match, length, self._names)
                    _learn(self._flows, alike, Layout(flow, flow.addresses + flow.values, stats.rest))
            entry = None if flow is None else FlowEntry(flow, _ends(stats, now))
            flows.append(ReportedFlow(key, entry, stats.packets, stats.bytes))
        return flows


class Layout(Generic[T]):
    """Know where the addresses stand in the bytes of an example, which begin with its match, and the constant rest."""

    def __init__(self, example: T, addresses: Sequence[bytes], data: bytes) -> None:
        """Find the places of the example's `addresses` in its bytes, `data`."""
        self.example = example
        self._places: list[slice] = []
        self._constant: list[tuple[slice, bytes]] = []
        # An address that occurs twice, or as part of another, would be ambiguous: such a layout fits nothing.
        self._usable = all(data.index(address) == data.rindex(address) for address in addresses)
        if not self._usable:
            return
        self._places = [slice(at, at + len(address)) for address in addresses for at in (data.index(address),)]
        end = 0
        for place in sorted(self._places, key=lambda place: place.start):
            self._constant.append((slice(end, place.start), data[end : place.start]))
            end = place.stop
        self._constant.append((slice(end, len(data)), data[end:]))

    def addresses(self, data: bytes) -> tuple[bytes, ...] | None:
        """Return the addresses in these bytes; None if they have another layout."""
        if not self._usable:
            return None
        for place, constant in self._constant:
            if data[place] != constant:
                return None
        return tuple([data[place] for place in self._places])


def _learn(layouts: dict[tuple[int, ...], Layout[T]], alike: tuple[int, ...], layout: Layout[T]) -> None:
    if alike in layouts or len(layouts) < MOST_LAYOUTS:
        layouts[alike] = layout


def _ends(stats: FlowStatistics, now: float) -> float | None:
    return now + stats.hard_timeout - stats.duration if stats.hard_timeout else None


def _flow(stats: FlowStatistics, table: str, match: Match, match_length: int, names: dict[int, str]) -> Flow:
    actions = tuple(_instructions(stats.rest[match_length:], names))
    kind = stats.cookie & 0xFF
    if kind not in Kind.__members__.values():
        kind, actions = Kind.MISS, (Unknown(f"kind {kind}"),)
    return make_flow(Kind(kind), table, stats.priority, match, actions)


def _match(data: bytes) -> tuple[Match | None, int]:
    """Return the match at the start of `data`, None if hoaflow's have no such fields, and its padded length."""
    _, length = _TYPE_LENGTH.unpack_from(data)
    fields: list[tuple[str, MatchValue]] | None = []
    offset = _TYPE_LENGTH.size
    while offset < length:
        class_, field_and_mask, size = _OXM.unpack_from(data, offset)
        value = data[offset + _OXM.size : offset + _OXM.size + size]
        name = FIELDS.get((class_, field_and_mask >> 1))
        decoded = _value(name, value, bool(field_and_mask & 1)) if name else None
        if decoded is None or name is None:
            fields = None
        elif fields is not None:
            fields.append((name, decoded))
        offset += _OXM.size + size
    return None if fields is None else tuple(sorted(fields)), (length + 7) // 8 * 8


def _value(name: str, data: bytes, masked: bool) -> MatchValue | None:
    if not masked:
        if name in ADDRESS_FIELDS:
            return Prefix(data, len(data) * 8)
        if name in MAC_FIELDS:
            return data.hex(":")
        # Open vSwitch reports a mask that has all bits of the field as none.
        return None if name == "reg0" else int.from_bytes(data, "big")
    half = len(data) // 2
    value, mask, bits = data[:half], int.from_bytes(data[half:], "big"), half * 8
    if name in ADDRESS_FIELDS:
        length = mask.bit_count()
        return Prefix(value, length) if mask == (1 << bits) - (1 << (bits - length)) else None
    return int.from_bytes(value, "big") if mask == BITS.get(name) else None


def _instructions(data: bytes, names: dict[int, str]) -> Iterable[Action]:
    offset = 0
    while offset < len(data):
        type_, length = _advance(data, offset)
        body = data[offset + 4 : offset + length]
        if type_ == ofp.OFPIT_GOTO_TABLE:
            yield Goto(names.get(body[0], str(body[0])))
        elif type_ == ofp.OFPIT_APPLY_ACTIONS:
            yield from _actions(body[4:])
        else:
            yield Unknown(f"instruction {type_}")
        offset += length


def _actions(data: bytes) -> Iterable[Action]:
    offset = 0
    while offset < len(data):
        type_, length = _advance(data, offset)
        yield _action(type_, data[offset : offset + length])
        offset += length


def _action(type_: int, data: bytes) -> Action:
    if type_ == ofp.OFPAT_OUTPUT:
        port = _OUTPUT.unpack_from(data)[2]
        return _RESERVED_PORTS.get(port, Output(port))
    if type_ == ofp.OFPAT_DEC_NW_TTL:
        return DecTtl()
    if type_ == ofp.OFPAT_SET_FIELD:
        class_, field_and_mask, size = _OXM.unpack_from(data, 4)
        name = FIELDS.get((class_, field_and_mask >> 1))
        value = data[8 : 8 + size]
        if name in ADDRESS_FIELDS and not field_and_mask & 1:
            return SetField(name, value)
        if name == "eth_dst" and not field_and_mask & 1:
            return SetField(name, value.hex(":"))
        if name == "pkt_mark" and not field_and_mask & 1:
            return SetMark(int.from_bytes(value, "big"))
        if name == "vlan_tci" and not field_and_mask & 1 and not any(value):
            return Untag()
    if type_ == ofp.OFPAT_EXPERIMENTER and len(data) == _CHECK_LENGTH_SIZE:
        subtype, limit, *result = CHECK_LENGTH.unpack_from(data, _EXPERIMENTER.size)
        ours = (NX_EXPERIMENTER_ID, NXAST_CHECK_PKT_LARGER, [0, REG0])
        if (*_EXPERIMENTER.unpack_from(data), subtype, result) == ours:
            return CheckLength(limit)
    return Unknown(f"action {type_}")


def _advance(data: bytes, offset: int) -> tuple[int, int]:
    """Return type and length of the structure at `offset`. Raises ValueError for an impossible length."""
    type_, length = _TYPE_LENGTH.unpack_from(data, offset)
    if not 8 <= length <= len(data) - offset:
        raise ValueError(f"expected a structure of 8 to {len(data) - offset} bytes at {offset}, got {length}")
    return type_, length
