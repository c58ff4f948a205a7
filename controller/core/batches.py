# SPDX-License-Identifier: Apache-2.0
"""Flow changes on their way to a switch: several at a time, until it has answered."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind
from controller.core.queues import Subject
from hoaflow.addresses import Prefix


class FlowChange(Struct, frozen=True, gc=False):
    """One message to a switch: add ``flow`` (replacing in place what has the same key), or delete it."""

    flow: Flow
    add: bool
    expires_at: float | None = None
    hard_timeout: int = 0


class Batch(NamedTuple):
    """Changes that go to the switch together, in an order in which they are safe, and what they are about.

    ``withdrawn``: the home addresses whose flows it takes away for want of one of them.
    """

    number: int
    changes: list[FlowChange]
    subjects: list[Subject]
    withdrawn: list[Prefix]


class UnderWay:
    """What is on its way to the switch about a subject, with whatever has to wait for the answer.

    ``touched``: since when somebody has wanted the subject looked at again, in epochs of ``Pending``, with the keys in
    ``leaving``. ``waiting`` are other subjects, each with the keys that it leaves.
    """

    __slots__ = ("batch", "changes", "leaving", "touched", "waiting")

    def __init__(self, batch: int, changes: list[FlowChange]) -> None:
        self.batch = batch
        self.changes = changes
        self.touched: int | None = None
        self.leaving: dict[FlowKey, None] | tuple[()] = ()
        self.waiting: Mapping[Subject, tuple[FlowKey, ...]] = _NOBODY

    def keys(self) -> list[FlowKey]:
        """Return the keys of what is on its way."""
        return [change.flow.key for change in self.changes]

    def adds(self, key: FlowKey) -> bool:
        """Tell whether a flow with this key is on its way, rather than the end of one."""
        return any(change.add and change.flow.key == key for change in self.changes)

    def touch(self, since: int, leaving: Iterable[FlowKey] = ()) -> None:
        """Have the subject looked at again when the switch has answered, and with it these keys."""
        self.touched = since if self.touched is None else min(self.touched, since)
        self.leaving = dict.fromkeys((*self.leaving, *leaving))

    def wait(self, subject: Subject, leaving: tuple[FlowKey, ...] = ()) -> None:
        """Have another subject looked at when the switch has answered, and with it these keys."""
        before = self.waiting.get(subject, ())
        self.waiting = {**self.waiting, subject: tuple(dict.fromkeys((*before, *leaving)))}


_NOBODY: Mapping[Subject, tuple[FlowKey, ...]] = {}


class Batches:
    """Makes batches, and knows those that the switch has not answered yet."""

    def __init__(self) -> None:
        self._numbers = count()
        self._under_way: dict[int, Batch] = {}

    def new(self) -> Batch:
        """Return an empty batch."""
        return Batch(next(self._numbers), [], [], [])

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
    """Gates close first and open last, guards come first and go last, what verifies comes before what decapsulates and
    goes after it, and nothing is deleted before what takes its place is there.

    Flows of a kind come together: Open vSwitch lays them into its memory as they come, and it looks at all that have a
    timeout again and again, which takes four times as long where they differ in size from one to the next.
    """
    kind = change.flow.kind
    if kind is Kind.GATE:
        return 200 if change.add else 0
    return _PLACES[kind] if change.add else 200 - _PLACES[kind]


def stages(changes: Sequence[FlowChange]) -> list[list[int]]:
    """Return the places of changes in the order in which a switch that takes them one by one gets them: those of a
    stage must all be done before the next one may begin.

    An uplink flow alone would lose its packets, so what verifies them has to stand before it comes, and stays until it
    is gone; and so do guards for gates.
    """
    found: dict[int, list[int]] = {}
    for place, change in enumerate(changes):
        found.setdefault(_stage(change), []).append(place)
    return [found[stage] for stage in sorted(found)]


def _stage(change: FlowChange) -> int:
    if change.flow.kind is Kind.GATE:
        return 4 if change.add else 0
    leads_on = change.flow.kind in (Kind.UPLINK, Kind.DOWNLINK)
    return (1 if leads_on else 0) if change.add else (2 if leads_on else 3)


_COMING = (Kind.MISS, Kind.DRAIN, Kind.GUARD, Kind.VERIFY, Kind.UPLINK, Kind.DOWNLINK)
_PLACES = {kind: place for place, kind in enumerate(_COMING, start=1)}
