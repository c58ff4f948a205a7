# SPDX-License-Identifier: Apache-2.0
"""Count what a router has carried past the home agents while flows come and go, and its flow messages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hoaflow.addresses import Prefix

DOWNLINK, UPLINK = "downlink", "uplink"
DIRECTIONS = (DOWNLINK, UPLINK)


class Counters(NamedTuple):
    """How many packets and bytes were carried."""

    packets: int
    bytes: int

    def plus(self, other: "Counters") -> "Counters":
        """Return the sum of both."""
        return Counters(self.packets + other.packets, self.bytes + other.bytes)


NO_TRAFFIC = Counters(0, 0)


class Traffic:
    """Totals by direction that only grow, from the counts of present flows and the last counts of those gone."""

    def __init__(self) -> None:
        self._retired = dict.fromkeys(DIRECTIONS, NO_TRAFFIC)
        self._seen = dict.fromkeys(DIRECTIONS, NO_TRAFFIC)
        self._totals = dict.fromkeys(DIRECTIONS, NO_TRAFFIC)
        self._away: set[str] = set()

    def disconnect(self) -> None:
        """Record that the switch is away: it will not report flows that end meanwhile."""
        self._away.update(DIRECTIONS)

    def retire(self, direction: str, counted: Counters) -> None:
        """Add the last counts of a flow that is gone."""
        self._retired[direction] = self._retired[direction].plus(counted)

    def observe(self, direction: str, flows: Counters) -> None:
        """Take in what all present flows of a direction have counted together."""
        seen, total = self._seen[direction], self._totals[direction]
        now = flows.plus(self._retired[direction])
        highest = Counters(max(now.packets, seen.packets), max(now.bytes, seen.bytes))
        self._totals[direction] = Counters(
            total.packets + highest.packets - seen.packets, total.bytes + highest.bytes - seen.bytes
        )
        # Less than before means that a flow has just gone and its last counts are about to be reported. Flows that went
        # while the switch was away are not reported.
        self._seen[direction] = now if direction in self._away else highest
        self._away.discard(direction)

    def total(self, direction: str) -> Counters:
        """Return what was carried in a direction in all, as last observed."""
        return self._totals[direction]


class RetiredCounters:
    """What flows had counted that are gone, of all routers, by home address: as after a handover, or when idle.

    One place for all routers, so that a binding that ends is forgotten without a look at each.
    """

    def __init__(self) -> None:
        self._counted: dict[Prefix, dict[int, Counters]] = {}
        self._dpids: set[int] = set()

    def of(self, home_address: Prefix, dpid: int) -> Counters:
        """Return what was counted for a home address on a router."""
        return self._counted.get(home_address, {}).get(dpid, NO_TRAFFIC)

    def dpids(self, home_address: Prefix) -> Iterable[int]:
        """Return the datapath ids of the routers on which anything was counted for a home address."""
        return self._counted.get(home_address, ())

    def add(self, home_address: Prefix, dpid: int, counted: Counters) -> None:
        """Add the last counts of a flow of a home address on a router."""
        self._dpids.add(dpid)
        self._counted.setdefault(home_address, {})[dpid] = self.of(home_address, dpid).plus(counted)

    def forget(self, home_address: Prefix) -> None:
        """Forget what was counted for a home address."""
        self._counted.pop(home_address, None)

    def forget_router(self, dpid: int) -> None:
        """Forget what was counted on a router, which takes a look at each home address if there is anything."""
        if dpid not in self._dpids:
            return
        self._dpids.discard(dpid)
        for home_address, counted in list(self._counted.items()):
            counted.pop(dpid, None)
            if not counted:
                del self._counted[home_address]


@dataclass(slots=True)
class MessageCounts:
    """Flow messages sent to a switch, flows that it refused, and flows repaired after somebody had changed them."""

    added: int = 0
    deleted: int = 0
    refused: int = 0
    repaired: int = 0


@dataclass(slots=True)
class PacketInDrops:
    """What an on-demand router's switch would have told of packets: held back by its meters, or dropped unread here."""

    metered: int = 0
    unread: int = 0
    _seen: dict[int, int] = field(default_factory=dict)

    def observe(self, meters: Mapping[int, int]) -> None:
        """Take in what each meter has held back, by its number. One that was made anew has begun at 0 again."""
        for meter, count in meters.items():
            seen = self._seen.get(meter, 0)
            self.metered += count - seen if count >= seen else count
        self._seen = dict(meters)
