# SPDX-License-Identifier: Apache-2.0
"""Ask what a model of a switch does with a packet: its flows, carried out as OpenFlow says, and nothing else known."""

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from controller.core.flows import (
    Action,
    CheckLength,
    DecTtl,
    Flow,
    Goto,
    Local,
    Match,
    Normal,
    Output,
    SetField,
    SetMark,
    Untag,
)
from hoaflow.addresses import Prefix

Packet = dict[str, object]
FIRST_TABLE = "classify"


class Outcome(NamedTuple):
    """Where a packet goes, as ovs-ofctl writes it, `drop` for nowhere, and what its fields then are."""

    where: str
    packet: Packet


class Pipeline:
    """The flows of a switch at one moment."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self._tables: defaultdict[str, list[tuple[Match, tuple[Action, ...]]]] = defaultdict(list)
        for flow in sorted(flows, key=lambda flow: -flow.priority):
            self._tables[flow.table].append(_meaning(flow))

    def outcome(self, packet: Packet) -> Outcome:
        """Carry out what the flows say. A packet that no flow matches is dropped."""
        packet, table = dict(packet), FIRST_TABLE
        while table:
            actions = next((actions for match, actions in self._tables[table] if _fits(match, packet)), ())
            table = ""
            for action in actions:
                match action:
                    case Normal() | Output() | Local():
                        return Outcome(str(action), packet)
                    case SetField(field, value):
                        packet[field] = value
                    case SetMark(mark):
                        packet["pkt_mark"] = mark
                    case CheckLength(length):
                        packet["reg0"] = int(int(str(packet["length"])) > length)
                    case Goto(name):
                        table = name
                    case DecTtl() | Untag():
                        pass
                    case _:
                        raise AssertionError(f"the model can't carry out {action}")
        return Outcome("drop", packet)


@lru_cache(maxsize=4096)  # to put them together takes most of the time
def _meaning(flow: Flow) -> tuple[Match, tuple[Action, ...]]:
    return flow.match, flow.actions


def _fits(match: Match, packet: Packet) -> bool:
    for name, value in match:
        found = packet.get(name)
        if isinstance(value, Prefix):
            if not isinstance(found, bytes) or not value.contains(Prefix(found, len(found) * 8)):
                return False
        elif found != value:
            return False
    return True
