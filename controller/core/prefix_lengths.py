# SPDX-License-Identifier: Apache-2.0
"""Count the lengths of the prefixes that are held, to try only those when a prefix that covers another is sought."""

from collections import Counter

from hoaflow.addresses import Prefix


class PrefixLengths:
    """How many prefixes have each size of address, in octets, and each length."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, int]] = Counter()
        self._longest_first: dict[int, list[int]] = {}  # lengths by octets

    def add(self, prefix: Prefix) -> None:
        """Count a prefix that is held from now on."""
        size = (len(prefix.packed), prefix.length)
        self._counts[size] += 1
        if self._counts[size] == 1:
            self._order(size[0])

    def remove(self, prefix: Prefix) -> None:
        """Count a prefix no longer."""
        size = (len(prefix.packed), prefix.length)
        self._counts[size] -= 1
        if not self._counts[size]:
            del self._counts[size]
            self._order(size[0])

    def covering(self, prefix: Prefix) -> list[Prefix]:
        """Return the prefixes that cover a prefix and may be held, the longest first."""
        packed, longest = prefix
        lengths = self._longest_first.get(len(packed), ())
        if len(lengths) == 1 and lengths[0] == longest:
            return [prefix]  # as nearly always: all are single addresses
        return [prefix if each == longest else prefix.shortened(each) for each in lengths if each <= longest]

    def _order(self, octets: int) -> None:
        lengths = (length for size, length in self._counts if size == octets)
        self._longest_first[octets] = sorted(lengths, reverse=True)
