# SPDX-License-Identifier: Apache-2.0
"""Do in a greenlet what signals ask for: read tokens and certificates again on SIGHUP, leave the cluster on SIGTERM."""

import os
import signal
from collections.abc import Callable, Mapping

import eventlet
from eventlet import hubs

from controller.settings import WrongSettings
from hoaflow.logs import Log

LOG = Log("controller")

LEAVE_WITHIN = 2.0  # seconds


class Signals:
    """Call `reloads`, which are by the name of what they read, at each SIGHUP, and `leave` before SIGTERM ends all.

    A reload that raises must have changed nothing, so what was read before stays in use. It raises WrongSettings for
    mistakes in its files; any other error is logged with its traceback, and ends nothing either.
    """

    def __init__(self, reloads: Mapping[str, Callable[[], None]], leave: Callable[[], None] | None) -> None:
        """Take over SIGHUP, which would end the process otherwise, and SIGTERM if there is something to leave.

        Call it in the main thread.
        """
        self._reloads = reloads
        self._leave = leave
        # A handler interrupts any code, cannot use the hub, and does not wake it. So Python itself writes a byte, the
        # signal's number, to a pipe that the hub watches.
        self._wake, signalled = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(signalled, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, lambda *_: None)
        self._end = signal.getsignal(signal.SIGTERM)
        if leave is not None:
            signal.signal(signal.SIGTERM, lambda *_: None)

    def serve(self) -> None:
        """Wait for signals until the greenlet is ended."""
        while True:
            hubs.trampoline(self._wake, read=True)
            numbers = os.read(self._wake, 4096)
            if signal.SIGTERM in numbers and self._leave is not None:
                with eventlet.Timeout(LEAVE_WITHIN, False):
                    self._leave()
                signal.signal(signal.SIGTERM, self._end)
                os.kill(os.getpid(), signal.SIGTERM)
            if signal.SIGHUP in numbers:
                self._reload()

    def _reload(self) -> None:
        for what, reload in self._reloads.items():
            try:
                reload()
            except WrongSettings as error:
                LOG.error("reload-failed", what=what, kept="former", reason=error)
            except Exception:
                LOG.exception("reload-failed", what=what, kept="former")
            else:
                LOG.info("reloaded", what=what)
