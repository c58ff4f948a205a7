# SPDX-License-Identifier: Apache-2.0
"""Build OpenFlow 1.3 messages from the core's flows; nothing else does.

Every method returns whole messages with the transaction id (xid) given.
"""

import struct
from typing import NamedTuple

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_common import NX_EXPERIMENTER_ID, ONF_EXPERIMENTER_ID
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from controller.core.flow_changes import AlikeChanges, FlowChange, FlowChanges, count
from controller.core.flows import (
    COOKIE_MASK,
    COOKIE_OWNER,
    TOLD_OCTETS,
    Action,
    CheckLength,
    Controller,
    DecTtl,
    Goto,
    Kind,
    Local,
    Match,
    Normal,
    Output,
    SetField,
    SetMark,
    Unknown,
    Untag,
)
from controller.core.pipeline import TABLES
from controller.southbound.templates import FLOW_MOD_OFFSET, Templates
from hoaflow.addresses import Prefix, format_address

# ONF bundle flags, EXT-230: all or nothing, in the order given.
BUNDLE_FLAGS = ofp.ONF_BF_ATOMIC | ofp.ONF_BF_ORDERED
# onf_bundle_add_msg before the message in it: header, experimenter and type, bundle, flags (EXT-230).
_BUNDLE_ADD = struct.Struct("!BBHIIII2xH")
# onf_bundle_ctrl_msg: the same, with the type of control in place of the padding.
_BUNDLE_CONTROL = struct.Struct("!BBHIIIIHH")
_HEADER = struct.Struct("!BBHI")
_NUMBER = struct.Struct("!I")

# Open vSwitch's own fields that only IP packets have.
NICIRA_FIELDS = frozenset({"nw_ttl", "ip_frag"})
# The bits that hoaflow's flows match on in wider fields; in ip_frag, NX_IP_FRAG_ANY and NX_IP_FRAG_LATER.
BITS = {"ip_frag": 0x03, "reg0": 0x01}

# struct nx_action_check_pkt_larger after the experimenter (Open vSwitch, lib/ofp-actions.c): subtype, length, and the
# destination of the result, as bit number and field header. Ryu has no class for it.
CHECK_LENGTH = struct.Struct("!HHHI6x")
NXAST_CHECK_PKT_LARGER = 49
REG0 = 0x00010004  # NXM_NX_REG0, four octets

# struct nx_action_controller2 after the experimenter (the same file): subtype, then properties, each with type and
# length, padded to 8 octets: how much of the packet, and the meter.
CONTROLLER2 = struct.Struct("!H6xHHH2xHHI")
NXAST_CONTROLLER2 = 37
NXAC2PT_MAX_LEN, NXAC2PT_METER_ID = 0, 5

WHOLE_COOKIE = (1 << 64) - 1

# The reason of a flow evicted for others (OpenFlow 1.4, OFPRR_EVICTION); Open vSwitch gives it in 1.3, too.
EVICTION = 5

# How many changes a handover makes at the most, about; and how many bundles of so few are remembered.
FEW, REMEMBERED = 16, 16
MAX_XID = 0xFFFFFFFF


class Meter(NamedTuple):
    """How a meter is set that drops: how many packets a second it lets through, and how many at once."""

    rate: int
    burst: int


class Bundle(NamedTuple):
    """The messages of a bundle, from the one that opens it to the barrier behind it.

    `xids` are theirs, in order: of the opening, of each change, of the commit, and of the barrier.
    """

    xids: range
    messages: bytes
    changes: tuple[FlowChange | AlikeChanges, ...]  # kept, as it is by their identities that a bundle is found again


class Encoder:
    """Encode for switches whose tables from number `first_table` on are hoaflow's."""

    def __init__(self, first_table: int) -> None:
        self._numbers = {table.name: first_table + index for index, table in enumerate(TABLES)}
        self.names = {number: name for name, number in self._numbers.items()}
        self._protocol = ProtocolDesc(ofp.OFP_VERSION)
        self._templates = Templates(lambda change: self._in_bundle(self.serialise(change, xid=0)))
        # Those of few changes that were made last, by the identities of these.
        self._latest: dict[tuple[int, ...], Bundle] = {}
        self._last_xid = 0

    def next_xids(self, count: int) -> range:
        """Return so many transaction ids, one after the other, which no other message to any switch has."""
        first = self._last_xid + 1 if self._last_xid + count <= MAX_XID else 1
        self._last_xid = first + count - 1
        return range(first, first + count)

    def flow_mod(self, change: FlowChange, xid: int) -> bytes:
        """Encode an addition or a removal as FlowMod.

        It is an ADD that replaces in place and keeps counters (no RESET_COUNTS), or a strict DELETE by cookie.
        """
        return self.bundle_add(0, change, xid)[FLOW_MOD_OFFSET:]

    def serialise(self, change: FlowChange, xid: int) -> bytes:
        """Encode as `flow_mod` does, but by Ryu, a twentieth as fast; templates are made from that."""
        return self._bytes(self._flow_mod(change), xid)

    def barrier(self, xid: int) -> bytes:
        """Encode a barrier request."""
        return _HEADER.pack(ofp.OFP_VERSION, ofp.OFPT_BARRIER_REQUEST, _HEADER.size, xid)

    def bundle_open(self, bundle: int, xid: int) -> bytes:
        """Encode the request that opens a bundle."""
        return self._bundle_control(bundle, ofp.ONF_BCT_OPEN_REQUEST, xid)

    def bundle_add(self, bundle: int, change: FlowChange, xid: int) -> bytes:
        """Encode the request that adds a change to a bundle; the message in it has the same xid."""
        return self._templates.encode(change, _NUMBER.pack(bundle), xid)

    def bundle(self, changes: FlowChanges) -> Bundle:
        """Encode changes as a bundle of their own, with the barrier behind it.

        All routers that follow a handover are sent the same changes: the very same objects make the very same bundle,
        which is made once.
        """
        same = tuple(map(id, changes)) if count(changes) <= FEW else ()
        made = self._latest.get(same)
        if made is None:
            made = self._make_bundle(changes)
            if same:
                self._latest[same] = made
                if len(self._latest) > REMEMBERED:
                    del self._latest[next(iter(self._latest))]
        return made

    def _make_bundle(self, changes: FlowChanges) -> Bundle:
        xids = self.next_xids(count(changes) + 3)
        opening, closing, barrier = xids[0], xids[-2], xids[-1]
        number, xid = _NUMBER.pack(opening), xids[1]
        parts = [self.bundle_open(opening, opening)]
        for each in changes:
            if isinstance(each, AlikeChanges):
                parts.append(self._templates.encode_all(each, number, xid))
                xid += len(each)
            else:
                parts.append(self._templates.encode(each, number, xid))
                xid += 1
        parts += (self.bundle_commit(opening, closing), self.barrier(barrier))
        return Bundle(xids, b"".join(parts), tuple(changes))

    def bundle_commit(self, bundle: int, xid: int) -> bytes:
        """Encode the request that commits a bundle."""
        return self._bundle_control(bundle, ofp.ONF_BCT_COMMIT_REQUEST, xid)

    def notice_requests(self, xid: int) -> bytes:
        """Encode the request for the notices that a switch sends by default, and for those of evicted flows.

        The masks are pairs: for a controller that may change flows, and for one that may not.
        """
        packets = 1 << ofp.OFPR_NO_MATCH | 1 << ofp.OFPR_ACTION
        ports = 1 << ofp.OFPPR_ADD | 1 << ofp.OFPPR_DELETE | 1 << ofp.OFPPR_MODIFY
        removals = (ofp.OFPRR_IDLE_TIMEOUT, ofp.OFPRR_HARD_TIMEOUT, ofp.OFPRR_DELETE, EVICTION)
        flows = sum(1 << reason for reason in removals)
        return self._bytes(parser.OFPSetAsync(self._protocol, [packets, 0], [ports, ports], [flows, 0]), xid)

    def meter_mod(self, number: int, add: bool, meter: Meter, xid: int) -> bytes:
        """Encode the request to make a meter, or else to change it."""
        command = ofp.OFPMC_ADD if add else ofp.OFPMC_MODIFY
        bands = [parser.OFPMeterBandDrop(meter.rate, meter.burst)]
        flags = ofp.OFPMF_PKTPS | ofp.OFPMF_BURST
        return self._bytes(parser.OFPMeterMod(self._protocol, command, flags, number, bands), xid)

    def meters_request(self, kind: int, xid: int) -> bytes:
        """Encode the request for all meters: how they are set (OFPMP_METER_CONFIG), or their counts (OFPMP_METER)."""
        requests = {
            ofp.OFPMP_METER_CONFIG: parser.OFPMeterConfigStatsRequest,
            ofp.OFPMP_METER: parser.OFPMeterStatsRequest,
        }
        return self._bytes(requests[kind](self._protocol, 0, ofp.OFPM_ALL), xid)

    def role_request(self, role: int, generation: int, xid: int) -> bytes:
        """Encode the request for a role, or with OFPCR_ROLE_NOCHANGE the question which one this controller has."""
        return self._bytes(parser.OFPRoleRequest(self._protocol, role, generation), xid)

    def flow_stats_request(self, xid: int, kind: Kind | None = None) -> bytes:
        """Encode the request for every flow in every table, hoaflow's and others', or for one kind of hoaflow's."""
        cookie, mask = (0, 0) if kind is None else (COOKIE_OWNER | kind, WHOLE_COOKIE)
        request = parser.OFPFlowStatsRequest(
            self._protocol, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, mask, parser.OFPMatch()
        )
        return self._bytes(request, xid)

    def total_request(self, kind: Kind, xid: int) -> bytes:
        """Encode the request for the sum of one kind of flow's counters. Open vSwitch finds the flows by cookie."""
        cookie = COOKIE_OWNER | kind
        request = parser.OFPAggregateStatsRequest(
            self._protocol, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, cookie, WHOLE_COOKIE, parser.OFPMatch()
        )
        return self._bytes(request, xid)

    def deletion(self, kind: Kind, xid: int) -> bytes:
        """Encode the deletion of all flows of one of hoaflow's kinds."""
        request = parser.OFPFlowMod(
            self._protocol,
            cookie=COOKIE_OWNER | kind,
            cookie_mask=WHOLE_COOKIE,
            table_id=ofp.OFPTT_ALL,
            command=ofp.OFPFC_DELETE,
            out_port=ofp.OFPP_ANY,
            out_group=ofp.OFPG_ANY,
        )
        return self._bytes(request, xid)

    def _flow_mod(self, change: FlowChange) -> parser.OFPFlowMod:
        flow = change.flow
        match = _match(flow.match)
        table = self._numbers[flow.table]
        if not change.add:
            return parser.OFPFlowMod(
                self._protocol,
                cookie=COOKIE_OWNER,
                cookie_mask=COOKIE_MASK,
                table_id=table,
                command=ofp.OFPFC_DELETE_STRICT,
                priority=flow.priority,
                out_port=ofp.OFPP_ANY,
                out_group=ofp.OFPG_ANY,
                match=match,
            )
        return parser.OFPFlowMod(
            self._protocol,
            cookie=flow.cookie,
            table_id=table,
            command=ofp.OFPFC_ADD,
            hard_timeout=change.hard_timeout,
            priority=flow.priority,
            flags=0 if flow.kind is Kind.SUPPRESS else ofp.OFPFF_SEND_FLOW_REM,
            match=match,
            instructions=self._instructions(flow.actions),
        )

    def _instructions(self, actions: tuple[Action, ...]) -> list[object]:
        apply: list[object] = []
        instructions: list[object] = []
        for action in actions:
            match action:
                case Normal():
                    apply.append(parser.OFPActionOutput(ofp.OFPP_NORMAL))
                case Output(port):
                    apply.append(parser.OFPActionOutput(port))
                case Controller(meter):
                    limits = (NXAC2PT_MAX_LEN, 6, TOLD_OCTETS, NXAC2PT_METER_ID, 8, meter)
                    data = CONTROLLER2.pack(NXAST_CONTROLLER2, *limits)
                    apply.append(parser.OFPActionExperimenterUnknown(NX_EXPERIMENTER_ID, data))
                case Local():
                    apply.append(parser.OFPActionOutput(ofp.OFPP_LOCAL))
                case DecTtl():
                    apply.append(parser.OFPActionDecNwTtl())
                case Untag():
                    apply.append(parser.OFPActionSetField(vlan_tci=0))
                case CheckLength(length):
                    data = CHECK_LENGTH.pack(NXAST_CHECK_PKT_LARGER, length, 0, REG0)
                    apply.append(parser.OFPActionExperimenterUnknown(NX_EXPERIMENTER_ID, data))
                case SetMark(mark):
                    apply.append(parser.OFPActionSetField(pkt_mark=mark))
                case SetField(field, value):
                    text = format_address(value) if isinstance(value, bytes) else value
                    apply.append(parser.OFPActionSetField(**{field: text}))
                case Goto(table):
                    instructions.append(parser.OFPInstructionGotoTable(self._table_number(table)))
                case Unknown():
                    raise ValueError(f"{action} was read back from a switch and can't be sent to one")
        if apply:
            instructions.insert(0, parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, apply))
        return instructions

    def _table_number(self, name: str) -> int:
        # A miss may lead to another application's table, which has a number only.
        return self._numbers[name] if name in self._numbers else int(name)

    @staticmethod
    def _in_bundle(message: bytes) -> bytes:
        """Return the request that adds a message to bundle 0, with xid 0."""
        header = (ofp.OFP_VERSION, ofp.OFPT_EXPERIMENTER, FLOW_MOD_OFFSET + len(message), 0, ONF_EXPERIMENTER_ID)
        return _BUNDLE_ADD.pack(*header, ofp.ONF_ET_BUNDLE_ADD_MESSAGE, 0, BUNDLE_FLAGS) + message

    @staticmethod
    def _bundle_control(bundle: int, type_: int, xid: int) -> bytes:
        header = (ofp.OFP_VERSION, ofp.OFPT_EXPERIMENTER, _BUNDLE_CONTROL.size, xid, ONF_EXPERIMENTER_ID)
        return _BUNDLE_CONTROL.pack(*header, ofp.ONF_ET_BUNDLE_CONTROL, bundle, type_, BUNDLE_FLAGS)

    @staticmethod
    def _bytes(message: parser.OFPFlowMod, xid: int) -> bytes:
        message.set_xid(xid)
        message.serialize()
        return bytes(message.buf)


def _match(match: Match) -> parser.OFPMatch:
    fields = dict(_oxm(name, value) for name, value in match)
    if not fields.keys().isdisjoint(NICIRA_FIELDS):
        # Ryu orders fields by class and number, which puts Nicira's fields before the eth_type that they require. As
        # NXM_OF_ETH_TYPE, which is the same field to Open vSwitch, it comes first.
        fields["eth_type_nxm"] = fields.pop("eth_type")
    return parser.OFPMatch(**fields)


def _oxm(name: str, value: object) -> tuple[str, object]:
    if name in BITS:
        return name, (value, BITS[name])
    if not isinstance(value, Prefix):
        return name, value
    address = format_address(value.packed)
    return name, address if value.is_host else (address, _mask(value.bits, value.length))


def _mask(bits: int, length: int) -> str:
    return format_address(((1 << bits) - (1 << (bits - length))).to_bytes(bits // 8, "big"))
