# SPDX-License-Identifier: Apache-2.0
"""Bindings that flap: a home address whose care-of address changes more often than routers should follow is held back.

While it is held its packets take the home agent's path, which has the newest care-of address; when it has calmed down
the newest one is applied.
"""

from controller.core.agenda import Agenda
from hoaflow.addresses import Prefix

# How long changes count, in seconds.
PERIOD = 1.0
_AT_A_TIME = 1000


class Churn:
    """Counts changes of each home address; ``limit`` is how many a second are followed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        # Of home addresses that have changed lately: when, oldest first, as many as matter.
        self._changes: dict[Prefix, list[float]] = {}
        self._suppressed: set[Prefix] = set()
        self._reviews: Agenda[Prefix] = Agenda()

    def note(self, home_address: Prefix, now: float) -> bool:
        """A home address changes. Tell whether it is held back from now on."""
        changes = self._changes.setdefault(home_address, [])
        changes.append(now)
        self._reviews.plan(home_address, now + PERIOD)
        if len(changes) <= self.limit:
            return False
        too_many = now - changes[0] < PERIOD
        del changes[0]
        if not too_many or home_address in self._suppressed:
            return False
        self._suppressed.add(home_address)
        return True

    def suppresses(self, home_address: Prefix) -> bool:
        """Tell whether a home address is held back."""
        return home_address in self._suppressed

    def released(self, now: float) -> list[Prefix]:
        """Return the home addresses that are not held back any more."""
        found = []
        for home_address in self._reviews.due(now, _AT_A_TIME):
            changes = self._changes[home_address]
            calm_at = changes[0] + PERIOD  # of one that is held: then its changes within a period are below the limit
            if home_address in self._suppressed and calm_at <= now:
                self._suppressed.discard(home_address)
                found.append(home_address)
            if changes[-1] + PERIOD <= now:
                del self._changes[home_address]
            else:
                self._reviews.plan(home_address, calm_at if home_address in self._suppressed else changes[-1] + PERIOD)
        return found

    def next_release(self) -> float | None:
        """Return when ``released`` has to be asked next."""
        return self._reviews.next()
