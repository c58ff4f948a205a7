# SPDX-License-Identifier: Apache-2.0
"""Take in the flows that a switch says it has when nothing is known of it yet, and find those that are desired.

Nearly all are, after a restart or as the next master of a router. Gates are renewed only when all is compared, so this
is done without making a flow of each: what is read and what is desired are compared as the addresses in which flows of
one shape differ.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from controller.core.flow_units import DesiredModel, FlowUnit, UnitShapes, rows_of
from controller.core.flows import FlowKey, Shape, told_flow
from controller.core.installed import AlikeFlows, FlowEntry, InstalledFlows
from controller.core.subject_queue import Subject
from hoaflow.addresses import Prefix

# How many home addresses are compared before other greenlets run.
AT_ONCE = 300
# Changes of what is desired that are remembered while the comparison goes on; after more, all is compared again.
MOST_CHANGES = 1000


class FirstReading:
    """The flows that a switch says it has, taken in part by part, and compared with the desired ones, part by part.

    What is desired may change meanwhile: that is told, and compared when the reading has ended.
    """

    def __init__(self, installed: InstalledFlows, desired: DesiredModel) -> None:
        """Begin to read."""
        self._installed = installed
        self._desired = desired
        # Of each flow the octets of its addresses: one object is made, hashed and compared in half of a tuple's time.
        self._rows: defaultdict[Shape, set[bytes]] = defaultdict(set)
        self._foreign: dict[FlowKey, None] = {}
        # Flows that are gone since they were read, and whether for want of room; to be recorded after ``end``.
        self.removed: dict[FlowKey, bool] = {}
        self._uncompared: list[Prefix] | None = None  # None: the comparison has not begun
        self._different: dict[Subject, None] = {}
        self._changes: list[Callable[[], None]] | None = []  # None: too many, or all has changed

    def add(self, entry: FlowEntry) -> None:
        """Take in a flow of ours that the switch has."""
        self._installed.put(entry.flow, entry.expires_at)

    def add_alike(self, flows: AlikeFlows) -> None:
        """Take in flows of ours that the switch has."""
        self._rows[flows.shape].update(flows.rows)

    def add_foreign(self, key: FlowKey) -> None:
        """Take in the key of another application's flow."""
        self._foreign[key] = None

    def flow_removed(self, key: FlowKey, evicted: bool) -> None:
        """Take in that a flow is gone; ``evicted``: for want of room.

        A switch answers in order, so what it says before it says any flow was so before it looked.
        """
        if self._rows or self._foreign or len(self._installed):
            self.removed[key] = evicted

    def compare(self, now: float) -> bool:
        """Compare some of what has been read, all of it, with what is desired; tell whether there is more."""
        if self._uncompared is None:
            self._uncompared = self._desired.home_addresses()
            if self._foreign:  # any of them may be in a unit's place
                self._uncompared, self._different = [], dict.fromkeys(self._uncompared)
        some = self._uncompared[-AT_ONCE:]
        del self._uncompared[-AT_ONCE:]
        taken = self._take(self._desired.units_of(some, now))
        self._installed.put_units(taken)
        standing = {unit.home_address for unit in taken}
        self._different.update((each, None) for each in some if each not in standing)
        self._different.update((unit.shared, None) for unit in taken if unit.shared is not None)
        return bool(self._uncompared)

    def _take(self, units: Iterable[FlowUnit]) -> list[FlowUnit]:
        """Take off the flows of those units all of whose flows have been read, and return these units."""
        alike: defaultdict[UnitShapes, list[FlowUnit]] = defaultdict(list)
        for unit in units:
            alike[unit.shapes].append(unit)
        return [unit for shapes, each in alike.items() for unit in self._take_alike(shapes, each)]

    def _take_alike(self, shapes: UnitShapes, units: list[FlowUnit]) -> list[FlowUnit]:
        """Take off those of some units with the same shapes, all at once where none differs, as is the rule."""
        wanted = [(self._rows[shape], set(map(b"".join, rows))) for shape, rows in rows_of(shapes, units)]
        before = sum(len(read) for read, _ in wanted)
        # One pass does where all have been read, which this takes off; what has not it adds, and a second pass undoes.
        for read, rows in wanted:
            read ^= rows
        if sum(len(read) for read, _ in wanted) + sum(len(rows) for _, rows in wanted) == before:
            return units
        for read, rows in wanted:
            read ^= rows
        half = len(units) // 2
        return self._take_alike(shapes, units[:half]) + self._take_alike(shapes, units[half:]) if half else []

    # Called when what is desired changes.

    def changed(self, compare_again: Callable[[], None]) -> None:
        """Take in that something desired has changed that may have been compared: what to do when that has ended."""
        if self._uncompared is None or self._changes is None:
            return
        self._changes.append(compare_again)
        if len(self._changes) > MOST_CHANGES:
            self._changes = None

    def all_changed(self) -> None:
        """Take in that anything desired may have changed."""
        if self._uncompared is not None:
            self._changes = None

    def end(self, now: float) -> "Comparison | None":
        """Record all that has been read, what is not desired flow by flow and as adopted.

        Returns what is left to compare, None for everything.
        """
        while self.compare(now):
            pass
        for shape, rows in self._rows.items():
            for row in sorted(rows):  # else flows would be looked at in another order each time
                self._installed.put(told_flow(shape, row), None)
        self._installed.foreign = self._foreign
        self._installed.adopt_singles()
        return None if self._changes is None else Comparison(list(self._different), self._changes)


class Comparison(NamedTuple):
    """What is left to compare: subjects that differ, or may, and what has changed since others were compared."""

    different: list[Subject]
    changes: list[Callable[[], None]]
