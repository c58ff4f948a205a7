# SPDX-License-Identifier: Apache-2.0
"""Signals that end a program: all is taken down in order, once, and the exit status says which it was."""

import signal
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(BaseException):
    """SIGTERM, SIGINT or SIGHUP: stop, and clean up."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def raise_interrupted() -> None:
    """Have the signals in ENDING raise Interrupted; not those that are ignored, by nohup or in the background."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """End as soon as possible. From now on signals are ignored: cleaning up takes a few seconds, and is bounded."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
