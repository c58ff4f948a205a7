# SPDX-License-Identifier: Apache-2.0
"""Make FlowMods in bundles from templates: Ryu serialises one flow of each shape, and the rest is patched in.

Flows of one shape differ in addresses, timeout and numbers only. Ryu encodes some 14,000 flows a second, a template
over a million. The bytes are the same: `tests/controller/southbound/test_encoder.py`.
"""

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter

from msgspec.structs import replace

from controller.core.flow_changes import AlikeChanges, FlowChange
from controller.core.flows import Flow, Hole, Pattern, Row, SetField, Shape
from hoaflow.errors import HoaflowError

# Offsets in onf_bundle_add_msg (EXT-230), and in the ofp_flow_mod (OpenFlow 1.3.5, section 7.3.4.1) behind its head.
XID_OFFSET, BUNDLE_OFFSET, FLOW_MOD_OFFSET = 4, 16, 24
HARD_TIMEOUT_OFFSET = 28
MATCH_OFFSET = FLOW_MOD_OFFSET + 48  # no address stands before
_NUMBER = struct.Struct("!I")
_HARD_TIMEOUT = struct.Struct("!H")
_NO_TIMEOUT = _HARD_TIMEOUT.pack(0)
# Xid, bundle, xid in the FlowMod, timeout; addresses come behind them.
_PLACES = (
    (XID_OFFSET, _NUMBER.size),
    (BUNDLE_OFFSET, _NUMBER.size),
    (FLOW_MOD_OFFSET + XID_OFFSET, _NUMBER.size),
    (FLOW_MOD_OFFSET + HARD_TIMEOUT_OFFSET, _HARD_TIMEOUT.size),
)


class TemplateMismatch(HoaflowError):
    """A mark does not occur in its message exactly once. Of hoaflow's own flows that is an error in this program."""


class Template:
    """Hold one message, with the places of its numbers, timeout and addresses."""

    def __init__(self, message: bytes, marks: Sequence[bytes]) -> None:
        """Find the places of `marks`, the addresses in `message`, each unlike anything else there."""
        found = []
        for mark in marks:
            count = message.count(mark, MATCH_OFFSET)
            if count != 1:
                raise TemplateMismatch(f"expected {mark.hex()} once in {message.hex()}, found {count}")
            found.append((message.index(mark, MATCH_OFFSET), len(mark)))
        ordered = sorted(found)
        self._message, self._marks = message, found
        # Puts addresses in the message's order, None if they are. (Of a single one there is no other.)
        self._arrange = None if found == ordered else itemgetter(*map(found.index, ordered))
        # The message as a format for `%`, with a place for each value.
        self._format, end = b"", 0
        for offset, length in (*_PLACES, *ordered):
            self._format += message[end:offset].replace(b"%", b"%%") + b"%b"
            end = offset + length
        self._format += message[end:].replace(b"%", b"%%")

    def fill(self, bundle: bytes, xid: int, hard_timeout: int, addresses: tuple[bytes, ...]) -> bytes:
        """Return the message with these values; `bundle` is a packed number."""
        if self._arrange is not None:
            addresses = self._arrange(addresses)
        number = _NUMBER.pack(xid)
        timeout = _HARD_TIMEOUT.pack(hard_timeout) if hard_timeout else _NO_TIMEOUT
        return self._format % (number, bundle, number, timeout, *addresses)

    def fill_all(self, bundle: bytes, first_xid: int, rows: Sequence[Row]) -> bytes:
        """Return the message once for each row of addresses, with the numbers from `first_xid` on.

        Each octet is filled in all messages at once: a tenth of the time that one message after the other takes.
        """
        size, numbers = len(self._message), struct.pack(f"!{len(rows)}I", *range(first_xid, first_xid + len(rows)))
        whole = bytearray(self._message[:BUNDLE_OFFSET] + bundle + self._message[BUNDLE_OFFSET + len(bundle) :])
        whole *= len(rows)
        columns = [(offset, _NUMBER.size, numbers) for offset in (XID_OFFSET, FLOW_MOD_OFFSET + XID_OFFSET)]
        for (offset, length), addresses in zip(self._marks, zip(*rows, strict=True), strict=False):
            columns.append((offset, length, b"".join(addresses)))
        for offset, length, column in columns:
            for octet in range(length):
                whole[offset + octet :: size] = column[octet::length]
        return bytes(whole)


class Templates:
    """Encode flow changes; `serialise` is called once for each shape that is added or pattern that is deleted."""

    def __init__(self, serialise: Callable[[FlowChange], bytes]) -> None:
        """Make templates by `serialise`, which puts a change in a bundle."""
        self._serialise = serialise
        self._additions: dict[Shape, Template] = {}
        self._deletions: dict[Pattern, Template] = {}

    def encode(self, change: FlowChange, bundle: bytes, xid: int) -> bytes:
        """Return the change as a FlowMod that is added to a bundle; `bundle` is a packed number."""
        flow = change.flow
        addresses = flow.key[1:]
        if change.add:
            return self._addition(change).fill(bundle, xid, change.hard_timeout, addresses + flow.values)
        try:
            return self._deletion(change).fill(bundle, xid, 0, addresses)
        except TemplateMismatch:  # somebody has put it into the switch with hoaflow's cookie
            return Template(self._serialise(change), ()).fill(bundle, xid, 0, ())

    def encode_all(self, changes: AlikeChanges, bundle: bytes, first_xid: int) -> bytes:
        """Return changes as FlowMods that are added to a bundle, with the numbers from `first_xid` on."""
        one = next(iter(changes))
        template = self._addition(one) if changes.add else self._deletion(one)
        return template.fill_all(bundle, first_xid, changes.rows)

    def _addition(self, change: FlowChange) -> Template:
        template = self._additions.get(change.flow.shape)
        if template is None:
            template = self._additions[change.flow.shape] = self._make(change)
        return template

    def _deletion(self, change: FlowChange) -> Template:
        """Return the template of a pattern's deletions. Raises TemplateMismatch."""
        pattern = change.flow.shape.pattern
        template = self._deletions.get(pattern)
        if template is None:
            template = self._deletions[pattern] = self._make(change)
        return template

    def _make(self, change: FlowChange) -> Template:
        flow = marked(change.flow)
        marks = flow.addresses + flow.values if change.add else flow.addresses
        return Template(self._serialise(replace(change, flow=flow, hard_timeout=0)), marks)


def marked(flow: Flow) -> Flow:
    """Return `flow` with every address replaced by a unique one."""
    holes = [value for _, value in flow.shape.pattern.fields if isinstance(value, Hole)]
    matched = len(holes)
    holes += [a.value for a in flow.shape.actions if isinstance(a, SetField) and isinstance(a.value, Hole)]
    marks = tuple(_mark(hole, number) for number, hole in enumerate(holes, start=1))
    return Flow(flow.shape, (flow.shape.pattern, *marks[:matched]), marks[matched:])


def _mark(hole: Hole, number: int) -> bytes:
    # Different in the first bits, which are all that a short prefix has, and unlike anything else in a FlowMod.
    length = hole.bits // 8
    pattern = bytes([0xA5 ^ number, *range(0x5B, 0x5B + length - 1)])
    keep = (1 << hole.bits) - (1 << (hole.bits - hole.length))
    return (int.from_bytes(pattern, "big") & keep).to_bytes(length, "big")
