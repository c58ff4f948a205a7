# SPDX-License-Identifier: Apache-2.0
"""Collect flow changes in batches, and keep each until the switch has answered."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind
from controller.core.pending_epochs import Since
from controller.core.subject_queue import Subject
from hoaflow.addresses import Prefix

if TYPE_CHECKING:
    from controller.core.flow_transitions import Transition


class FlowChange(Struct, frozen=True, gc=False):
    """One message to a switch: add ``flow`` (replacing in place what has the same key), or delete it."""

    flow: Flow
    add: bool
    expires_at: float | None = None
    hard_timeout: int = 0


class Batch(NamedTuple):
    """Changes that go to the switch together, in a safe order, and the subjects that they are about.

    ``withdrawn``: home addresses whose flows it deletes because one of them can't be installed.
    """

    number: int
    changes: list[FlowChange]
    subjects: list[Subject]
    withdrawn: list[Prefix]


class ChangesUnderWay(Struct, gc=False, eq=False):
    """The changes of one subject that the switch has not answered yet, and what waits for the answer.

    ``transition``: the step from one flow unit to another of which they are all changes, None if they are of single
    flows. ``gone``: flows of the former unit of which the switch has said that they are gone, as they should.

    ``requeue_since``: the epoch (of ``PendingEpochs``) since which the subject is to be queued again, with the keys in
    ``leaving``; None if it is not. ``waiting`` has other subjects, each with the keys that it leaves.
    """

    batch: int
    changes: Sequence[FlowChange]
    transition: "Transition | None" = None
    gone: tuple[FlowKey, ...] = ()
    requeue_since: Since | None = None
    leaving: tuple[FlowKey, ...] = ()
    waiting: dict[Subject, tuple[FlowKey, ...]] | None = None

    def keys(self) -> list[FlowKey]:
        """Return the keys of the flows that change."""
        return [change.flow.key for change in self.changes]

    def adds(self, key: FlowKey) -> bool:
        """Tell whether the flow with this key, which is one of those that change, is added, rather than deleted."""
        if self.transition is not None:
            return key not in self.transition.leaving
        return any(change.add and change.flow.key == key for change in self.changes)

    def requeue(self, since: Since, leaving: Iterable[FlowKey] = ()) -> None:
        """Queue the subject and these keys again when the switch has answered."""
        self.requeue_since = since if self.requeue_since is None else self.requeue_since.and_since(since)
        self.leaving = tuple(dict.fromkeys((*self.leaving, *leaving)))

    def add_waiting(self, subject: Subject, leaving: tuple[FlowKey, ...] = ()) -> None:
        """Queue another subject and these keys when the switch has answered."""
        if self.waiting is None:
            self.waiting = {}
        before = self.waiting.get(subject, ())
        self.waiting[subject] = tuple(dict.fromkeys((*before, *leaving)))


class Batches:
    """Makes batches, and keeps those that the switch has not answered yet."""

    def __init__(self) -> None:
        self._numbers = count()
        self._under_way: dict[int, Batch] = {}

    def new(self) -> Batch:
        """Return an empty batch."""
        return Batch(next(self._numbers), [], [], [])

    def start(self, batch: Batch) -> Batch | None:
        """Put a batch in order and return it, to be sent; None if it is empty."""
        if not batch.changes:
            return None
        if len(batch.subjects) > 1:  # those of one are in order
            in_order(batch.changes)
        self._under_way[batch.number] = batch
        return batch

    def answered(self, batch: Batch) -> None:
        """Forget a batch that the switch has answered."""
        del self._under_way[batch.number]

    def keys(self) -> Iterator[FlowKey]:
        """Iterate over the keys of all changes that the switch has not answered yet."""
        return (change.flow.key for batch in self._under_way.values() for change in batch.changes)

    def clear(self) -> None:
        """Forget all batches: the switch is gone and will not answer."""
        self._under_way.clear()


def in_order(changes: list[FlowChange]) -> None:
    """Put changes in a safe order."""
    changes.sort(key=_order)


def _order(change: FlowChange) -> int:
    """Return the rank of a change in its batch.

    Gates close first and open last. Guards come first and go last. What verifies comes before what decapsulates and
    goes after it. Nothing is deleted before its replacement is there.

    Flows of a kind come together: Open vSwitch lays them into memory as they come, and walks over all that have a
    timeout again and again, which takes four times as long where neighbours differ in size.
    """
    return _COMES[change.flow.shape.kind] if change.add else _GOES[change.flow.shape.kind]


def stages(changes: Sequence[FlowChange]) -> list[list[int]]:
    """Return the places of changes by stage, for a switch that takes them one by one.

    All of a stage must be done before the next may begin. An uplink flow alone would lose its packets, so what verifies
    them stands before it comes and until it is gone; likewise guards for gates.
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


_COMING = (Kind.CLUSTER, Kind.MISS, Kind.DRAIN, Kind.GUARD, Kind.VERIFY, Kind.UPLINK, Kind.DOWNLINK)
# Ranks by kind, in lists, as the members of an enumeration are slow to hash.
_COMES, _GOES = [0] * 256, [0] * 256
for _place, _kind in enumerate(_COMING, start=1):
    _COMES[_kind], _GOES[_kind] = _place, 200 - _place
_COMES[Kind.GATE], _GOES[Kind.GATE] = 200, 0
