# SPDX-License-Identifier: Apache-2.0
"""Pass on the outcomes of calls from threads to the loop that waits for them."""

import os
import queue
import threading
from collections.abc import Callable, Iterator

from hoaflow.closing import Closing

Outcome = Callable[[float], None]  # takes the time at which it is dealt with


class Outcomes(Closing):
    """A queue of outcomes. `descriptor` is readable while there are any. What comes after the end is dropped."""

    def __init__(self) -> None:
        self.descriptor, self._writer = os.pipe()
        self._queue: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._open = True
        self._lock = threading.Lock()

    def put(self, outcome: Outcome) -> None:
        """Add an outcome. Callable from any thread."""
        with self._lock:
            if self._open:
                self._queue.put(outcome)
                os.write(self._writer, b"!")

    def take(self) -> Iterator[Outcome]:
        """Yield the outcomes that have come."""
        while not self._queue.empty():
            os.read(self.descriptor, 1)
            yield self._queue.get()

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.descriptor)
                os.close(self._writer)
