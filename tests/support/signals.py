# SPDX-License-Identifier: Apache-2.0
"""Have signals end a run of the tests in order, so that it leaves nothing.

A signal that was ignored when the run began (`nohup`, a job in the background) is ignored by it. The processes that
tests start get the signals' defaults in any case: with SIGINT ignored, Ctrl-C cannot be tested.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_in_order() -> None:
    """Have the signals in ENDING do what Ctrl-C does, once: a second one does not disturb the cleanup."""
    # pyroute2 opens a namespace's sockets in a fork of this process and ends the fork by SIGTERM: with our handler,
    # the fork would clean up what the tests are using.
    os.register_at_fork(after_in_child=_default)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (*ENDING, signal.SIGQUIT):
        # A signal whose handler is a function is back at its default in every program that is executed.
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)
        elif number in ENDING:
            signal.signal(number, _interrupt)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Let a cleanup come to its end: a signal in ENDING that comes meanwhile takes effect afterwards."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            os.kill(os.getpid(), came[0])


def _interrupt(number: int, _frame: FrameType | None) -> None:
    for each in ENDING:
        signal.signal(each, _nothing)
    raise KeyboardInterrupt(signal.Signals(number).name)


def _default() -> None:
    for number in (*ENDING, signal.SIGQUIT):
        if signal.getsignal(number) in (_interrupt, _nothing):
            signal.signal(number, signal.SIG_DFL)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Take no notice."""
