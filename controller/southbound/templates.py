# SPDX-License-Identifier: Apache-2.0
"""FlowMods from templates: Ryu serialises one flow of each shape, the rest is patched in.

Flows of a shape differ in nothing but addresses, timeout and xid. Ryu encodes some 14,000 flows a second, a template
some 300,000. The bytes are the same: ``tests/test_encoder.py``.
"""

import itertools
import struct
from collections.abc import Callable, Hashable
from dataclasses import replace

from controller.core.addresses import Prefix
from controller.core.flows import Action, Flow, Match, MatchValue, SetField
from controller.core.reconciliation import FlowChange

# Offsets in ofp_header and ofp_flow_mod (OpenFlow 1.3.5, section 7.3.4.1).
XID_OFFSET = 4
HARD_TIMEOUT_OFFSET = 28
_XID = struct.Struct("!I")
_HARD_TIMEOUT = struct.Struct("!H")

Slots = list[bytes]


class TemplateMismatch(Exception):
    """An address does not stand in its message exactly once: an error in this program."""


class Template:
    """One message with the places where xid, timeout and addresses stand."""

    def __init__(self, message: bytes, marks: Slots) -> None:
        """``marks`` are the addresses in ``message``, each of them unlike anything else there."""
        places = [(XID_OFFSET, _XID.size, 0), (HARD_TIMEOUT_OFFSET, _HARD_TIMEOUT.size, 1)]
        for number, mark in enumerate(marks, start=2):
            if message.count(mark) != 1:
                raise TemplateMismatch(f"{mark.hex()} stands {message.count(mark)} times in {message.hex()}")
            places.append((message.index(mark), len(mark), number))
        places.sort()
        self._order = [number for _, _, number in places]
        starts = [0, *(offset + length for offset, length, _ in places)]
        ends = [*(offset for offset, _, _ in places), len(message)]
        self._constant = [message[start:end] for start, end in zip(starts, ends, strict=True)]

    def fill(self, xid: int, hard_timeout: int, addresses: Slots) -> bytes:
        """Return the message with these values."""
        values = [_XID.pack(xid), _HARD_TIMEOUT.pack(hard_timeout), *addresses]
        parts = [self._constant[0]]
        for number, constant in zip(self._order, self._constant[1:], strict=True):
            parts.append(values[number])
            parts.append(constant)
        return b"".join(parts)


class Templates:
    """Encodes flow changes; ``serialise`` does it the slow way, once for each shape."""

    def __init__(self, serialise: Callable[[FlowChange], bytes]) -> None:
        self._serialise = serialise
        self._templates: dict[Hashable, Template] = {}

    def encode(self, change: FlowChange, xid: int) -> bytes:
        """Return the change as a FlowMod."""
        flow = change.flow
        addresses: Slots = []
        shape = (
            change.add,
            flow.kind,
            flow.table,
            flow.priority,
            tuple([_match_shape(name, value, addresses) for name, value in flow.match]),
            tuple([_action_shape(action, addresses) for action in flow.actions]) if change.add else None,
        )
        template = self._templates.get(shape)
        if template is None:
            template = self._templates[shape] = self._make(change)
        return template.fill(xid, change.hard_timeout, addresses)

    def _make(self, change: FlowChange) -> Template:
        marks: Slots = []
        flow = marked(change.flow, marks, actions=change.add)
        return Template(self._serialise(replace(change, flow=flow)), marks)


def _match_shape(name: str, value: MatchValue, addresses: Slots) -> Hashable:
    if isinstance(value, Prefix):
        addresses.append(value.packed)
        return name, value.length
    return name, value


def _action_shape(action: Action, addresses: Slots) -> Hashable:
    if isinstance(action, SetField) and isinstance(action.value, bytes):
        addresses.append(action.value)
        return action.field
    return type(action), action


def marked(flow: Flow, marks: Slots, actions: bool) -> Flow:
    """Return ``flow`` with every address replaced by one of its own, which ``marks`` takes in their order."""
    numbers = itertools.count(1)

    def mark(length: int, prefix_length: int) -> bytes:
        # Different within the first bits, all that a short prefix has, and unlike what else stands in a FlowMod.
        pattern = bytes([0xA5 ^ next(numbers), *range(0x5B, 0x5B + length - 1)])
        keep = (1 << length * 8) - (1 << (length * 8 - prefix_length))
        address = (int.from_bytes(pattern, "big") & keep).to_bytes(length, "big")
        marks.append(address)
        return address

    def mark_match(match: Match) -> Match:
        return tuple(
            (name, Prefix(mark(len(value.packed), value.length), value.length) if isinstance(value, Prefix) else value)
            for name, value in match
        )

    def mark_action(action: Action) -> Action:
        if isinstance(action, SetField) and isinstance(action.value, bytes):
            return SetField(action.field, mark(len(action.value), len(action.value) * 8))
        return action

    match = mark_match(flow.match)
    return replace(flow, match=match, actions=tuple(map(mark_action, flow.actions)) if actions else flow.actions)
