# SPDX-License-Identifier: Apache-2.0
"""Keeps what the home agent needs of the kernel as it is declared, and says so when it can't.

Everything declared is compared as soon as the kernel tells of a change that is not our own, and in full every few
seconds, as not everything is told. With many bindings that takes long: it is done in slices, between which signalling
goes on, and in a share of the time that is bounded. Only what is not as declared is mended at one go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from hoaflow.home_agent.tunnels import KERNEL_ERRORS
from hoaflow.logs import Log
from hoaflow.tunnel.changes import Changes
from hoaflow.tunnel.declaration import Declared, Difference, Steps, compared, in_words, mend
from hoaflow.tunnel.look import Look

LOOK_SECONDS = 5.0
"""From one comparison to the next without word of a change."""
LEAST_PAUSE, PAUSE_SHARE, LONGEST_PAUSE = 0.2, 4, 2.0
"""Seconds to the next comparison with word of a change: at least, times the last one's duration, and at most."""
SLICE_SECONDS = 0.01
"""How long signalling waits for a comparison that is under way."""

LOG = Log("home-agent")


class Upkeep:
    """The home agent's declaration. `work` when `due` (monotonic seconds), `heard` when `changes` has something."""

    def __init__(self, declaration: Sequence[Declared], ports: Callable[[], Collection[int]]) -> None:
        """`ports`: the netlink ports of changes made by `own_change`. Raises OSError."""
        self._declaration, self._ports = declaration, ports
        self.changes = Changes()
        self.broken: str | None = None
        """What is not as declared and could not be mended, with what an operator can do; read by other threads, too."""
        self.due = self._rested_at = self._begun = 0.0
        self._comparison: Steps[list[Difference]] | None = None
        self._heard = False
        self._not_mended: list[Difference] = []

    def heard(self) -> None:
        """The kernel has told of changes: compare as soon as the last comparison's pause is over."""
        self._drain(by_kernel=True)

    @contextmanager
    def own_change(self) -> Iterator[None]:
        """Whatever the kernel tells of what is done within comes of us."""
        self._drain(by_kernel=True)
        try:
            yield
        finally:
            self._drain(by_kernel=False)

    def work(self) -> None:
        """Compare for a moment, or begin to; mend when something is found."""
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

    def look(self) -> bool:
        """Compare and mend at one go; returns whether all is as declared now.

        One that failed a moment ago is not tried again before its pause is over.
        """
        if self.broken is None or time.monotonic() >= self._rested_at:
            self._comparison = None
            self._begin()
            self._mend(self._declaration)
        return self.broken is None

    def close(self) -> None:
        """Listen to the kernel no longer."""
        if self._comparison is not None:
            self._comparison.close()
        self.changes.close()

    def _begin(self) -> None:
        self._begun, self._heard = time.monotonic(), False

    def _compared(self, found: list[Difference]) -> None:
        if not found:
            self._settle(None)
        elif self.broken is None or found != self._not_mended:
            self._not_mended = found
            self._mend(self._declaration)
        # As before: it does not take the rest to try again.
        elif self._mend([difference.declared for difference in found]):
            self._mend(self._declaration)

    def _mend(self, declaration: Sequence[Declared]) -> bool:
        """Make what is not as declared, and say what was found or could not be mended; returns whether all is now."""
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
        """Note how a comparison ended, and when the next is due."""
        if broken is not None and broken != self.broken:
            effect = "the terminal is closed and /readyz says 503 until it is as declared"
            LOG.error("not-mended", reason=broken, effect=effect, action="retry")
        elif broken is None and self.broken is not None:
            LOG.info("as-declared-again")
        self.broken = broken
        ended = time.monotonic()
        self._rested_at = ended + min(LONGEST_PAUSE, max(LEAST_PAUSE, PAUSE_SHARE * (ended - self._begun)))
        self.due = self._rested_at if self._heard else ended + LOOK_SECONDS

    def _drain(self, by_kernel: bool) -> None:
        if self.changes.drain(self._ports(), by_kernel):
            self._heard, self.due = True, min(self.due, self._rested_at)


def _compared(declaration: Sequence[Declared]) -> Steps[list[Difference]]:
    with Look() as look:
        return (yield from compared(declaration, look))
