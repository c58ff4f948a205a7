# SPDX-License-Identifier: Apache-2.0
"""Work out, once for all routers, the changes that lead from one flow unit of a home address to the next."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache

from msgspec import Struct

from controller.core.flow_changes import AlikeChanges, FlowChange
from controller.core.flow_units import FlowUnit, UnitShapes, rows_of
from controller.core.flows import FlowKey

# How many transitions are remembered: those of the handovers that routers are just following.
LATEST = 16


class Transition(Struct, gc=False, eq=False):
    """The step that puts ``unit`` in the place of ``former``, another one of the same home address; None for no unit.

    ``is_plain``: all flows of the unit come, the downlink flow in place of the former one, whose others go.
    ``keys``: those of all flows of both; ``leaving``: those of the flows that go. ``paths``: the care-of addresses at
    which one of the units has an uplink flow of its own. The changes are made when somebody asks for them: those of
    thousands of bindings are sent without.
    """

    former: FlowUnit | None
    unit: FlowUnit | None
    is_plain: bool = True
    keys: tuple[FlowKey, ...] = ()
    leaving: tuple[FlowKey, ...] = ()
    paths: tuple[bytes, ...] = ()
    _changes: tuple[FlowChange, ...] | None = None

    def __post_init__(self) -> None:
        """Work out what is asked for more than once."""
        former, unit = self.former, self.unit
        if unit is not None:
            self.keys = unit.keys
            if unit.sole:
                self.paths = (unit.care_of_address,)
        if former is None:
            return
        self.leaving = tuple([key for key in former.keys if key not in self.keys])
        self.keys += self.leaving
        if former.sole and former.care_of_address not in self.paths:
            self.paths += (former.care_of_address,)
        if unit is not None:
            moves = former.care_of_address != unit.care_of_address
            self.is_plain = moves and former.shapes is unit.shapes and unit.shapes.sets_tunnel

    @property
    def size(self) -> int:
        """How many changes there are."""
        former, unit = self.former, self.unit
        if former == unit:
            return 0
        if not self.is_plain:
            return len(self.changes)
        coming = 0 if unit is None else unit.size
        return coming if former is None else coming + former.size - (unit is not None)

    @property
    def changes(self) -> tuple[FlowChange, ...]:
        """The changes in a safe order. What is the same in both units stays.

        A unit's flows are in the order in which they may go, and come in the reverse one, before any goes.
        """
        if self._changes is None:
            before = () if self.former is None else self.former.flows
            after = () if self.unit is None else self.unit.flows
            keys = [flow.key for flow in after]
            coming = [FlowChange(flow, True) for flow in reversed(after) if flow not in before]
            self._changes = (*coming, *(FlowChange(flow, False) for flow in before if flow.key not in keys))
        return self._changes

    def has_change_of(self, key: FlowKey) -> bool:
        """Tell whether the flow with a key comes, changes or goes."""
        if not self.is_plain:
            return any(change.flow.key == key for change in self.changes)
        return key in self.keys


# Cached, as all routers ask one after the other: they share the changes, and the messages that are made of them.
transition = lru_cache(maxsize=LATEST)(Transition)


def alike_changes(steps: Iterable[Transition]) -> Iterator[FlowChange | AlikeChanges]:
    """Iterate over the changes of transitions, those of plain ones by shape."""
    # Units by shapes, whether they come, and whether their downlink flows change with the others.
    alike: defaultdict[tuple[UnitShapes, bool, bool], list[FlowUnit]] = defaultdict(list)
    for step in steps:
        if not step.is_plain:
            yield from step.changes
            continue
        former, unit = step.former, step.unit
        if unit is not None:
            alike[unit.shapes, True, True].append(unit)
        if former is not None:
            alike[former.shapes, False, unit is None].append(former)
    for (shapes, coming, whole), units in alike.items():
        for shape, rows in rows_of(shapes, units)[0 if whole else 1 :]:
            if rows:
                yield AlikeChanges(shape, coming, rows)
