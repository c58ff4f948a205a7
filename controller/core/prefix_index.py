# SPDX-License-Identifier: Apache-2.0
"""Prefixes that are found by what lies in them and by what they lie in, without a look at all."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

from hoaflow.addresses import Prefix

T = TypeVar("T")


class PrefixIndex(Generic[T]):
    """Values by prefix, IPv6 and IPv4.

    A look takes as many steps as there are prefix lengths, or a search in a sorted list. In that list, what lies in a
    prefix follows it.
    """

    def __init__(self) -> None:
        self._values: dict[Prefix, T] = {}
        self._lengths: Counter[tuple[int, int]] = Counter()  # octets of an address, and length
        self._sorted: list[tuple[int, Prefix]] = []

    def put(self, prefix: Prefix, value: T) -> None:
        """Have a prefix lead to a value, in place of what it led to."""
        if prefix not in self._values:
            self._lengths[len(prefix.packed), prefix.length] += 1
            insort(self._sorted, _place(prefix))
        self._values[prefix] = value

    def remove(self, prefix: Prefix, value: T) -> None:
        """Forget a prefix, if it leads to this value."""
        if prefix not in self._values or self._values[prefix] != value:
            return
        del self._values[prefix]
        size = (len(prefix.packed), prefix.length)
        self._lengths[size] -= 1
        if not self._lengths[size]:
            del self._lengths[size]
        del self._sorted[bisect_left(self._sorted, _place(prefix))]

    def covering(self, prefix: Prefix) -> Iterator[T]:
        """Iterate over the values of the prefixes that ``prefix`` lies in, the longest first."""
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
