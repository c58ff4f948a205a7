# SPDX-License-Identifier: Apache-2.0
"""Keep the kernel as the home agent's declaration says, and report what can't be mended.

Everything is compared when the kernel reports a change that is not our own, and every few seconds, as the kernel does
not report all changes. With many bindings this takes long, so it is done in slices, between which signalling goes on,
and takes a bounded share of the time. Mending is done at once.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from hoaflow.logs import Log
from hoaflow.mobility.tunnels import KERNEL_ERRORS
from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.changes import Changes
from hoaflow.tunnel.declaration import Declared, Difference, Steps, compared, in_words, mend

COMPARE_SECONDS = 5.0
"""Seconds to the next comparison if no change is reported."""
LEAST_PAUSE, PAUSE_SHARE, LONGEST_PAUSE = 0.2, 4, 2.0
"""Seconds to the next comparison after a change: at least, as a multiple of the last one's duration, at most."""
SLICE_SECONDS = 0.01
"""How long signalling waits for a comparison in progress."""

LOG = Log("mobility")


class Upkeep:
    """Compares and mends the declaration.

    Call `run_slice` when `due` (monotonic seconds), and `read_changes` when a socket of `changes` is readable.
    """

    def __init__(
        self,
        declaration: Sequence[Declared],
        ports: Callable[[], Collection[int]],
        readiness_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """Listen for changes. `ports` returns the netlink ports of our own changes. Raises OSError.

        `readiness_changed` is called when `broken` is set or cleared.
        """
        self._declaration, self._ports, self._readiness_changed = declaration, ports, readiness_changed
        self.changes = Changes()
        self.broken: str | None = None
        """What could not be mended, and what an operator can do; None if all is well. Other threads read it, too."""
        self.due = self._rested_at = self._begun = 0.0
        self._comparison: Steps[list[Difference]] | None = None
        self._changed = False
        self._not_mended: list[Difference] = []

    def read_changes(self) -> None:
        """Read the kernel's reports of changes: compare as soon as the pause after the last comparison is over."""
        self._drain(by_kernel=True)

    @contextmanager
    def own_changes(self) -> Iterator[None]:
        """Ignore the kernel's reports of changes that are made within this context."""
        self._drain(by_kernel=True)
        try:
            yield
        finally:
            self._drain(by_kernel=False)

    def apply(self, change: Callable[[], None]) -> str | None:
        """Apply one change of our own to the kernel; return None, or why it failed.

        If the kernel refuses it, something that it depends on is gone: mend the whole declaration, which includes it.
        """
        try:
            with self.own_changes():
                change()
        except KERNEL_ERRORS as error:
            LOG.debug("change-refused", reason=error, action="mend")
            if not self.compare_now():
                return self.broken
        return None

    def run_slice(self) -> None:
        """Continue or begin a comparison for one slice of time; mend what it has found."""
        until = time.monotonic() + SLICE_SECONDS
        try:
            if self._comparison is None:
                self._begin()
                self._comparison = _compared(self._declaration)
            while time.monotonic() < until:
                next(self._comparison)
        except StopIteration as end:
            self._comparison = None
            self._compared(end.value)
        except KERNEL_ERRORS as error:
            self._comparison = None
            self._settle(str(error))

    def compare_now(self) -> bool:
        """Compare and mend at once; return whether all is as declared now.

        After a failure, this is not tried again until the pause is over.
        """
        if self.broken is None or time.monotonic() >= self._rested_at:
            self._comparison = None
            self._begin()
            self._mend(self._declaration)
        return self.broken is None

    def close(self) -> None:
        """Stop listening."""
        if self._comparison is not None:
            self._comparison.close()
        self.changes.close()

    def _begin(self) -> None:
        self._begun, self._changed = time.monotonic(), False

    def _compared(self, found: list[Difference]) -> None:
        if not found:
            self._settle(None)
        elif self.broken is None or found != self._not_mended:
            self._not_mended = found
            self._mend(self._declaration)
        # The same as last time: trying again does not need the rest of the declaration.
        elif self._mend([difference.declared for difference in found]):
            self._mend(self._declaration)

    def _mend(self, declaration: Sequence[Declared]) -> bool:
        """Mend and log what is not as declared; return whether all of it is now."""
        try:
            found = mend(declaration)
        except KERNEL_ERRORS as error:
            self._settle(str(error))
            return False
        if found:
            LOG.warning("mended", found=in_words(found))
        if declaration is self._declaration:
            self._settle(None)
        return True

    def _settle(self, broken: str | None) -> None:
        """Note the result of a comparison, and when the next one is due."""
        before, self.broken = self.broken, broken
        if (broken is None) is not (before is None):
            self._readiness_changed()  # before logging, as whoever reads the log may ask /readyz at once
        if broken is not None and broken != before:
            effect = "the terminal refuses clients and /readyz says 503 until it is as declared"
            LOG.error("not-mended", reason=broken, effect=effect, action="retry")
        elif broken is None and before is not None:
            LOG.info("as-declared-again")
        ended = time.monotonic()
        self._rested_at = ended + min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE_SHARE * (ended - self._begun)))
        self.due = self._rested_at if self._changed else ended + COMPARE_SECONDS

    def _drain(self, by_kernel: bool) -> None:
        if self.changes.drain(self._ports(), by_kernel):
            self._changed, self.due = True, min(self.due, self._rested_at)


def _compared(declaration: Sequence[Declared]) -> Steps[list[Difference]]:
    with ActualState() as actual:
        return (yield from compared(declaration, actual))
