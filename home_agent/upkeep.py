# SPDX-License-Identifier: Apache-2.0
"""Keeps what the home agent needs of the kernel as it is declared, and says so when it can't.

Everything declared is compared as soon as the kernel tells of a change, and in full every few seconds, as not
everything is told. What a comparison may cost is bounded: with many bindings it takes long,
and then it is done less often.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from home_agent.tunnels import KERNEL_ERRORS
from logs import Log
from tunnel.changes import Changes
from tunnel.declaration import Declared, in_words, mend

LOOK_SECONDS = 5.0
"""From one comparison to the next without word of a change."""
LEAST_PAUSE, PAUSE_SHARE = 0.2, 20
"""Seconds to the next comparison at least, and how many times the last one's duration: at most 5 % of the time."""

LOG = Log("home-agent")


class Upkeep:
    """The home agent's declaration. `look` when `due` (monotonic seconds), `heard` when `changes` has something."""

    def __init__(self, declaration: Sequence[Declared]) -> None:
        """Raises OSError."""
        self._declaration = declaration
        self.changes = Changes()
        self.broken: str | None = None
        """What is not as declared and could not be mended, with what an operator can do; read by other threads, too."""
        self.due = self._rested_at = 0.0

    def heard(self) -> None:
        """The kernel has told of a change: compare as soon as the last comparison's pause is over."""
        if self.changes.drain():
            self.due = min(self.due, self._rested_at)

    def look(self) -> bool:
        """Compare and mend, and say what was found or could not be mended. Returns whether all is as declared now."""
        begun = time.monotonic()
        broken = None
        try:
            if found := mend(self._declaration):
                LOG.warning("mended", found=in_words(found))
        except KERNEL_ERRORS as error:
            broken = str(error)
            if broken != self.broken:
                effect = "the terminal is closed and /readyz says 503 until it is as declared"
                LOG.error("not-mended", reason=broken, effect=effect, action="retry")
        else:
            if self.broken is not None:
                LOG.info("as-declared-again")
        self.broken = broken
        ended = time.monotonic()
        self._rested_at = ended + max(LEAST_PAUSE, PAUSE_SHARE * (ended - begun))
        self.due = max(self._rested_at, ended + LOOK_SECONDS)
        return broken is None

    def close(self) -> None:
        """Listen to the kernel no longer."""
        self.changes.close()
