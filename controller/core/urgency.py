# SPDX-License-Identifier: Apache-2.0
"""How a change is handled among others: what it overtakes, and whether an event of its own announces it."""

from enum import Enum

# How many changes that come together are urgent.
MOST_URGENT = 100
# How many changes by one request have events of their own; who wants to know of more asks for the bindings.
MOST_EVENTS = 1000


class Urgency(Enum):
    """How a change is handled among others."""

    URGENT = "urgent"  # goes before all that is not urgent; announced
    ROUTINE = "routine"  # goes in turn; announced
    QUIET = "quiet"  # goes in turn; one of so many that only their number is announced

    @property
    def has_event(self) -> bool:
        """Tell whether the change has an event of its own."""
        return self is not Urgency.QUIET

    @staticmethod
    def of_many(changed: int) -> "Urgency":
        """Return how the next change is handled of many that came together, ``changed`` of which are done."""
        return Urgency.ROUTINE if changed < MOST_EVENTS else Urgency.QUIET
