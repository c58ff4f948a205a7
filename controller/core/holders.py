# SPDX-License-Identifier: Apache-2.0
"""Keep who holds what, each thing only as long as anybody holds it."""

from collections.abc import Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from controller.core.prefix_index import PrefixIndex
from hoaflow.addresses import Prefix

Held = TypeVar("Held", bound=Hashable)
Holder = TypeVar("Holder")


class Holders(Generic[Held, Holder]):
    """Holders by what they hold, the latest last."""

    def __init__(self) -> None:
        self._holders: dict[Held, tuple[Holder, ...]] = {}

    def __iter__(self) -> Iterator[Held]:
        """Iterate over what is held, as it is now."""
        return iter(list(self._holders))

    def of(self, held: Held) -> tuple[Holder, ...]:
        """Return who holds something."""
        return self._holders.get(held, ())

    def add(self, held: Held, holder: Holder) -> None:
        """Record a holder that was none."""
        self._holders[held] = (*self.of(held), holder)

    def remove(self, held: Held, holder: Holder) -> None:
        """Forget a holder. Harmless if it is none."""
        left = _without(self.of(held), holder)
        if left:
            self._holders[held] = left
        else:
            self._holders.pop(held, None)


class PrefixHolders(Generic[Holder]):
    """Holders of prefixes, found by prefixes that lie in theirs or cover them, too."""

    def __init__(self) -> None:
        self._holders: PrefixIndex[tuple[Holder, ...]] = PrefixIndex()

    def __len__(self) -> int:
        return len(self._holders)

    def add(self, prefix: Prefix, holder: Holder) -> None:
        """Record a holder that was none."""
        self._holders.put(prefix, (*(self._holders.get(prefix) or ()), holder))

    def remove(self, prefix: Prefix, holder: Holder) -> None:
        """Forget a holder. Harmless if it is none."""
        known = self._holders.get(prefix) or ()
        left = _without(known, holder)
        if left:
            self._holders.put(prefix, left)
        else:
            self._holders.remove(prefix, known)

    def covering(self, prefix: Prefix) -> Iterator[Holder]:
        """Iterate over the holders of prefixes that cover ``prefix``, those of the longest first."""
        return chain.from_iterable(self._holders.covering(prefix))

    def within(self, prefix: Prefix) -> Iterator[Holder]:
        """Iterate over the holders of prefixes that lie in ``prefix``."""
        return chain.from_iterable(self._holders.within(prefix))


def _without(holders: tuple[Holder, ...], gone: Holder) -> tuple[Holder, ...]:
    return tuple(each for each in holders if each != gone)
