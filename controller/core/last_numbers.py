# SPDX-License-Identifier: Apache-2.0
"""Remember the sequence numbers or timestamps of bindings that have gone, while an older report may be under way.

RFC 6275 compares a Binding Update with the binding held (section 9.5.1): once that is gone any number is accepted, and
a mobile node that starts anew may begin with any. A delayed older report would bring back a path that the mobile
node has left. Its number gives it away: a mobile node sends at most three Binding Updates a second (section 12,
MAX_UPDATE_RATE), so it lies only so far behind the last one. A new number that happens to lie there, as one in 700
does, leaves its mobile node on the home agent's path until its bridge sends a snapshot, which is taken as it is. A
timestamp (RFC 5213 section 5.5) tells for certain.
"""

from typing import NamedTuple

from controller.core.bindings import Binding, Key
from controller.core.protocols import UNDER_WAY


class _Last(NamedTuple):
    number: int
    forgotten_at: float
    refused: bool


class LastNumbers:
    """The last numbers of bindings that have gone lately."""

    def __init__(self) -> None:
        self._last: dict[Key, _Last] = {}  # in the order of time

    def remember(self, key: Key, number: int | None, now: float, refused: bool = False) -> None:
        """Record that a binding is gone, with the last number known of it, None for none.

        ``refused``: the number is that of an update that could not be taken, which may come again.
        """
        self._forget_old(now)
        self._last.pop(key, None)
        if number is not None:
            self._last[key] = _Last(number, now + UNDER_WAY, refused)

    def newer(self, update: Binding, now: float) -> int | None:
        """Return the last number if an update is older than that, else None."""
        last = self._last.get(update.key) if self._last else None
        if last is None or update.number is None or last.forgotten_at <= now:
            return None
        return last.number if update.rules.may_be_late(update.number, last.number, not last.refused) else None

    def forget(self, binding: Binding) -> None:
        """Forget the number of a binding that is there again."""
        if self._last:
            self._last.pop(binding.key, None)

    def _forget_old(self, now: float) -> None:
        while self._last:
            oldest = next(iter(self._last))
            if self._last[oldest].forgotten_at > now:
                return
            del self._last[oldest]

    def __len__(self) -> int:
        return len(self._last)
