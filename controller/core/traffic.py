# SPDX-License-Identifier: Apache-2.0
"""How much a router has carried past the home agents, while flows come and go, and what that took in messages."""

from dataclasses import dataclass
from typing import NamedTuple

DOWNLINK, UPLINK = "downlink", "uplink"
DIRECTIONS = (DOWNLINK, UPLINK)


class Counters(NamedTuple):
    """Packets and bytes."""

    packets: int
    bytes: int

    def plus(self, other: "Counters") -> "Counters":
        """Return the sum of both."""
        return Counters(self.packets + other.packets, self.bytes + other.bytes)


NONE = Counters(0, 0)


class Traffic:
    """Totals by direction that only grow: what the switch's flows count now, and what those counted that are gone."""

    def __init__(self) -> None:
        self._retired = dict.fromkeys(DIRECTIONS, NONE)
        self._seen = dict.fromkeys(DIRECTIONS, NONE)
        self._totals = dict.fromkeys(DIRECTIONS, NONE)
        self._away: set[str] = set()

    def disconnect(self) -> None:
        """The switch is away; flows that end until it is back are not told of."""
        self._away.update(DIRECTIONS)

    def retire(self, direction: str, counted: Counters) -> None:
        """A flow is gone, with these last counts."""
        self._retired[direction] = self._retired[direction].plus(counted)

    def observe(self, direction: str, flows: Counters) -> None:
        """The flows that the switch has count so much together."""
        seen, total = self._seen[direction], self._totals[direction]
        now = flows.plus(self._retired[direction])
        highest = Counters(max(now.packets, seen.packets), max(now.bytes, seen.bytes))
        self._totals[direction] = Counters(
            total.packets + highest.packets - seen.packets, total.bytes + highest.bytes - seen.bytes
        )
        # Less than before: a flow has just gone, and what it had counted is about to be told. But not of one that went
        # while the switch was away.
        self._seen[direction] = now if direction in self._away else highest
        self._away.discard(direction)

    def total(self, direction: str) -> Counters:
        """Return all that was carried in a direction, as last observed."""
        return self._totals[direction]


@dataclass(slots=True)
class MessageCounts:
    """What has passed between controller and switch: flow messages sent, flows that the switch refused, and flows that
    were repaired because somebody else had changed them."""

    added: int = 0
    deleted: int = 0
    refused: int = 0
    repaired: int = 0
