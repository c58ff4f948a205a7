# SPDX-License-Identifier: Apache-2.0
"""Tells greenlets that something in the core may have changed."""

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
