# SPDX-License-Identifier: Apache-2.0
"""Find prefixes that cover a prefix or lie in it, without looking at all of them."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from hoaflow.addresses import Prefix

T = TypeVar("T")


class PrefixIndex(Generic[T]):
    """Values by prefix, IPv6 and IPv4.

    Finding the covering ones takes a step for each prefix length, finding the covered ones a search in a sorted list,
    in which those that lie in a prefix follow it.
    """

    def __init__(self) -> None:
        self._values: dict[Prefix, T] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()  # octets of an address, and length
        self._sorted: list[tuple[int, Prefix]] = []

    def put(self, prefix: Prefix, value: T) -> None:
        """Set the value of a prefix."""
        if prefix not in self._values:
            self._lengths[len(prefix.packed), prefix.length] += 1
            insort(self._sorted, _place(prefix))
        self._values[prefix] = value

    def remove(self, prefix: Prefix, value: T) -> None:
        """Forget a prefix if it has this value."""
        if prefix not in self._values or self._values[prefix] != value:
            return
        del self._values[prefix]
        size = (len(prefix.packed), prefix.length)
        self._lengths[size] -= 1
        if not self._lengths[size]:
            del self._lengths[size]
        del self._sorted[bisect_left(self._sorted, _place(prefix))]

    def covering(self, prefix: Prefix) -> Iterator[T]:
        """Iterate over the values of the prefixes that cover ``prefix``, the longest first."""
        octets = len(prefix.packed)
        lengths = [length for size, length in self._lengths if size == octets and length <= prefix.length]
        for length in sorted(lengths, reverse=True):
            found = prefix if length == prefix.length else prefix.shortened(length)
            if found in self._values:
                yield self._values[found]

    def within(self, prefix: Prefix) -> Iterator[T]:
        """Iterate over the values of the prefixes that lie in ``prefix``."""
        for position in range(bisect_left(self._sorted, _place(prefix)), len(self._sorted)):
            found = self._sorted[position][1]
            if not prefix.contains(found):
                return
            yield self._values[found]


def _place(prefix: Prefix) -> tuple[int, Prefix]:
    return len(prefix.packed), prefix
