# SPDX-License-Identifier: Apache-2.0
"""Keep the last updates of home addresses and what became of them, for those who ask why.

Kept are the latest few of each of the home addresses that changed last. A refresh does not count as a change, or a
hundred thousand mobile nodes that stay where they are would drive out the one that moved.
"""

from collections import OrderedDict
from typing import Literal

from msgspec import Struct

from hoaflow.addresses import Prefix

UPDATES_KEPT = 8
HOME_ADDRESSES_KEPT = 10_000

# `uncovered`: another protocol's binding of the same home address, which outranked it, is gone.
Source = Literal["post", "snapshot", "delete", "expiry", "lease", "uncovered"]
Result = Literal["added", "changed", "refreshed", "refused", "removed", "withheld"]


class RecordedUpdate(Struct, frozen=True, gc=False):
    """One update of a binding, where it came from and what became of it; ``time`` is on the caller's clock."""

    time: float
    care_of_address: bytes | None
    sequence: int | None
    lifetime: int | None
    source: Source
    result: Result
    reason: str | None = None


class UpdateHistory:
    """The last updates of each home address, oldest first."""

    def __init__(self) -> None:
        # By the last change: the first is forgotten next.
        self._updates: OrderedDict[Prefix, tuple[RecordedUpdate, ...]] = OrderedDict()

    def of(self, home_address: Prefix) -> tuple[RecordedUpdate, ...]:
        """Return the last updates of a home address."""
        return self._updates.get(home_address, ())

    def knows(self, home_address: Prefix) -> bool:
        """Tell whether the home address is one of those that changed last."""
        return home_address in self._updates

    def record(self, home_address: Prefix, update: RecordedUpdate) -> None:
        """Record an update. One that repeats the last refusal or refresh takes its place."""
        known = self._updates.get(home_address)
        if known is not None:
            self._updates[home_address] = _joined(known, update)
            if update.result != "refreshed":
                self._updates.move_to_end(home_address)
        elif update.result != "refreshed":
            self._updates[home_address] = (update,)
            if len(self._updates) > HOME_ADDRESSES_KEPT:
                self._updates.popitem(last=False)


def _joined(known: tuple[RecordedUpdate, ...], update: RecordedUpdate) -> tuple[RecordedUpdate, ...]:
    repeats = known and (known[-1].result, known[-1].source, known[-1].reason) == (
        update.result,
        update.source,
        update.reason,
    )
    if repeats and update.result in ("refreshed", "refused"):
        known = known[:-1]
    return (*known, update)[-UPDATES_KEPT:]
