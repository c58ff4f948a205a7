# SPDX-License-Identifier: Apache-2.0
"""Remember the sequence numbers of bindings that have gone, while an older report may still be under way.

RFC 6275 compares a Binding Update with the binding held (section 9.5.1): once that is gone any number is accepted, and
a mobile node that starts anew may begin with any. A delayed older report would bring back a path that the mobile
node has left. Its number gives it away: a mobile node sends at most three Binding Updates a second (section 12,
MAX_UPDATE_RATE), so it lies only so far behind the last one. A new number that happens to lie there, as one in 700
does, leaves its mobile node on the home agent's path until its bridge sends a snapshot, which is taken as it is.
"""

from typing import NamedTuple

from hoaflow.addresses import Prefix
from hoaflow.sequence import SEQUENCE_SPACE

# How long a report may be under way, in seconds: as long as a request's body may take (`request_timeout`).
UNDER_WAY = 30.0
UPDATES_A_SECOND = 3
# How far behind the last number that of a delayed report may lie.
_BEHIND = round(UNDER_WAY * UPDATES_A_SECOND)


class _LastSequence(NamedTuple):
    sequence: int
    forgotten_at: float
    refused: bool


class LastSequences:
    """The last sequence numbers of home addresses whose bindings have gone lately."""

    def __init__(self) -> None:
        self._last: dict[Prefix, _LastSequence] = {}  # in the order of time

    def remember(self, home_address: Prefix, sequence: int | None, now: float, refused: bool = False) -> None:
        """Record that a binding is gone, with the last sequence number known of it, None for none.

        ``refused``: the number is that of an update that could not be taken, which may come again.
        """
        self._forget_old(now)
        self._last.pop(home_address, None)
        if sequence is not None:
            self._last[home_address] = _LastSequence(sequence, now + UNDER_WAY, refused)

    def newer(self, home_address: Prefix, sequence: int | None, now: float) -> int | None:
        """Return the last number if a report with ``sequence`` is older than that, else None."""
        last = self._last.get(home_address) if self._last else None
        if last is None or sequence is None or last.forgotten_at <= now:
            return None
        late = last.refused <= (last.sequence - sequence) % SEQUENCE_SPACE <= _BEHIND
        return last.sequence if late else None

    def forget(self, home_address: Prefix) -> None:
        """Forget the number of a home address that has a binding again."""
        if self._last:
            self._last.pop(home_address, None)

    def _forget_old(self, now: float) -> None:
        while self._last:
            oldest = next(iter(self._last))
            if self._last[oldest].forgotten_at > now:
                return
            del self._last[oldest]

    def __len__(self) -> int:
        return len(self._last)
