# SPDX-License-Identifier: Apache-2.0
"""Flow changes on their way to a switch: several at a time, until it has answered."""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import NamedTuple

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind
from controller.core.queues import Subject


class FlowChange(Struct, frozen=True, gc=False):
    """One message to a switch: add ``flow`` (replacing in place what has the same key), or delete it."""

    flow: Flow
    add: bool
    expires_at: float | None = None
    hard_timeout: int = 0


class Batch(NamedTuple):
    """Changes that go to the switch together, in an order in which they are safe, and what they are about."""

    number: int
    changes: list[FlowChange]
    subjects: list[Subject]


class UnderWay:
    """What is on its way to the switch about a subject: under which keys, whether somebody touched the subject since,
    and which keys it has left then."""

    __slots__ = ("keys", "leaving", "touched")

    def __init__(self, keys: list[FlowKey]) -> None:
        self.keys = keys
        self.touched = False
        self.leaving: dict[FlowKey, None] | tuple[()] = ()

    def touch(self, leaving: Iterable[FlowKey] = ()) -> None:
        """Have the subject looked at again when the switch has answered, and with it these keys."""
        self.touched = True
        self.leaving = dict.fromkeys((*self.leaving, *leaving))


class Batches:
    """Makes batches, and knows those that the switch has not answered yet."""

    def __init__(self) -> None:
        self._numbers = count()
        self._under_way: dict[int, Batch] = {}

    def new(self) -> Batch:
        """Return an empty batch."""
        return Batch(next(self._numbers), [], [])

    def start(self, batch: Batch) -> Batch | None:
        """A batch goes to the switch; return it in order. None: there is nothing in it, so it does not."""
        if not batch.changes:
            return None
        batch.changes.sort(key=_order)
        self._under_way[batch.number] = batch
        return batch

    def land(self, batch: Batch) -> None:
        """The switch has answered."""
        del self._under_way[batch.number]

    def keys(self) -> Iterator[FlowKey]:
        """Iterate over the keys of all changes that it has not answered yet."""
        return (change.flow.key for batch in self._under_way.values() for change in batch.changes)

    def clear(self) -> None:
        """The switch is gone, and will not answer."""
        self._under_way.clear()


def _order(change: FlowChange) -> int:
    """Gates close first and open last, and nothing is deleted before what takes its place is there.

    Flows of a kind come together: Open vSwitch lays them into its memory as they come, and it looks at all that have a
    timeout again and again, which takes four times as long where they differ in size from one to the next.
    """
    kind = change.flow.kind
    if kind is Kind.GATE:
        return 200 if change.add else 0
    return kind if change.add else 100 + kind
