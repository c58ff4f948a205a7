# SPDX-License-Identifier: Apache-2.0
"""Tells greenlets that something in the core may have changed."""

from collections.abc import Iterable

import eventlet
from eventlet.event import Event


class ChangeSignal:
    """Wakes everybody who waits, each time it is notified."""

    def __init__(self) -> None:
        self._event = Event()

    def notify(self) -> None:
        """Wake all that wait now."""
        event, self._event = self._event, Event()
        event.send()

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, for ``seconds`` at the longest; tell whether that happened."""
        event = self._event
        with eventlet.Timeout(max(seconds, 0.0), False):
            event.wait()
            return True
        return False


class KeyedSignal:
    """Wakes only those who wait for something with one key: where many wait, most would be woken in vain."""

    def __init__(self) -> None:
        self._waiting: dict[object, list[ChangeSignal]] = {}

    def notify(self, keys: Iterable[object]) -> None:
        """Wake all that wait now for one of these."""
        if not self._waiting:
            return
        for key in keys:
            for signal in self._waiting.get(key, ()):
                signal.notify()

    def wait(self, key: object, seconds: float) -> bool:
        """Wait to be woken, for ``seconds`` at the longest; tell whether that happened."""
        signal = ChangeSignal()
        self._waiting.setdefault(key, []).append(signal)
        try:
            return signal.wait(seconds)
        finally:
            self._waiting[key].remove(signal)
            if not self._waiting[key]:
                del self._waiting[key]
