# SPDX-License-Identifier: Apache-2.0
"""Decode the flows that a switch reports, installed or removed, from OpenFlow 1.3.

Ryu's parser would not do: a switch may hold other applications' flows with actions that Ryu can't parse, and hundreds
of thousands of hoaflow's. Of another application's flow only the key matters, and only if one of hoaflow's may have it.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto.ofproto_common import NX_EXPERIMENTER_ID

from controller.core.flows import (
    TOLD_OCTETS,
    Action,
    CheckLength,
    Controller,
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
from controller.core.installed import AlikeFlows, FlowEntry, ReportedFlow
from controller.core.traffic import Counters
from controller.southbound.encoder import (
    BITS,
    CHECK_LENGTH,
    CONTROLLER2,
    NXAC2PT_MAX_LEN,
    NXAC2PT_METER_ID,
    NXAST_CHECK_PKT_LARGER,
    NXAST_CONTROLLER2,
    REG0,
)
from controller.southbound.layouts import (
    BYTES,
    FIRST_RUN,
    LONGEST_RUN,
    NANOSECONDS,
    PACKETS,
    SECONDS,
    STATISTICS,
    TIMEOUT,
    Fields,
    FlowLayout,
    Layout,
)
from hoaflow.addresses import Prefix

# ofp_header, ofp_flow_removed up to its match (OpenFlow 1.3.5, section 7.4.2).
_REMOVED = struct.Struct("!8xQHBBIIHHQQ")
# ofp_header and ofp_multipart_reply (OpenFlow 1.3.5, section 7.3.5): the flags.
_PART = struct.Struct("!10xH4x")
_LOOKS = struct.Struct("!HB9xH10xQ")
_TYPE_LENGTH = struct.Struct("!HH")
_OXM = struct.Struct("!HBB")
_OUTPUT = struct.Struct("!HHI")
_EXPERIMENTER = struct.Struct("!4xI")
_CHECK_LENGTH_SIZE = _EXPERIMENTER.size + CHECK_LENGTH.size
_CONTROLLER2_SIZE = _EXPERIMENTER.size + CONTROLLER2.size

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
    (NXM_1, 31): "tun_ipv4_src",
    (NXM_1, 32): "tun_ipv4_dst",
    (NXM_1, 109): "tun_ipv6_src",
    (NXM_1, 110): "tun_ipv6_dst",
}
OCTETS = dict.fromkeys(FIELDS.values(), 4) | {
    **dict.fromkeys(("ip_proto", "icmpv6_type", "ip_frag", "nw_ttl"), 1),
    **dict.fromkeys(("eth_type", "vlan_tci"), 2),
    **dict.fromkeys(("eth_dst", "eth_src"), 6),
    **dict.fromkeys(("ipv6_src", "ipv6_dst", "tun_ipv6_src", "tun_ipv6_dst"), 16),
}
MAC_FIELDS = {"eth_dst", "eth_src"}
ADDRESS_FIELDS = {f"{of}{family}_{end}" for of in ("", "tun_") for family in ("ipv4", "ipv6") for end in ("src", "dst")}
# Most layouts that are learned. Each kind of flow has a few; the limit is for flows that something else has made.
MOST_LAYOUTS = 1000
_RESERVED_PORTS: dict[int, Action] = {ofp.OFPP_NORMAL: Normal(), ofp.OFPP_LOCAL: Local()}

K = TypeVar("K")
L = TypeVar("L")


class RemovedFlow(NamedTuple):
    """A flow of hoaflow's that a switch has removed, why (OFPRR), and what it had counted."""

    key: FlowKey
    reason: int
    counted: Counters


class _Looks(NamedTuple):
    """What the statistics of flows of one shape have in common."""

    length: int
    table: int
    priority: int
    cookie: int

    @classmethod
    def at(cls, statistics: bytes, offset: int) -> "_Looks":
        """Return those of the flow at `offset`. Raises ValueError for an impossible length."""
        room = len(statistics) - offset
        if room < STATISTICS.size:
            raise ValueError(f"expected flow statistics of at least {STATISTICS.size} bytes, got {room}")
        found = cls(*_LOOKS.unpack_from(statistics, offset))
        if not STATISTICS.size <= found.length <= room:
            raise ValueError(f"expected flow statistics of {STATISTICS.size} to {room} bytes, got {found.length}")
        return found


class Decoder:
    """Decode flow statistics and notices of removal; `names` are those of hoaflow's tables, by number.

    Flows of one shape differ in addresses only, so the addresses' places are learned from the first such flow.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self._names = names
        self._flows: dict[_Looks, FlowLayout] = {}
        # By table, priority and length.
        self._patterns: dict[tuple[int, int, int], Layout[Pattern]] = {}

    def removed(self, message: bytes) -> RemovedFlow | None:
        """Return what a FlowRemoved message says; None if the flow was another application's."""
        cookie, priority, reason, table_id, *_, packets, size = _REMOVED.unpack_from(message)
        table, data = self._names.get(table_id), message[_REMOVED.size :]
        if table is None or not is_ours(cookie):
            return None
        alike = (table_id, priority, len(data))
        layout = self._patterns.get(alike)
        fields = None if layout is None else layout.fields(data, 0)
        if layout is not None and fields is not None:
            key: FlowKey = (layout.example, *layout.matched(fields))
        else:
            match, _ = _match(data)
            if match is None:
                return None
            key = make_key(table, priority, match)
            _learn(self._patterns, alike, Layout(key[0], data, "", key[1:]))
        return RemovedFlow(key, reason, Counters(packets, size))

    def decode(self, statistics: bytes, now: float) -> list[ReportedFlow | AlikeFlows]:
        """Return the flows in hoaflow's tables; another application's only if one of hoaflow's may have its key.

        `statistics`: those of flows, one after the other. Raises ValueError, also struct.error, for what can't be.
        """
        flows: list[ReportedFlow | AlikeFlows] = []
        layout: FlowLayout | None = None
        offset, longest = 0, FIRST_RUN
        while offset < len(statistics):
            # Most flows look like the one before, as Open vSwitch goes through one table after the other.
            run = None if layout is None else layout.run(statistics, offset, longest)
            if run is None:
                looks = _Looks.at(statistics, offset)
                layout, longest = self._flows.get(looks), FIRST_RUN
                run = None if layout is None else layout.run(statistics, offset, longest)
            if layout is not None and run is not None:
                flows.append(run)
                offset += layout.size * len(run.rows)
                longest = min(2 * longest, LONGEST_RUN) if len(run.rows) == longest else FIRST_RUN
            else:
                fields = None if layout is None else layout.fields(statistics, offset)
                if layout is not None and fields is not None:
                    flows.append(_told(layout, fields, now))
                elif (found := self._flow(statistics[offset : offset + looks.length], looks, now)) is not None:
                    flows.append(found)
                offset += looks.length
        return flows

    def _flow(self, data: bytes, looks: _Looks, now: float) -> ReportedFlow | None:
        """Return the flow that these bytes tell of, and learn its layout; None for one that can't have a key of ours.

        A flow with hoaflow's cookie that matches on other fields can't be deleted by its key.
        """
        table, rest = self._names.get(looks.table), data[STATISTICS.size :]
        match, length = _match(rest)
        if table is None or match is None:
            return None
        fields = STATISTICS.unpack_from(data)
        key = make_key(table, looks.priority, match)
        if not is_ours(looks.cookie):
            return ReportedFlow(key, None, fields[PACKETS], fields[BYTES])
        actions = tuple(_instructions(rest[length:], self._names))
        kind = looks.cookie & 0xFF
        if kind not in Kind.__members__.values():
            kind, actions = Kind.MISS, (Unknown(f"kind {kind}"),)
        flow = make_flow(Kind(kind), table, looks.priority, match, actions)
        _learn(self._flows, looks, FlowLayout(flow, data))
        return ReportedFlow(key, FlowEntry(flow, _ends(fields, now)), fields[PACKETS], fields[BYTES])


def _told(layout: FlowLayout, fields: Fields, now: float) -> ReportedFlow:
    """Return one flow of a layout by itself, as those are told that end."""
    flow = Flow(layout.example.shape, (layout.example.key[0], *layout.matched(fields)), layout.values(fields))
    return ReportedFlow(flow.key, FlowEntry(flow, _ends(fields, now)), fields[PACKETS], fields[BYTES])


def part_of(message: bytes) -> tuple[bytes, bool]:
    """Return what a part of a multipart reply holds, and whether it is the last. Raises struct.error."""
    (flags,) = _PART.unpack_from(message)
    return message[_PART.size :], not flags & ofp.OFPMPF_REPLY_MORE


def _learn(layouts: dict[K, L], alike: K, layout: L) -> None:
    if alike in layouts or len(layouts) < MOST_LAYOUTS:
        layouts[alike] = layout


def _ends(fields: Fields, now: float) -> float | None:
    """Return when a flow ends, None for never, by what begins its statistics."""
    timeout, age = fields[TIMEOUT], fields[SECONDS] + fields[NANOSECONDS] / 1e9
    return now + timeout - age if timeout else None


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
    """Return a field's value; None if hoaflow's have no such mask. Raises ValueError for a wrong size."""
    if len(data) != OCTETS[name] << masked:
        raise ValueError(f"expected {OCTETS[name] << masked} octets of {name}, got {len(data)}")
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
        if name is not None and len(value) != OCTETS[name] << (field_and_mask & 1):
            raise ValueError(f"expected {OCTETS[name]} octets of {name}, got {len(value)}")
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
    if type_ == ofp.OFPAT_EXPERIMENTER and len(data) == _CONTROLLER2_SIZE:
        *told, meter = (*_EXPERIMENTER.unpack_from(data), *CONTROLLER2.unpack_from(data, _EXPERIMENTER.size))
        properties = (NXAC2PT_MAX_LEN, 6, TOLD_OCTETS, NXAC2PT_METER_ID, 8)
        if tuple(told) == (NX_EXPERIMENTER_ID, NXAST_CONTROLLER2, *properties):
            return Controller(meter)
    return Unknown(f"action {type_}")


def _advance(data: bytes, offset: int) -> tuple[int, int]:
    """Return type and length of the structure at `offset`. Raises ValueError for an impossible length."""
    type_, length = _TYPE_LENGTH.unpack_from(data, offset)
    if not 8 <= length <= len(data) - offset:
        raise ValueError(f"expected a structure of 8 to {len(data) - offset} bytes at {offset}, got {length}")
    return type_, length
