# SPDX-License-Identifier: Apache-2.0
"""Follow whether a peer is alive, and whether it has restarted (RFC 5847). Pure: time is an argument."""

from dataclasses import dataclass
from enum import Enum, auto

from hoaflow.pmipv6.messages import Heartbeat

MISSING_ALLOWED = 3
"""Requests without an answer before the peer counts as unreachable (MISSING_HEARTBEATS_ALLOWED)."""
RETRY_SECONDS = 1.0
"""Seconds to the next request after one that was not answered."""


class News(Enum):
    """What a heartbeat, or the lack of one, tells of the peer."""

    UNREACHABLE = auto()
    REACHABLE = auto()
    RESTARTED = auto()


@dataclass(slots=True)
class Peer:
    """The other end, asked every `interval` seconds.

    `counter` is its last restart counter. `seen` is when it last answered with that counter: what it did before then,
    it did before any restart that shows later.
    """

    interval: float
    due: float
    sequence: int
    counter: int | None = None
    seen: float = 0.0
    missing: int = 0
    reachable: bool | None = None

    def tick(self, now: float) -> tuple[int | None, News | None]:
        """Return the sequence number of a request to send now, if any, and news."""
        if now < self.due:
            return None, None
        news = None
        if self.missing == MISSING_ALLOWED and self.reachable is not False:
            self.reachable, news = False, News.UNREACHABLE
        self.sequence = self.sequence + 1 & 0xFFFFFFFF
        self.due = now + (min(RETRY_SECONDS, self.interval) if 0 < self.missing < MISSING_ALLOWED else self.interval)
        self.missing += 1
        return self.sequence, news

    def answered(self, heartbeat: Heartbeat, now: float) -> News | None:
        """Take a response: to the last request, or unsolicited. Any other is ignored."""
        if heartbeat.restart_counter is None:
            return None
        if not heartbeat.unsolicited and (heartbeat.sequence != self.sequence or not self.missing):
            return None
        before, self.counter = self.counter, heartbeat.restart_counter
        news = News.REACHABLE if self.reachable is False else None
        if before is not None and before != self.counter:
            news = News.RESTARTED
        else:
            self.seen = now
        self.missing, self.reachable = 0, True
        self.due = now + self.interval
        return news
