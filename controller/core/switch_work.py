# SPDX-License-Identifier: Apache-2.0
"""Queue subjects to be compared for one switch, and keep the changes that are on their way to it."""

from collections.abc import Iterable, Sequence
from typing import Literal

from controller.core.batches import Batch, ChangesUnderWay
from controller.core.flow_changes import FlowChange
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_transitions import Transition
from controller.core.flows import FlowKey
from controller.core.pending_epochs import PendingEpochs, Since
from controller.core.subject_queue import Subject, SubjectQueue
from controller.core.urgency import Urgency
from hoaflow.deadlines import Deadlines

# Stands for all adopted flows that are due to be compared.
SWEEP: Literal["sweep"] = "sweep"


class SwitchWork:
    """What there is to do for one switch: urgent subjects, others, those that are due later, and changes under way.

    Of one subject, and of one flow, one change at a time is under way; the next waits for the switch's answer. So
    changes can't overtake each other, whichever lane they take.
    """

    def __init__(self) -> None:
        self.urgent = SubjectQueue()
        self.bulk = SubjectQueue()
        self.later: Deadlines[FlowKey] = Deadlines()
        self.pending = PendingEpochs()
        self._in_flight: dict[Subject, ChangesUnderWay] = {}
        # Of flows that change by themselves, by key; of transitions, by the care-of addresses of their uplink flows.
        self._busy: dict[FlowKey, ChangesUnderWay] = {}
        self._paths: dict[bytes, ChangesUnderWay] = {}

    def clear(self) -> None:
        """Forget everything."""
        for memory in (self.urgent, self.bulk, self.later, self.pending, self._in_flight, self._busy, self._paths):
            memory.clear()

    @property
    def idle(self) -> bool:
        """Whether nothing is queued and nothing is under way."""
        return not (self.urgent or self.bulk or self._in_flight)

    # What is to be compared.

    def queue(
        self,
        subject: Subject,
        leaving: tuple[FlowKey, ...] = (),
        urgency: Urgency = Urgency.URGENT,
        since: Since | None = None,
    ) -> None:
        """Queue a subject, and with it the keys in ``leaving``, which it may need no more.

        ``since``: the epoch since which that is pending, None for the present one.
        """
        under_way = self._in_flight.get(subject)
        if under_way is not None:
            since = self.pending.now() if since is None else since
            under_way.requeue(since, leaving)
            self.pending.add(subject, since)  # what is under way may be pending for another reason than a report
            return
        self.pending.add(subject, since)
        if urgency is Urgency.URGENT or subject in self.urgent:
            self.urgent.add(subject, leaving + self.bulk.remove(subject))
        else:
            self.bulk.add(subject, leaving)

    def queue_all(self, subjects: Iterable[Subject]) -> None:
        """Queue several subjects after what is urgent."""
        subjects = list(subjects)
        self.bulk.add_all(subjects)
        self.pending.add_all(subjects)

    # What is under way.

    def under_way(self, subject: Subject) -> ChangesUnderWay | None:
        """Return the changes of a subject that are under way, None for none."""
        return self._in_flight.get(subject)

    def subjects_under_way(self) -> list[Subject]:
        """Return the subjects that have changes under way."""
        return list(self._in_flight)

    def changes_of(self, key: FlowKey) -> ChangesUnderWay | None:
        """Return the changes under way that include the flow with a key, None for none."""
        under_way = self._busy.get(key)
        if under_way is not None or not self._in_flight:
            return under_way
        source = uplink_source(key)
        if source is not None:
            near = self._paths.get(source)
        else:
            home_address = home_end(key)
            near = None if home_address is None else self._in_flight.get(home_address)
        step = None if near is None else near.transition
        return near if step is not None and step.has_change_of(key) else None

    def is_deleted_by(self, key: FlowKey, batch: Batch) -> bool:
        """Tell whether a batch that is being made deletes a flow."""
        under_way = self.changes_of(key)
        return under_way is not None and under_way.batch == batch.number and not under_way.adds(key)

    def is_added_by(self, key: FlowKey, batch: Batch) -> bool:
        """Tell whether a batch that is being made adds a flow."""
        under_way = self.changes_of(key)
        return under_way is not None and under_way.batch == batch.number and under_way.adds(key)

    def wait_for_changes(
        self, subject: Subject, leaving: tuple[FlowKey, ...], keys: Sequence[FlowKey], since: Since
    ) -> bool:
        """Let a subject wait if a flow with one of ``keys`` is being changed; tell whether it does.

        It is queued, and with it the keys in ``leaving``, when the switch has answered the first such change.
        """
        under_way = next(filter(None, map(self.changes_of, keys)), None)
        if under_way is None:
            return False
        self._wait(subject, leaving, under_way, since)
        return True

    def wait_for_step(self, step: Transition, subject: Subject, leaving: tuple[FlowKey, ...], since: Since) -> bool:
        """Let a home address wait if a flow of a transition of it is being changed; tell whether it does.

        Nothing is under way for the home address itself.
        """
        if self._busy and not self._busy.keys().isdisjoint(step.keys):
            return self.wait_for_changes(subject, leaving, step.keys, since)
        for path in step.paths if self._paths else ():
            if (under_way := self._paths.get(path)) is not None:
                self._wait(subject, leaving, under_way, since)
                return True
        return False

    def _wait(self, subject: Subject, leaving: tuple[FlowKey, ...], under_way: ChangesUnderWay, since: Since) -> None:
        under_way.add_waiting(subject, leaving)
        self.pending.add(subject, since)

    def start(self, subject: Subject, changes: Sequence[FlowChange], batch: Batch, since: Since) -> None:
        """Put all changes of a subject into a batch. None of their flows may be under way."""
        under_way = self._in_flight[subject] = ChangesUnderWay(batch.number, changes)
        for change in changes:
            self._busy[change.flow.key] = under_way
        self.pending.add(subject, since)
        batch.add_single(changes)
        batch.subjects.append(subject)

    def start_step(self, home_address: Subject, step: Transition, batch: Batch, since: Since) -> None:
        """Put the transition of a home address into a batch. None of its flows may be under way."""
        under_way = self._in_flight[home_address] = ChangesUnderWay(batch.number, (), step)
        for path in step.paths:
            self._paths[path] = under_way
        self.pending.add(home_address, since)
        batch.add_step(step)
        batch.subjects.append(home_address)

    def answered(self, batch: Batch, undone: bool = False) -> None:
        """Record that the switch has answered a batch, and queue what was asked for or has waited meanwhile.

        ``undone``: part of the batch was not carried out, so that all of it is queued again.
        """
        for subject in batch.subjects:
            under_way = self._in_flight.pop(subject)
            for change in under_way.single:
                del self._busy[change.flow.key]
            for path in () if under_way.transition is None else under_way.transition.paths:
                del self._paths[path]
            since = self.pending.done(subject)
            if undone:
                under_way.requeue(since, [change.flow.key for change in under_way.changes])
            if under_way.requeue_since is not None:
                self.queue(subject, under_way.leaving, since=under_way.requeue_since)
            for other, leaving in () if under_way.waiting is None else under_way.waiting.items():
                self.queue(other, leaving, since=since)
