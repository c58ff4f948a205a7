# SPDX-License-Identifier: Apache-2.0
"""Suppress bindings that flap: whose care-of address changes more often than routers should follow.

While a binding is suppressed its packets take the home agent's path, which knows the newest care-of address. Once it
has calmed down, the newest one is applied. (RFC 2439 suppresses flapping routes likewise.)
"""

from hoaflow.addresses import Prefix
from hoaflow.deadlines import Deadlines

# How long a change counts, in seconds.
PERIOD = 1.0
_AT_A_TIME = 1000


class FlapDamping:
    """Counts the changes of each home address; up to ``limit`` a second are followed, more suppress it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # When home addresses have changed lately: the last `limit` moments, oldest first.
        self._changes: dict[Prefix, list[float]] = {}
        self.suppressed: set[Prefix] = set()
        self._reviews: Deadlines[Prefix] = Deadlines()

    def count_change(self, home_address: Prefix, now: float) -> bool:
        """Record a change of a home address; tell whether it is suppressed from now on."""
        changes = self._changes.setdefault(home_address, [])
        changes.append(now)
        self._reviews.plan(home_address, now + PERIOD)
        if len(changes) <= self.limit:
            return False
        too_many = now - changes[0] < PERIOD
        del changes[0]
        if not too_many or home_address in self.suppressed:
            return False
        self.suppressed.add(home_address)
        return True

    def suppresses(self, home_address: Prefix) -> bool:
        """Tell whether a home address is suppressed."""
        return home_address in self.suppressed

    def released(self, now: float) -> list[Prefix]:
        """Return the home addresses whose suppression has just ended."""
        found = []
        for home_address in self._reviews.due(now, _AT_A_TIME):
            changes = self._changes[home_address]
            calm_at = changes[0] + PERIOD  # when fewer than the limit lie within a period
            if home_address in self.suppressed and calm_at <= now:
                self.suppressed.discard(home_address)
                found.append(home_address)
            if changes[-1] + PERIOD <= now:
                del self._changes[home_address]
            else:
                self._reviews.plan(home_address, calm_at if home_address in self.suppressed else changes[-1] + PERIOD)
        return found

    def next_release(self) -> float | None:
        """Return when ``released`` has to be called next, None for not at all."""
        return self._reviews.next()
