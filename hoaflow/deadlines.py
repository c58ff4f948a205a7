# SPDX-License-Identifier: Apache-2.0
"""Keep deadlines: when lifetimes, gates and registrations end, and when something is tried again."""

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

# Time has so many slots a second: nothing comes early, and nothing is late by more than a slot.
SLOTS_A_SECOND = 8
# How many outdated entries are not worth tidying up.
FEW = 1000

T = TypeVar("T", bound=Hashable)


def earliest(*moments: float | None) -> float | None:
    """Return the earliest of several moments, None if there is none among them."""
    return min((moment for moment in moments if moment is not None), default=None)


class _Slot(list[T]):
    """The things that are due in one slot."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Deadlines(Generic[T]):
    """Things that become due, each once, at the earliest moment asked for since it was last due.

    Each costs a place in a dictionary and one in a list, and no search. Moments are on the caller's clock.
    """

    def __init__(self) -> None:
        self._planned: dict[T, _Slot[T]] = {}
        self._slots: dict[int, _Slot[T]] = {}
        self._order: list[int] = []  # a heap of the slots' numbers
        self._passed_over = 0  # entries of slots that are outdated

    def plan(self, thing: T, moment: float) -> None:
        """Have ``thing`` due at ``moment``, or earlier if it is planned for earlier."""
        number = math.ceil(moment * SLOTS_A_SECOND)
        planned = self._planned.get(thing)
        if planned is not None and planned.number <= number:
            return
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(number)
            heapq.heappush(self._order, number)
        slot.append(thing)
        self._planned[thing] = slot
        if planned is not None:  # it stays in the list of the later slot as well, and is passed over there
            self._passed_over += 1
            self._tidy()

    def cancel(self, thing: T) -> None:
        """Plan ``thing`` no more."""
        if self._planned.pop(thing, None) is not None:
            self._passed_over += 1
            self._tidy()

    def due(self, now: float, most: int) -> list[T]:
        """Take off and return what is due, at most ``most`` things."""
        found: list[T] = []
        while self._order and self._order[0] <= now * SLOTS_A_SECOND and len(found) < most:
            slot = self._slots[self._order[0]]
            while slot and len(found) < most:
                thing = slot.pop()
                if self._planned.get(thing) is slot:
                    del self._planned[thing]
                    found.append(thing)
                else:
                    self._passed_over -= 1
            if not slot:
                del self._slots[heapq.heappop(self._order)]
        return found

    def next(self) -> float | None:
        """Return a moment no later than the next at which something is due, None if nothing is planned."""
        return self._order[0] / SLOTS_A_SECOND if self._order else None

    def __len__(self) -> int:
        """Return how many entries there are, outdated ones included."""
        return sum(map(len, self._slots.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._planned.clear()
        self._slots.clear()
        self._order.clear()
        self._passed_over = 0

    def _tidy(self) -> None:
        """Drop outdated entries once they outnumber what is planned: one step more for each entry."""
        if self._passed_over <= len(self._planned) + FEW:
            return
        slots: dict[int, _Slot[T]] = {}
        for thing, planned in self._planned.items():
            slot = slots.get(planned.number)
            if slot is None:
                slot = slots[planned.number] = _Slot(planned.number)
            slot.append(thing)
            self._planned[thing] = slot
        self._slots = slots
        self._order = sorted(slots)
        self._passed_over = 0
