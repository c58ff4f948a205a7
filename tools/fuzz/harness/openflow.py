# SPDX-License-Identifier: Apache-2.0
"""Read what a switch, or anybody who connects to the OpenFlow port, sends."""

import struct
from collections.abc import Iterator

from ryu.controller.handler import MAIN_DISPATCHER
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto.ofproto_protocol import ProtocolDesc

from controller.core.flow_changes import FlowChange
from controller.core.flows import Unknown
from controller.core.installed import ReportedFlow, one_by_one
from controller.southbound import guard, manager
from controller.southbound.decoder import Decoder
from controller.southbound.encoder import NICIRA_FIELDS, Encoder
from controller.southbound.receiving import receive
from hoaflow.addresses import Prefix

manager.repair()
guard.install()

HEADER = struct.Struct("!BBHI")  # version, type, length, xid
FIRST_TABLE = 3
ENCODER = Encoder(FIRST_TABLE)
NOW = 1000.0
REMOVED_MATCH = 48  # where the match of a FlowRemoved begins (OpenFlow 1.3.5, section 7.4.2)


def message(data: bytes) -> None:
    """Have Ryu's parsers read a message, of the version and with the length that it says."""
    if len(data) < HEADER.size:
        return
    version, kind, length, xid = HEADER.unpack_from(data)
    guard.parse(ProtocolDesc(version=ofp.OFP_VERSION), version, kind, length, xid, data)


class _Peer:
    """A datapath and its socket, from which the input comes in pieces; what is delivered is kept."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.socket, self.state = self, MAIN_DISPATCHER
        self.delivered: list[tuple[int, int, bytes]] = []

    def recv(self, _most: int) -> bytes:
        return next(self._pieces, b"")

    def deliver(self, kind: int, xid: int, message: bytes) -> bool:
        self.delivered.append((kind, xid, message))
        return True


def stream(data: bytes) -> None:
    """Cut a stream into messages: all of it and nothing else, whatever its segments."""
    whole, pieces = _Peer(iter([data])), _Peer(data[at : at + 7] for at in range(0, len(data), 7))
    receive(whole)
    receive(pieces)
    assert whole.delivered == pieces.delivered, "the messages depend on the segments"
    assert data.startswith(b"".join(message for _, _, message in whole.delivered)), "something is lost or added"


def flows(data: bytes) -> None:
    """Read flow statistics twice: by what is learned from the flows before, as without. What is ours can be deleted."""
    alone: list[ReportedFlow] = []
    offset = 0
    while offset < len(data):
        (length,) = struct.unpack_from("!H", data, offset)
        part = data[offset : offset + length] if length else data[offset:]
        alone += one_by_one(Decoder(ENCODER.names).decode(part, NOW))
        offset += length
    learned = Decoder(ENCODER.names)
    assert list(one_by_one(learned.decode(data, NOW))) == alone, "what was learned changes what is read"
    assert list(one_by_one(learned.decode(data, NOW))) == alone, "what was learned changes what is read"
    for flow in alone:
        _check_deletable(flow)


def _check_deletable(found: ReportedFlow) -> None:
    """Check that a flow of ours is deleted by the key under which it was read."""
    if found.entry is None:
        return
    match = found.entry.flow.match
    if any(name in NICIRA_FIELDS for name, _ in match):
        return  # sent with a field of Nicira's for eth_type, which Open vSwitch does not report
    if any(isinstance(value, Prefix) and value.shortened(value.length) != value for _, value in match):
        return  # bits outside the mask, which a switch does not hold
    change = FlowChange(found.entry.flow, add=False)
    sent = ENCODER.flow_mod(change, 1)
    assert sent == ENCODER.serialise(change, 1), "the template makes another message of it"
    packed = sent[REMOVED_MATCH:]
    head = struct.pack("!HBxIIHHHH4xQQQ", 48 + len(packed), sent[24], 0, 0, found.entry.flow.priority, 0, 0, 0, 0, 0, 0)
    (again,) = one_by_one(Decoder(ENCODER.names).decode(head + packed, NOW))
    assert again.key == found.key, "it would delete another flow"
    if not any(isinstance(action, Unknown) for action in found.entry.flow.actions):
        assert len(ENCODER.flow_mod(FlowChange(found.entry.flow, add=True), 1)) >= len(sent)


def removals(data: bytes) -> None:
    """Read the notice that a flow is gone: by what is learned from it, as without."""
    decoder = Decoder(ENCODER.names)
    first = decoder.removed(data)
    assert decoder.removed(data) == first, "what was learned changes what is read"
