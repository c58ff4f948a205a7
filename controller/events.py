# SPDX-License-Identifier: Apache-2.0
"""Keep the latest events, numbered, for any number of readers.

A reader is a position in one common ring, so a slow one costs no memory and delays nobody. A reader that the ring
overtakes has lost events and learns of it.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from controller.changes import ChangeSignal
from controller.core.events import Event
from hoaflow.errors import HoaflowError

# Sent in place of lost events: the reader should load the state anew.
RESET = "reset"


class EventsLost(HoaflowError):
    """The events after a position are no longer in the buffer, or never were."""


class RecordedEvent:
    """An event with its number and time (seconds since the epoch); its text is made once, for the first reader."""

    __slots__ = ("_block", "event", "id", "time")

    def __init__(self, id_: int, time: float, event: Event) -> None:
        self.id = id_
        self.time = time
        self.event = event
        self._block: bytes | None = None

    def members(self) -> dict[str, str | int | float | bool | None]:
        """Return the members of its JSON object, without id and name."""
        return {"time": rfc3339(self.time), **self.event.shown()}

    def block(self) -> bytes:
        """Return the event as a block of an event stream (HTML Living Standard section 9.2)."""
        if self._block is None:
            self._block = b"id: %d\nevent: %b\ndata: %b\n\n" % (
                self.id,
                self.event.name.encode(),
                msgspec.json.encode(self.members()),
            )
        return self._block


class Part(NamedTuple):
    """Events read at once, and the position to go on from: the number of the last event examined."""

    events: list[RecordedEvent]
    position: int


class EventBuffer:
    """Keep events in a ring. Their numbers go up by one, and across restarts if `first` does."""

    def __init__(self, size: int, first: int) -> None:
        """Keep `size` events. `first` is the number of the first, above any of an earlier process."""
        self.last = first - 1
        self._first = first
        self._size = size
        self._held = 0
        self._ring: list[RecordedEvent | None] = [None] * size
        self._grown = ChangeSignal()

    @property
    def begin(self) -> int:
        """Return the position before the oldest event in the buffer."""
        return self.last - self._held

    def add(self, events: Collection[Event], now: float) -> None:
        """Record events that happened at `now` (seconds since the epoch), and wake all waiting readers."""
        if not events:
            return
        ring, size, number = self._ring, self._size, self.last
        for event in events:
            number += 1
            ring[number % size] = RecordedEvent(number, now, event)
        self.last = number
        self._held = min(size, self._held + len(events))
        self._grown.notify()

    def read(self, position: int, names: Collection[str] | None, most: int) -> Part:
        """Return the first `most` events after `position` that have one of `names` (None: any).

        Raises EventsLost if not all events after `position` are in the buffer.
        """
        if not self.begin <= position <= self.last:
            raise EventsLost(f"expected a position from {self.begin} to {self.last}, got {position}")
        found: list[RecordedEvent] = []
        while position < self.last and len(found) < most:
            position += 1
            recorded = self._ring[position % self._size]
            assert recorded is not None, "a number between begin and last"
            if names is None or recorded.event.name in names:
                found.append(recorded)
        return Part(found, position)

    def reset(self, position: int, now: float) -> RecordedEvent:
        """Return the event for a reader that has lost those after `position`; the reader goes on after its id.

        A reader of an earlier process gets all events of this one, if none is lost. Otherwise it goes on with new ones:
        while it read the buffer, it would be overtaken again.
        """
        whole = position < self._first and self.begin == self._first - 1
        return RecordedEvent(self.begin if whole else self.last, now, Event(RESET, {}))

    def wait(self, seconds: float) -> None:
        """Wait until an event is added or `wake` is called, at most `seconds`."""
        self._grown.wait(seconds)

    def wake(self) -> None:
        """Wake all waiting readers."""
        self._grown.notify()


def rfc3339(time: float) -> str:
    """Return a time (seconds since the epoch) in RFC 3339 form, UTC, with milliseconds."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
