# SPDX-License-Identifier: Apache-2.0
"""The latest events, numbered, for any number of readers.

A reader is a position in one common ring, so it costs no memory however slow it is, and keeps nobody waiting: who is
overtaken by the ring has lost events and is told so.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from controller.changes import ChangeSignal
from controller.core.events import Event
from hoaflow.errors import HoaflowError

# Told in place of events that are no longer there: load by GET what they were about.
RESET = "reset"


class Lost(HoaflowError):
    """The events after a position are no longer held, or never were."""


class Recorded:
    """An event with its number and moment (seconds since the epoch). Its text is made once, for the first who reads."""

    __slots__ = ("_block", "event", "id", "time")

    def __init__(self, id_: int, time: float, event: Event) -> None:
        self.id = id_
        self.time = time
        self.event = event
        self._block: bytes | None = None

    def members(self) -> dict[str, str | int | float | bool | None]:
        """Return what JSON shows of it besides id and name."""
        return {"time": rfc3339(self.time), **self.event.shown()}

    def block(self) -> bytes:
        """Return it as a block of an event stream (HTML Living Standard section 9.2)."""
        if self._block is None:
            self._block = b"id: %d\nevent: %b\ndata: %b\n\n" % (
                self.id,
                self.event.name.encode(),
                msgspec.json.encode(self.members()),
            )
        return self._block


class Part(NamedTuple):
    """What was read at once, and where to go on: the number of the last event looked at."""

    events: list[Recorded]
    position: int


class EventBuffer:
    """A ring of events. Numbers go up by one, also over a restart if ``first`` does."""

    def __init__(self, size: int, first: int) -> None:
        """``size``: how many events are kept. ``first``: number of the first, above any of an earlier life."""
        self.last = first - 1
        self._first = first
        self._size = size
        self._held = 0
        self._ring: list[Recorded | None] = [None] * size
        self._grown = ChangeSignal()

    @property
    def begin(self) -> int:
        """The position before the oldest event that is held."""
        return self.last - self._held

    def add(self, events: Collection[Event], now: float) -> None:
        """Record events that happened at ``now`` (seconds since the epoch), and wake those who wait."""
        if not events:
            return
        ring, size, number = self._ring, self._size, self.last
        for event in events:
            number += 1
            ring[number % size] = Recorded(number, now, event)
        self.last = number
        self._held = min(size, self._held + len(events))
        self._grown.notify()

    def read(self, position: int, names: Collection[str] | None, most: int) -> Part:
        """Return the first ``most`` events after ``position`` that have one of ``names`` (None: all).

        Raises Lost when not all events after ``position`` are held.
        """
        if not self.begin <= position <= self.last:
            raise Lost(position)
        found: list[Recorded] = []
        while position < self.last and len(found) < most:
            position += 1
            recorded = self._ring[position % self._size]
            assert recorded is not None, "a number between begin and last"
            if names is None or recorded.event.name in names:
                found.append(recorded)
        return Part(found, position)

    def reset(self, position: int, now: float) -> Recorded:
        """Return what is told to a reader that has lost the events after ``position``; it goes on after that one's id.

        A reader from an earlier life gets all of this one, if it is all held. Else it goes on with what comes: to read
        what is held takes time, in which it would be overtaken again.
        """
        whole = position < self._first and self.begin == self._first - 1
        return Recorded(self.begin if whole else self.last, now, Event(RESET, {}))

    def wait(self, seconds: float) -> None:
        """Wait until an event is added or somebody calls ``wake``, for ``seconds`` at the longest."""
        self._grown.wait(seconds)

    def wake(self) -> None:
        """Wake all who wait."""
        self._grown.notify()


def rfc3339(time: float) -> str:
    """Return a moment (seconds since the epoch) in UTC, with milliseconds."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
