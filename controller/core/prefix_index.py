# SPDX-License-Identifier: Apache-2.0
"""Find prefixes that cover a prefix or lie in it, without looking at all of them."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Generic, TypeVar

from controller.core.prefix_lengths import PrefixLengths
from hoaflow.addresses import Prefix

T = TypeVar("T")


class PrefixIndex(Generic[T]):
    """Values by prefix, IPv6 and IPv4.

    Finding the covering ones takes a step for each prefix length, finding the covered ones a search in a sorted list,
    in which those that lie in a prefix follow it.
    """

    def __init__(self) -> None:
        self._values: dict[Prefix, T] = {}
        self._lengths = PrefixLengths()
        self._sorted: list[tuple[int, Prefix]] = []

    def __len__(self) -> int:
        return len(self._values)

    def put(self, prefix: Prefix, value: T) -> None:
        """Set the value of a prefix."""
        if prefix not in self._values:
            self._lengths.add(prefix)
            insort(self._sorted, _place(prefix))
        self._values[prefix] = value

    def remove(self, prefix: Prefix, value: T) -> None:
        """Forget a prefix if it has this value."""
        if prefix not in self._values or self._values[prefix] != value:
            return
        del self._values[prefix]
        self._lengths.remove(prefix)
        del self._sorted[bisect_left(self._sorted, _place(prefix))]

    def get(self, prefix: Prefix) -> T | None:
        """Return the value of a prefix, None if it has none."""
        return self._values.get(prefix)

    def covering(self, prefix: Prefix) -> Iterator[T]:
        """Iterate over the values of the prefixes that cover ``prefix``, the longest first."""
        return (self._values[found] for found in self._lengths.covering(prefix) if found in self._values)

    def within(self, prefix: Prefix) -> Iterator[T]:
        """Iterate over the values of the prefixes that lie in ``prefix``."""
        for position in range(bisect_left(self._sorted, _place(prefix)), len(self._sorted)):
            found = self._sorted[position][1]
            if not prefix.contains(found):
                return
            yield self._values[found]


def _place(prefix: Prefix) -> tuple[int, Prefix]:
    return len(prefix.packed), prefix
