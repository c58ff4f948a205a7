# SPDX-License-Identifier: Apache-2.0
"""Turn signals into an exception, so that everything is taken down in order, and once."""

import signal
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(BaseException):
    """SIGTERM, SIGINT or SIGHUP arrived; `status` is the exit status, 128 + the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def raise_interrupted() -> None:
    """Have the signals of ENDING raise Interrupted, but leave ignored ones (nohup, background) ignored."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Raise Interrupted, and ignore further signals: cleaning up takes a few seconds."""
    for other in ENDING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)
