# SPDX-License-Identifier: Apache-2.0
"""Keep entries that have something to do at a moment of their own, and find those that are due without a search."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from hoaflow.deadlines import Deadlines

AT_ONCE = 1000
"""Entries handled before others have their turn."""


class Due(Protocol):
    """Something to do at a moment."""

    @property
    def due(self) -> float:
        """When, on the caller's clock."""
        ...


T = TypeVar("T", bound=Due)


class Entries(Generic[T]):
    """Entries by key: mobile nodes' bindings or attachments."""

    def __init__(self) -> None:
        self._entries: dict[str, T] = {}
        self._deadlines: Deadlines[str] = Deadlines()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """Iterate over those of now: metrics are read in other threads, and terminals' clients may read slowly."""
        return iter(list(self._entries.values()))

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __getitem__(self, key: str) -> T:
        """Return an entry. Raises KeyError if there is none."""
        return self._entries[key]

    def get(self, key: str) -> T | None:
        """Return an entry, None if there is none."""
        return self._entries.get(key)

    def put(self, key: str, entry: T) -> T:
        """Hold an entry in place of the one held so far, and return it."""
        self._entries[key] = entry
        self._deadlines.plan(key, entry.due)
        return entry

    def remove(self, key: str) -> None:
        """Forget an entry. Raises KeyError if there is none."""
        del self._entries[key]
        self._deadlines.cancel(key)

    def due(self, now: float) -> list[T]:
        """Return entries that are due, at most AT_ONCE. Each is found once: put it again, or remove it."""
        found = []
        for key in self._deadlines.due(now, AT_ONCE):
            entry = self._entries[key]
            if entry.due <= now:
                found.append(entry)
            else:  # it has been put off
                self._deadlines.plan(key, entry.due)
        return found

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which an entry is due, None if there is none."""
        return self._deadlines.next()
