# SPDX-License-Identifier: Apache-2.0
"""End the agent by SIGTERM or SIGINT, but never in the middle of a change."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop(BaseException):
    """SIGTERM or SIGINT has come: end, and leave the routes in place."""


class Interruption:
    """Raises Stop for SIGTERM and SIGINT, but only while the agent waits, never in the middle of a change."""

    def __init__(self) -> None:
        self._stopping = False
        self._waiting = False

    def install(self) -> None:
        """Handle SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Raise Stop as soon as a signal comes within this context, or at once if one came before."""
        self._waiting = True
        try:
            if self._stopping:
                raise Stop
            yield
        finally:
            self._waiting = False

    def _received(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._waiting:
            raise Stop
