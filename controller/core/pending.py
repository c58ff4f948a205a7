# SPDX-License-Identifier: Apache-2.0
"""What has been asked for and not been done yet, so that one can tell when all that was known at a moment is done.

A gate opens onto nothing stale if all that was pending when it was asked for is done. What has come up since is what
comes up while a gate stands, so nobody waits for a moment with nothing to do.
"""

from collections import Counter
from collections.abc import Hashable, Iterable


class Pending:
    """Things that are pending, each since an epoch; ``mark`` ends an epoch, ``passed`` tells whether all of it and of
    those before is done."""

    def __init__(self) -> None:
        self.epoch = 0
        self._since: dict[Hashable, int] = {}
        self._counts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._since)

    def since(self, thing: Hashable) -> int:
        """Return the epoch since which a thing is pending, the present one if it is not."""
        return self._since.get(thing, self.epoch)

    def add(self, thing: Hashable, since: int | None = None) -> None:
        """Have a thing pending since an epoch (None: the present one), if it is not since an earlier one."""
        since = self.epoch if since is None else since
        before = self._since.get(thing)
        if before is None or since < before:
            self._since[thing] = since
            self._counts[since] += 1
            if before is not None:
                self._take_one(before)

    def add_all(self, things: Iterable[Hashable]) -> None:
        """Have things pending, those that are not, since the present epoch."""
        for thing in things:
            self.add(thing)

    def done(self, thing: Hashable) -> None:
        """A thing is not pending any more."""
        since = self._since.pop(thing, None)
        if since is not None:
            self._take_one(since)
            if not self._since:
                self._since.clear()  # a dictionary keeps the room of all that was ever in it

    def mark(self) -> int:
        """End the present epoch and return it."""
        self.epoch += 1
        return self.epoch - 1

    def passed(self, mark: int) -> bool:
        """Tell whether nothing is pending since an epoch up to ``mark``."""
        return not self._counts or min(self._counts) > mark

    def clear(self) -> None:
        """Nothing is pending."""
        self._since.clear()
        self._counts.clear()

    def _take_one(self, epoch: int) -> None:
        self._counts[epoch] -= 1
        if not self._counts[epoch]:
            del self._counts[epoch]
