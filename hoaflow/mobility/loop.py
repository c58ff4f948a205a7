# SPDX-License-Identifier: Apache-2.0
"""Turn a main loop: wait for sockets and for what is due."""

import selectors
import socket
import time
from collections.abc import Callable

STUCK_SECONDS = 30.0
"""Seconds after which a loop that has not turned is stuck. Usually it turns every few seconds."""


class Loop:
    """A loop over the sockets of `selector`, whose data are functions that take the events."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._wake: socket.socket | None = None
        self._stopped = False
        self._turned: float | None = None
        """When it last turned (monotonic seconds). A probe's thread reads it."""

    def run(self, turn: Callable[[float], float]) -> None:
        """Turn until `stop` is called. `turn` takes the time and returns when the next turn is due (both monotonic)."""
        woken, wake = socket.socketpair()
        with woken, wake:
            self.selector.register(woken, selectors.EVENT_READ, lambda _: None)
            self._wake = wake
            try:
                while not self._stopped:
                    self._turned = time.monotonic()
                    due = turn(self._turned)
                    for key, events in self.selector.select(max(0.0, due - time.monotonic())):
                        key.data(events)
            finally:
                self._wake = None
            self.selector.unregister(woken)

    def stop(self) -> None:
        """End `run`, also before it has begun; harmless afterwards. Signal handlers may call this."""
        self._stopped = True
        if self._wake is not None:
            self._wake.send(b"\0")

    def stuck(self) -> str | None:
        """Report a loop that does not turn, which only a restart mends. For probes' threads."""
        if self._turned is None:
            return "not serving yet"
        seconds = time.monotonic() - self._turned
        return f"the main loop has not turned for {seconds:.0f} s" if seconds > STUCK_SECONDS else None

    def close(self) -> None:
        """Close the selector."""
        self.selector.close()
