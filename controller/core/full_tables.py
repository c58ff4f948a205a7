# SPDX-License-Identifier: Apache-2.0
"""Remember which tables of a switch are full, and when to try again: later each time.

While a table is full, new flows for it are not sent, but for one at a time that finds out whether there is room again.
Flows that stand are changed and renewed all the same.
"""

from typing import NamedTuple

from hoaflow.backoff import delay

FIRST_TRY = 1.0  # seconds
LAST_TRY = 60.0
# The southbound's words for OpenFlow's OFPFMFC_TABLE_FULL.
NO_ROOM = "its table is full (OFPFMFC_TABLE_FULL)"


class RoomChange(NamedTuple):
    """A table has become full, or has room again."""

    table: str
    has_room: bool


class _Full(NamedTuple):
    since: float
    tries: int
    next_try: float


class FullTables:
    """The tables that have refused a new flow for want of room and have taken none since, by name."""

    def __init__(self) -> None:
        self._full: dict[str, _Full] = {}

    def __bool__(self) -> bool:
        return bool(self._full)

    def mark_full(self, table: str, now: float) -> bool:
        """Record that a table has no room for a new flow; tell whether that is news."""
        before = self._full.get(table)
        tries = 0 if before is None else before.tries + 1
        wait = delay(tries + 1, FIRST_TRY, LAST_TRY)
        self._full[table] = _Full(now if before is None else before.since, tries, now + wait)
        return before is None

    def mark_accepting(self, table: str) -> bool:
        """Record that a table has taken a new flow; tell whether it was full."""
        return bool(self._full) and self._full.pop(table, None) is not None

    def blocks(self, table: str, now: float) -> bool:
        """Tell whether a new flow for a table must not be sent. If it may, it tries on behalf of all others."""
        full = self._full.get(table)
        if full is None:
            return False
        if now < full.next_try:
            return True
        self._full[table] = full._replace(next_try=now + FIRST_TRY)  # for the answer to come
        return False

    def clear(self) -> None:
        """Forget all full tables: the switch went away."""
        self._full.clear()
