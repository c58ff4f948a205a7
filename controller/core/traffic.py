# SPDX-License-Identifier: Apache-2.0
"""How much a router has carried past the home agents, while flows come and go."""

from typing import NamedTuple

DOWNLINK, UPLINK = "downlink", "uplink"
DIRECTIONS = (DOWNLINK, UPLINK)


class Counters(NamedTuple):
    """Packets and bytes."""

    packets: int
    bytes: int


NONE = Counters(0, 0)


class Traffic:
    """Totals by direction that only grow: what the switch's flows count now, and what those counted that are gone."""

    def __init__(self) -> None:
        self._retired = dict.fromkeys(DIRECTIONS, NONE)
        self._seen = dict.fromkeys(DIRECTIONS, NONE)
        self._totals = dict.fromkeys(DIRECTIONS, NONE)

    def retire(self, direction: str, packets: int, bytes_: int) -> None:
        """A flow is gone, with these last counts."""
        before = self._retired[direction]
        self._retired[direction] = Counters(before.packets + packets, before.bytes + bytes_)

    def observe(self, direction: str, flows: Counters) -> None:
        """The flows that the switch has count so much together."""
        retired, seen, total = self._retired[direction], self._seen[direction], self._totals[direction]
        now = Counters(flows.packets + retired.packets, flows.bytes + retired.bytes)
        # Less than before: flows went away unseen, while the switch was not connected. What they counted is in already.
        grown = (max(0, now.packets - seen.packets), max(0, now.bytes - seen.bytes))
        self._seen[direction] = now
        self._totals[direction] = Counters(total.packets + grown[0], total.bytes + grown[1])

    def total(self, direction: str) -> Counters:
        """Return all that was carried in a direction, as last observed."""
        return self._totals[direction]
