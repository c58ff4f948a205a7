# SPDX-License-Identifier: Apache-2.0
"""Collect flow changes in batches, and keep each until the switch has answered."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count

from msgspec import Struct, field

from controller.core.flow_changes import FlowChange, FlowChanges, each_change, in_order
from controller.core.flow_transitions import Transition, alike_changes
from controller.core.flows import FlowKey
from controller.core.pending_epochs import Since
from controller.core.subject_queue import Subject
from hoaflow.addresses import Prefix

# Of more transitions, flows of a shape are changed together; those of few are the same objects for all routers.
FEW = 4


class Batch(Struct, eq=False):
    """Changes that go to the switch together, and the subjects that they are about.

    ``steps``: the transitions among them. ``single``: changes of other flows, each by itself. ``size``: how many there
    are in all. ``withdrawn``: home addresses whose flows it deletes because one of them can't be installed.
    """

    number: int
    steps: list[Transition] = field(default_factory=list)
    single: list[FlowChange] = field(default_factory=list)
    size: int = 0
    subjects: list[Subject] = field(default_factory=list)
    withdrawn: list[Prefix] = field(default_factory=list)

    def add_step(self, step: Transition) -> None:
        """Add the changes of a transition."""
        self.steps.append(step)
        self.size += step.size

    def add_single(self, changes: Sequence[FlowChange]) -> None:
        """Add changes that are no transition's."""
        self.single += changes
        self.size += len(changes)

    def to_send(self) -> FlowChanges:
        """Return the changes in a safe order, those of many transitions by shape."""
        if len(self.steps) == 1 and not self.single:
            return self.steps[0].changes  # these are in order
        if len(self.steps) <= FEW:
            return in_order(chain(self.single, *(step.changes for step in self.steps)))
        return in_order(chain(self.single, alike_changes(self.steps)))

    @property
    def changes(self) -> list[FlowChange]:
        """All changes one by one, in the order in which they are sent."""
        return list(each_change(self.to_send()))


class ChangesUnderWay(Struct, gc=False, eq=False):
    """The changes of one subject that the switch has not answered yet, and what waits for the answer.

    ``transition``: the step from one flow unit to another of which they are all changes, None if they are ``single``,
    of flows by themselves. ``gone``: flows of the former unit of which the switch has said that they are gone, as they
    should.

    ``requeue_since``: the epoch (of ``PendingEpochs``) since which the subject is to be queued again, with the keys in
    ``leaving``; None if it is not. ``waiting`` has other subjects, each with the keys that it leaves.
    """

    batch: int
    single: Sequence[FlowChange]
    transition: Transition | None = None
    gone: tuple[FlowKey, ...] = ()
    requeue_since: Since | None = None
    leaving: tuple[FlowKey, ...] = ()
    waiting: dict[Subject, tuple[FlowKey, ...]] | None = None

    @property
    def changes(self) -> Sequence[FlowChange]:
        """All of them."""
        return self.single if self.transition is None else self.transition.changes

    def adds(self, key: FlowKey) -> bool:
        """Tell whether the flow with this key, which is one of those that change, is added, rather than deleted."""
        if self.transition is not None:
            return key not in self.transition.leaving
        return any(change.add and change.flow.key == key for change in self.single)

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
        return Batch(next(self._numbers))

    def start(self, batch: Batch) -> Batch | None:
        """Return a batch, to be sent; None if it is empty."""
        if not batch.size:
            return None
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
