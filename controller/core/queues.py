# SPDX-License-Identifier: Apache-2.0
"""What is to be looked at next, each thing once, in the order in which it came up."""

from collections import deque
from collections.abc import Iterable

from controller.core.flows import FlowKey
from hoaflow.addresses import Prefix

# What a look is about: all flows of a home address, or the one flow of a key.
Subject = Prefix | FlowKey


class LookQueue:
    """Subjects, and with each the keys of flows that it may have no use for any more."""

    def __init__(self) -> None:
        self._leaving: dict[Subject, tuple[FlowKey, ...]] = {}
        self._order: deque[Subject] = deque()  # with some that are not waiting any more

    def __len__(self) -> int:
        return len(self._leaving)

    def __contains__(self, subject: Subject) -> bool:
        return subject in self._leaving

    def add(self, subject: Subject, leaving: tuple[FlowKey, ...]) -> None:
        """Have ``subject`` looked at, last of all if it does not wait yet."""
        waiting = self._leaving.get(subject)
        if waiting is None:
            self._order.append(subject)
            self._leaving[subject] = leaving
        elif leaving:
            self._leaving[subject] = tuple(dict.fromkeys(waiting + leaving))

    def add_all(self, subjects: Iterable[Subject]) -> None:
        """Have all of these looked at."""
        new = [subject for subject in subjects if subject not in self._leaving]
        self._leaving.update(dict.fromkeys(new, ()))
        self._order.extend(new)

    def pop(self) -> tuple[Subject, tuple[FlowKey, ...]]:
        """Take off the first subject. Raises IndexError when none waits."""
        while True:
            subject = self._order.popleft()
            leaving = self._leaving.pop(subject, None)
            if leaving is not None:
                if not self._leaving:
                    self.clear()  # a dictionary keeps the room of all that was ever in it
                return subject, leaving

    def take_out(self, subject: Subject) -> tuple[FlowKey, ...]:
        """Have ``subject`` wait no more; return its keys, none if it did not wait."""
        return self._leaving.pop(subject, ())

    def clear(self) -> None:
        """Forget everything."""
        self._leaving.clear()
        self._order.clear()
