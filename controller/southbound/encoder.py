# SPDX-License-Identifier: Apache-2.0
"""The one place that builds and reads OpenFlow bytes: between the core's flows and OpenFlow 1.3 messages.

Every function returns whole messages with the transaction id (xid) that it was given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as parser
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from controller.core.addresses import ADDRESS_BITS, Prefix, format_address, parse_address
from controller.core.flows import (
    COOKIE_MASK,
    COOKIE_OWNER,
    Action,
    Flow,
    FlowKey,
    Goto,
    Kind,
    Match,
    Normal,
    Output,
    SetEthDst,
    Unknown,
    is_ours,
    match_value,
)
from controller.core.pipeline import TABLES
from controller.core.reconciliation import Entry, FlowChange

# ONF bundle flags, EXT-230: all or nothing, in the order given.
BUNDLE_FLAGS = ofp.ONF_BF_ATOMIC | ofp.ONF_BF_ORDERED


@dataclass(frozen=True, slots=True)
class InstalledFlow:
    """One flow as a switch reports it.

    ``key`` is None in tables that are not ours, ``entry`` for another application's flow.
    """

    key: FlowKey | None
    entry: Entry | None
    packets: int
    bytes: int


class Encoder:
    """Encodes for switches whose first table of ours is number ``first_table``."""

    def __init__(self, first_table: int) -> None:
        self._numbers = {table.name: first_table + index for index, table in enumerate(TABLES)}
        self._names = {number: name for name, number in self._numbers.items()}
        self._protocol = ProtocolDesc(ofp.OFP_VERSION)

    def flow_mod(self, change: FlowChange, xid: int) -> bytes:
        """An ADD that replaces in place and keeps counters (no RESET_COUNTS), or a strict DELETE by cookie."""
        return self._bytes(self._flow_mod(change), xid)

    def barrier(self, xid: int) -> bytes:
        """A barrier request."""
        return self._bytes(parser.OFPBarrierRequest(self._protocol), xid)

    def bundle_open(self, bundle: int, xid: int) -> bytes:
        """Open a bundle."""
        return self._bundle_control(bundle, ofp.ONF_BCT_OPEN_REQUEST, xid)

    def bundle_add(self, bundle: int, change: FlowChange, xid: int) -> bytes:
        """Put one flow change into a bundle."""
        message = parser.ONFBundleAddMsg(self._protocol, bundle, BUNDLE_FLAGS, self._flow_mod(change), [])
        return self._bytes(message, xid)

    def bundle_commit(self, bundle: int, xid: int) -> bytes:
        """Close and commit a bundle."""
        return self._bundle_control(bundle, ofp.ONF_BCT_COMMIT_REQUEST, xid)

    def flow_stats_request(self, xid: int) -> bytes:
        """Ask for every flow in every table, ours and others'."""
        request = parser.OFPFlowStatsRequest(
            self._protocol, 0, ofp.OFPTT_ALL, ofp.OFPP_ANY, ofp.OFPG_ANY, 0, 0, parser.OFPMatch()
        )
        return self._bytes(request, xid)

    def read(self, statistics: Sequence[parser.OFPFlowStats], now: float) -> list[InstalledFlow]:
        """Turn a switch's flow statistics into flows; those of other applications only keep their key."""
        return [self._read(stats, now) for stats in statistics]

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
                case SetEthDst(mac):
                    apply.append(parser.OFPActionSetField(eth_dst=mac))
                case Goto(table):
                    instructions.append(parser.OFPInstructionGotoTable(self._table_number(table)))
                case Unknown():
                    raise ValueError(f"{action} was read back from a switch and can't be sent to one")
        if apply:
            instructions.insert(0, parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, apply))
        return instructions

    def _table_number(self, name: str) -> int:
        # A miss may lead to a table of another application's, which has a number only.
        return self._numbers[name] if name in self._numbers else int(name)

    def _bundle_control(self, bundle: int, type_: int, xid: int) -> bytes:
        return self._bytes(parser.ONFBundleCtrlMsg(self._protocol, bundle, type_, BUNDLE_FLAGS, []), xid)

    @staticmethod
    def _bytes(message: parser.OFPFlowMod, xid: int) -> bytes:
        message.set_xid(xid)
        message.serialize()
        return bytes(message.buf)

    def _read(self, stats: parser.OFPFlowStats, now: float) -> InstalledFlow:
        table = self._names.get(stats.table_id)
        if table is None:
            return InstalledFlow(None, None, stats.packet_count, stats.byte_count)
        key = FlowKey(table, stats.priority, _read_match(stats.match))
        if not is_ours(stats.cookie):
            return InstalledFlow(key, None, stats.packet_count, stats.byte_count)
        actions = tuple(self._read_actions(stats.instructions))
        kind = stats.cookie & 0xFF
        known = kind in Kind.__members__.values()
        flow = Flow(
            Kind(kind) if known else Kind.MISS,
            table,
            stats.priority,
            key.match,
            actions if known else (Unknown(f"kind {kind}"),),
            _serves(Kind(kind), key.match) if known else None,
        )
        left = stats.hard_timeout - (stats.duration_sec + stats.duration_nsec / 1e9) if stats.hard_timeout else None
        entry = Entry(flow, None if left is None else now + left)
        return InstalledFlow(key, entry, stats.packet_count, stats.byte_count)

    def _read_actions(self, instructions: Sequence[object]) -> list[Action]:
        actions: list[Action] = []
        for instruction in instructions:
            if isinstance(instruction, parser.OFPInstructionGotoTable):
                number = instruction.table_id
                actions.append(Goto(self._names.get(number, str(number))))
            elif isinstance(instruction, parser.OFPInstructionActions) and instruction.type == ofp.OFPIT_APPLY_ACTIONS:
                actions.extend(_read_action(action) for action in instruction.actions)
            else:
                actions.append(Unknown(str(instruction)))
        return actions


def _match(match: Match) -> parser.OFPMatch:
    fields = dict(_oxm(name, value) for name, value in match)
    if "nw_ttl" in fields:
        # Ryu orders fields by class and number, which puts Nicira's own before the eth_type that they require; as
        # NXM_OF_ETH_TYPE, the same field to Open vSwitch, that comes first.
        fields["eth_type_nxm"] = fields.pop("eth_type")
    return parser.OFPMatch(**fields)


def _oxm(name: str, value: object) -> tuple[str, object]:
    if not isinstance(value, Prefix):
        return name, value
    address = format_address(value.packed)
    return name, address if value.is_host else (address, _mask(value.length))


def _mask(length: int) -> str:
    return format_address(((1 << ADDRESS_BITS) - (1 << (ADDRESS_BITS - length))).to_bytes(16, "big"))


def _read_match(match: parser.OFPMatch) -> Match:
    return tuple(sorted((name, _read_value(name, value)) for name, value in match.items()))


def _read_value(name: str, value: object) -> int | Prefix | str:
    if name in ("ipv6_src", "ipv6_dst"):
        address, mask = value if isinstance(value, tuple) else (value, _mask(ADDRESS_BITS))
        length = int.from_bytes(parse_address(mask), "big").bit_count()
        # Masks with holes are nothing of ours: their text tells them from every prefix.
        return Prefix(parse_address(address), length) if mask == _mask(length) else str(value)
    return value if isinstance(value, int) else str(value)


def _read_action(action: object) -> Action:
    if isinstance(action, parser.OFPActionOutput):
        return Normal() if action.port == ofp.OFPP_NORMAL else Output(action.port)
    if isinstance(action, parser.OFPActionSetField) and action.key == "eth_dst":
        return SetEthDst(action.value)
    return Unknown(str(action))


def _serves(kind: Kind, match: Match) -> Prefix | None:
    value = match_value(match, "ipv6_src" if kind is Kind.UPLINK else "ipv6_dst")
    return value if isinstance(value, Prefix) else None
