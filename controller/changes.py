# SPDX-License-Identifier: Apache-2.0
"""Wake greenlets when something in the core may have changed, and let them run."""

from collections.abc import Iterable

import eventlet
from eventlet.event import Event
from eventlet.semaphore import Semaphore

# How often all others run between two slices of long work; a turn in which none has anything to do takes 5 µs.
TURNS = 8


def give_way() -> None:
    """Let other greenlets run between two slices of long work, each several times.

    A handover is passed on from greenlet to greenlet half a dozen times from its report to its answer. With one turn
    for each slice it would wait for one of every long work that goes on at each of these.
    """
    for _ in range(TURNS):
        eventlet.sleep(0)


class ChangeSignal:
    """Wake all waiting greenlets at each notification."""

    def __init__(self) -> None:
        self._event = Event()

    def notify(self) -> None:
        """Wake all greenlets that wait now."""
        event, self._event = self._event, Event()
        event.send()

    def wait(self, seconds: float) -> bool:
        """Wait for a notification, at most `seconds`; tell whether it came."""
        event = self._event
        with eventlet.Timeout(max(seconds, 0.0), False):
            event.wait()
            return True
        return False


class WorkSignal:
    """Wake one waiting greenlet, which does all that there is to do; if none waits, the next does not have to."""

    def __init__(self) -> None:
        self._there_is_work = Semaphore(0)

    def notify(self) -> None:
        """Wake a greenlet that waits, or have the next one not wait."""
        if self._there_is_work.locked():
            self._there_is_work.release()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for a notification, at most `seconds` (None: however long it takes)."""
        self._there_is_work.acquire(timeout=None if seconds is None else max(seconds, 0.0))


class KeyedSignal:
    """Wake only the greenlets that wait for one key: where many wait, most would be woken in vain."""

    def __init__(self) -> None:
        self._waiting: dict[object, list[ChangeSignal]] = {}

    def notify(self, keys: Iterable[object]) -> None:
        """Wake all greenlets that wait now for one of `keys`."""
        if not self._waiting:
            return
        for key in keys:
            for signal in self._waiting.get(key, ()):
                signal.notify()

    def wait(self, key: object, seconds: float) -> bool:
        """Wait for a notification of `key`, at most `seconds`; tell whether it came."""
        signal = ChangeSignal()
        self._waiting.setdefault(key, []).append(signal)
        try:
            return signal.wait(seconds)
        finally:
            self._waiting[key].remove(signal)
            if not self._waiting[key]:
                del self._waiting[key]
