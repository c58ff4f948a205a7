# SPDX-License-Identifier: Apache-2.0
"""Print the demo's progress: one line per event, and below them one line that shows the present state."""

import logging
import shutil
import sys
import threading
import time
from typing import TextIO

PLAIN_STATUS_SECONDS = 5.0  # between status lines where they cannot be overwritten (a log file)


def quiet_logs() -> None:
    """Log nothing but errors in this process, whose output is the narrator's.

    Its own calls of the REST API stay on this host, so that a token in clear is no risk.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("hoaflow"):
            logging.getLogger(name).setLevel(logging.ERROR)  # each: Mininet gives every logger a level of its own


class Narrator:
    """Print events and the status line; safe to call from any thread."""

    def __init__(self, output: TextIO = sys.stdout) -> None:
        self._output = output
        self._start = time.monotonic()
        self._live = output.isatty()
        self._width = 0
        self._status_due = 0.0
        self._lock = threading.Lock()

    def elapsed(self) -> float:
        """Return the seconds since construction, as printed before each event."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print an event on a line of its own, with the seconds since the start."""
        with self._lock:
            self._clear()
            self._write(f"[{self.elapsed():5.1f} s] {text}\n")

    def status(self, text: str) -> None:
        """Replace the status line; without a terminal, print one every PLAIN_STATUS_SECONDS."""
        with self._lock:
            if self._live:
                self._clear()
                line = f"          {text}"[: shutil.get_terminal_size().columns - 1]  # a wrapped one would stay
                self._width = len(line)
                self._write(line)
            elif time.monotonic() >= self._status_due:
                self._status_due = time.monotonic() + PLAIN_STATUS_SECONDS
                self._write(f"[{self.elapsed():5.1f} s]   {text}\n")

    def text(self, text: str) -> None:
        """Print TEXT without a time."""
        with self._lock:
            self._clear()
            self._write(text + "\n")

    def _clear(self) -> None:
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()
