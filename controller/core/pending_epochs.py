# SPDX-License-Identifier: Apache-2.0
"""Remember since which epoch each subject is pending, to tell when all is done that was known at a moment.

A gate opens onto nothing stale if all that was pending when it was asked for is done. It need not wait for what
has come up since, as that may also come up while a gate stands.
"""

from collections import Counter
from collections.abc import Hashable, Iterable


class PendingEpochs:
    """Things that are pending, each since an epoch.

    ``mark`` ends an epoch; ``passed`` tells whether all of that epoch and those before is done.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._since: dict[Hashable, int] = {}
        self._counts: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._since)

    def since(self, thing: Hashable) -> int:
        """Return the epoch since which a thing is pending, the present one if it is not pending."""
        return self._since.get(thing, self.epoch)

    def add(self, thing: Hashable, since: int | None = None) -> None:
        """Make a thing pending since an epoch, None for the present one, unless it is since an earlier one."""
        since = self.epoch if since is None else since
        before = self._since.get(thing)
        if before is None or since < before:
            self._since[thing] = since
            self._counts[since] += 1
            if before is not None:
                self._take_one(before)

    def add_all(self, things: Iterable[Hashable]) -> None:
        """Make things pending since the present epoch, unless they are already."""
        for thing in things:
            self.add(thing)

    def done(self, thing: Hashable) -> None:
        """Record that a thing is done."""
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
        """Tell whether nothing is pending since ``mark`` or an earlier epoch."""
        return not self._counts or min(self._counts) > mark

    def clear(self) -> None:
        """Forget all that is pending."""
        self._since.clear()
        self._counts.clear()

    def _take_one(self, epoch: int) -> None:
        self._counts[epoch] -= 1
        if not self._counts[epoch]:
            del self._counts[epoch]
