# SPDX-License-Identifier: Apache-2.0
"""Queue the subjects of one switch that are to be compared next, each once, in the order in which they came up."""

from collections import deque
from collections.abc import Iterable

from controller.core.flows import FlowKey
from hoaflow.addresses import Prefix

# What is compared at a time: all flows of a home address, or the flow with one key.
Subject = Prefix | FlowKey


class SubjectQueue:
    """Subjects to compare, each with the keys of flows that it may need no more."""

    def __init__(self) -> None:
        self._leaving: dict[Subject, tuple[FlowKey, ...]] = {}
        self._order: deque[Subject] = deque()  # some of them are no longer waiting

    def __len__(self) -> int:
        return len(self._leaving)

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._leaving

    def add(self, subject: Subject, leaving: tuple[FlowKey, ...]) -> None:
        """Queue a subject, behind all others unless it waits already."""
        waiting = self._leaving.get(subject)
        if waiting is None:
            self._order.append(subject)
            self._leaving[subject] = leaving
        elif leaving:
            self._leaving[subject] = tuple(dict.fromkeys(waiting + leaving))

    def add_all(self, subjects: Iterable[Subject]) -> None:
        """Queue several subjects."""
        new = [subject for subject in subjects if subject not in self._leaving]
        self._leaving.update(dict.fromkeys(new, ()))
        self._order.extend(new)

    def pop(self) -> tuple[Subject, tuple[FlowKey, ...]] | None:
        """Take off the first subject and its keys; None when none waits."""
        while self._leaving:
            subject = self._order.popleft()
            leaving = self._leaving.pop(subject, None)
            if leaving is not None:
                if not self._leaving:
                    self.clear()  # a dictionary keeps the room of all that was ever in it
                return subject, leaving
        return None

    def remove(self, subject: Subject) -> tuple[FlowKey, ...]:
        """Take a subject off the queue and return its keys, none if it did not wait."""
        leaving = self._leaving.pop(subject, None)
        if leaving is None:
            return ()
        if not self._leaving:
            self.clear()  # else what was taken off would stay in the order until another one is popped
        return leaving

    def clear(self) -> None:
        """Forget everything."""
        self._leaving.clear()
        self._order.clear()
