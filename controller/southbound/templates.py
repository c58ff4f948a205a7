# SPDX-License-Identifier: Apache-2.0
"""Make FlowMods from templates: Ryu serialises one flow of each shape, and the rest is patched in.

Flows of one shape differ in addresses, timeout and xid only. Ryu encodes some 14,000 flows a second, a template over a
million. The bytes are the same: `tests/controller/southbound/test_encoder.py`.
"""

import struct
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from controller.core.batches import FlowChange
from controller.core.flows import Flow, Hole, Pattern, SetField, Shape
from hoaflow.errors import HoaflowError

# Offsets in ofp_header and ofp_flow_mod (OpenFlow 1.3.5, section 7.3.4.1).
XID_OFFSET = 4
HARD_TIMEOUT_OFFSET = 28
_XID = struct.Struct("!I")
_HARD_TIMEOUT = struct.Struct("!H")


class TemplateMismatch(HoaflowError):
    """An address does not occur in its message exactly once: an error in this program."""


class Template:
    """Hold one message, with the places of its xid, timeout and addresses."""

    def __init__(self, message: bytes, marks: Sequence[bytes]) -> None:
        """Find the places of `marks`, the addresses in `message`, each unlike anything else there."""
        places = [(XID_OFFSET, _XID.size), (HARD_TIMEOUT_OFFSET, _HARD_TIMEOUT.size)]
        for mark in marks:
            if message.count(mark) != 1:
                raise TemplateMismatch(f"expected {mark.hex()} once in {message.hex()}, found {message.count(mark)}")
            places.append((message.index(mark), len(mark)))
        ordered = sorted(places)
        # The message in parts: constant, value, constant, value, ..., constant.
        self._parts: list[bytes] = []
        end = 0
        for offset, length in ordered:
            self._parts += (message[end:offset], message[offset : offset + length])
            end = offset + length
        self._parts.append(message[end:])
        self._xid, self._timeout, *self._addresses = (2 * ordered.index(place) + 1 for place in places)

    def fill(self, xid: int, hard_timeout: int, addresses: Sequence[bytes]) -> bytes:
        """Return the message with these values."""
        parts = self._parts.copy()
        parts[self._xid] = _XID.pack(xid)
        parts[self._timeout] = _HARD_TIMEOUT.pack(hard_timeout)
        for place, address in zip(self._addresses, addresses, strict=True):
            parts[place] = address
        return b"".join(parts)


class Templates:
    """Encode flow changes; `serialise` is called once for each shape that is added or pattern that is deleted."""

    def __init__(self, serialise: Callable[[FlowChange], bytes]) -> None:
        self._serialise = serialise
        self._additions: dict[Shape, Template] = {}
        self._deletions: dict[Pattern, Template] = {}

    def encode(self, change: FlowChange, xid: int) -> bytes:
        """Return the change as a FlowMod."""
        shape, addresses = change.flow.shape, change.flow.addresses
        if change.add:
            template = self._additions.get(shape)
            if template is None:
                template = self._additions[shape] = self._make(change)
            return template.fill(xid, change.hard_timeout, addresses + change.flow.values)
        template = self._deletions.get(shape.pattern)
        if template is None:
            template = self._deletions[shape.pattern] = self._make(change)
        return template.fill(xid, 0, addresses)

    def _make(self, change: FlowChange) -> Template:
        flow = marked(change.flow)
        marks = flow.addresses + flow.values if change.add else flow.addresses
        return Template(self._serialise(replace(change, flow=flow)), marks)


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
