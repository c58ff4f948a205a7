# SPDX-License-Identifier: Apache-2.0
"""Schedule readings of the source. Pure: times are arguments, in seconds."""

from hoaflow.backoff import Backoff

# Seconds after a change in the kernel at which the terminal is asked: the home agent may change its cache later, or the
# state of an entry (dad) later still.
FOLLOW_UPS = (0.0, 0.03, 0.15, 0.6, 2.0)
# Seconds before the end of a binding at which the terminal is asked whether the home agent has extended it.
BEFORE_EXPIRY = 1.0
MIN_GAP = 0.25
# Share of the time that readings may take after a change, and otherwise: a cache of 100,000 entries is read less often
# rather than without a pause.
BUSY_AFTER_CHANGE = 1 / 2
BUSY = 1 / 10


class ReadSchedule:
    """Decide when to read the source next; one reading at a time."""

    def __init__(self, interval: float, retry: Backoff) -> None:
        self._least = interval
        self.interval = interval  # between two regular readings; longer if they are dear
        self._retry = retry
        self._changed: float | None = None
        self._asked = False
        self._started = float("-inf")
        self._finished = float("-inf")
        self._cost = 0.0
        self._regular = float("-inf")
        self.reading = False

    def changed(self, now: float) -> None:
        """Record a change in the kernel: read now, and follow up."""
        self._changed = now

    def ask(self) -> None:
        """Request a new reading as soon as possible, without follow-ups."""
        self._asked = True

    def start(self, now: float) -> None:
        """Record that a reading begins."""
        self.reading, self._asked, self._started = True, False, now

    def finish(self, now: float, ok: bool) -> None:
        """Record that the current reading has ended, with a result (`ok`) or without."""
        self.reading, self._finished, self._cost = False, now, now - self._started
        if ok:
            self._retry.succeeded()
            self.interval = max(self._least, self._cost * (1 / BUSY - 1))
            self._regular = now + self.interval
        else:
            self._regular = now + min(self._least, self._retry.failed())

    def due(self, expiry: float | None) -> float:
        """Return the time of the next reading. `expiry` is the earliest end of a binding that the controller has."""
        due = self._regular
        if expiry is not None:
            pause = max(MIN_GAP, self._cost * (1 / BUSY - 1))
            due = min(due, max(expiry - BEFORE_EXPIRY, self._finished + pause))
        wanted = self._follow_up()
        if self._asked:
            wanted = self._finished
        if wanted is not None:
            pause = self._cost * (1 / BUSY_AFTER_CHANGE - 1)
            due = min(due, max(wanted, self._finished + pause))
        return due

    def _follow_up(self) -> float | None:
        if self._changed is None:
            return None
        for wait in FOLLOW_UPS:
            if self._changed + wait > self._started:
                return self._changed + wait
        return None
