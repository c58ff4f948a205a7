# SPDX-License-Identifier: Apache-2.0
"""Know which of many routers have to be looked at: something has changed there, or is due.

With a thousand routers, one look at each after every report would cost more than the report.
"""

from hoaflow.deadlines import Deadlines


class TouchedRouters:
    """Datapath ids of routers: those that may have something to send, and those for which something becomes due."""

    def __init__(self) -> None:
        self._to_wake: dict[int, None] = {}
        self._to_plan: dict[int, None] = {}
        self._due: Deadlines[int] = Deadlines()

    def add(self, dpid: int) -> None:
        """Record that something has changed at a router."""
        self._to_wake[dpid] = None
        self._to_plan[dpid] = None

    def take_to_wake(self) -> list[int]:
        """Take off and return the routers that may have something to send since the last call."""
        found = list(self._to_wake)
        self._to_wake.clear()
        return found

    def take_to_plan(self) -> list[int]:
        """Take off and return the routers of which something may become due earlier than is planned."""
        found = list(self._to_plan)
        self._to_plan.clear()
        return found

    def plan(self, dpid: int, moment: float) -> None:
        """Have something due at a router at a moment, on the caller's clock."""
        self._due.plan(dpid, moment)

    def take_due(self, now: float) -> list[int]:
        """Take off and return the routers at which something is due. They have to be planned again."""
        found = self._due.due(now, most=len(self._due))
        self._to_plan.update(dict.fromkeys(found))
        return found

    def next_due(self) -> float | None:
        """Return when something becomes due next, None for nothing."""
        return self._due.next()
