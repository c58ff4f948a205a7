# SPDX-License-Identifier: Apache-2.0
"""Hold what the bridge knows of its home agent, and decide when to read it. Pure.

It is read once for all controllers. Each controller's `ha_bridge.member.Member` compares what it has been told with
what is held here. Times are seconds of one monotonic clock.

The lease keeps traffic off the home agent. It is renewed only while the controllers' bindings can be trusted:

- The home agent answers: the lease is renewed, `up`.
- Its process is certainly gone (nobody listens): the lease is renewed, `ha-down`. Bindings are frozen: nothing else is
  sent, but to a controller that has none, as one that has restarted. Without lifetimes nothing would end frozen
  bindings, so the lease is renewed for `WITHOUT_LIFETIME` only.
- It listens but does not answer (an operator's session, a hang), and the bridge sees the kernel: the lease is renewed.
  After a change in the kernel, bindings that the kernel does not confirm are withheld.
- It listens but does not answer, and the bridge does not see the kernel: the lease is renewed until the next reading is
  overdue by the length of the lease. Then the gates close within another lease, and traffic takes the home agent's
  path.

If it is one of several pods, the bridge is silent while another one owns the address, and until it has read what this
one has as the owner: the lease that the former owner's bridge has renewed bridges the gap.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable

from ha_bridge import statistics
from ha_bridge.commands import Read
from ha_bridge.desired import DesiredBindings
from ha_bridge.frozen_bindings import WITHOUT_LIFETIME
from ha_bridge.model import Owner, Reading, ReadingFailed
from ha_bridge.schedule import FOLLOW_UPS, ReadSchedule
from ha_bridge.settings import Settings
from ha_bridge.statistics import HomeAgentCondition
from hoaflow.backoff import Backoff

UNCONFIRMED = "in doubt: the kernel has changed it since the terminal showed it last, and the terminal does not answer"
UP, DOWN = "up", "ha-down"
READ_RETRY = 0.25, 1.0  # first and longest wait (seconds) before an unanswering source is asked again
FOLLOWING = 0.5  # seconds by which the last reading that follows a change may begin late

Log = Callable[..., None]


class HomeAgent:
    """Hold the home agent's status and bindings.

    `log(level, event, **fields)` is called for what an operator should know. `first_change` is the number that its
    changes are counted on from.

    `status`: UP or DOWN, None before the first reading. `period`: a number that is another when a status has begun, or
    the lease may be renewed again. `updates`: a number that is another after each reading. `suspended`: the lease must
    not be renewed. `owner`: which of several pods it is, and since when, None if it has no others. `standing_by`: the
    name of the pod that owns the address instead; empty if this one does.
    """

    def __init__(self, settings: Settings, log: Log, rng: random.Random, first_change: int = 0) -> None:
        self.bindings = DesiredBindings(first_change)
        self.status: str | None = None
        self.period = 0
        self.updates = 0
        self.suspended = False
        self.owner: Owner | None = None
        self.standing_by = "nobody known yet" if settings.pods else ""
        self.readings: Counter[str] = Counter()  # by result
        self._settings = settings
        self._log = log
        self._reads = ReadSchedule(settings.poll, Backoff(*READ_RETRY, rng))
        self._last_read = float("-inf")  # start of the last complete reading
        self._changed = float("-inf")
        self._unread: float | None = None  # time of the first change in the kernel that no reading has covered
        self._down_since = 0.0
        self._unreadable = False
        self._withheld: dict[str, str] = {}

    @property
    def is_known(self) -> bool:
        """Whether its bindings have ever been read."""
        return self.updates > 0

    def changed(self, now: float) -> None:
        """Record that the kernel changed something that may be a binding."""
        self._changed = now
        if self._unread is None:
            self._unread = now
        self._reads.changed(now)

    def ask(self) -> None:
        """Request a reading as soon as possible: a controller has a newer binding than the last reading showed."""
        self._reads.ask()

    def owned(self, owner: Owner, here: bool) -> None:
        """Take in which pod owns the address, `here`: the one beside the bridge."""
        if owner == self.owner or (not here and owner.name == self.standing_by):
            return
        self.owner, self.standing_by = (owner, "") if here else (None, owner.name)
        if here:
            self._log(logging.INFO, "following", pod=owner.name, revision=owner.revision)
        else:
            self._log(logging.INFO, "standing-by", serving=owner.name, effect="its bridge tells the controllers")
        self.status, self._unread, self._unreadable, self.suspended = None, None, False, False
        self.period += 1
        self._reads.ask()

    def read(self, reading: Reading | ReadingFailed, now: float, owner: Owner | None = None) -> None:
        """Take the outcome of a reading of the source, begun under an owner."""
        self._reads.finish(now, isinstance(reading, Reading))
        if owner != self.owner or self.standing_by:
            return  # it may show what a former owner had
        if isinstance(reading, ReadingFailed):
            self.readings[statistics.DOWN if reading.down else statistics.UNREADABLE] += 1
            self._take_failure(reading, now)
            return
        self.readings[statistics.OK] += 1
        self._last_read = reading.started
        detected = self._first_sign(reading.started)
        self._unread = self._changed if self._changed > reading.started else None
        if self._unreadable:
            self._unreadable = False
            self._log(logging.INFO, "source-readable")
        if self.status != UP:
            self._set_status(UP, "the home agent answers")
        self.bindings.observe(reading.bindings, now, detected)
        self.updates += 1
        withheld = {each.home_address: each.withheld for each in reading.bindings if each.withheld is not None}
        for home, reason in withheld.items():
            if self._withheld.get(home) != reason:
                self._log(logging.WARNING, "binding-withheld", home_address=home, reason=reason)
        self._withheld = withheld

    def next(self, now: float, expiry: float | None) -> Read | None:
        """Return the command to read the source if that is due; one reading at a time.

        `expiry` is the earliest end of a binding that a controller has.
        """
        self._judge(now)
        if self.standing_by or self._reads.reading or self._reads.due(expiry) > now:
            return None
        self._reads.start(now)
        return Read(self.owner)

    def due(self, expiry: float | None) -> float:
        """Return the time of the next reading; infinite while one is under way."""
        return float("inf") if self.standing_by or self._reads.reading else self._reads.due(expiry)

    def condition(self, now: float) -> HomeAgentCondition:
        """Return the home agent's condition. May be called from any thread."""
        return HomeAgentCondition(
            up=self.status == UP,
            readable=self.status == UP and not self._unreadable,
            lease_suspended=self.suspended,
            since_change=None if self._changed == float("-inf") else now - self._changed,
            registered=len(self.bindings.registrations),
            withheld=self.bindings.count_withheld(),
            frozen=self.bindings.count_frozen(),
        )

    def _first_sign(self, started: float) -> float:
        """Return the time of the first sign of a change that is found by a reading begun at `started`.

        It is that of the kernel's event that led to the reading, possibly some readings ago, else `started` itself.
        """
        if self._unread is not None and self._unread <= started:
            return self._unread
        return self._changed if 0 <= started - self._changed <= FOLLOW_UPS[-1] + FOLLOWING else started

    def _take_failure(self, failed: ReadingFailed, now: float) -> None:
        if failed.down and (self.status is not None or self.owner is None):
            if self.status != DOWN:
                self._down_since = now
                self._set_status(DOWN, failed.detail)
            return
        if not self._unreadable:
            self._unreadable = True
            self._log(logging.WARNING, "source-unreadable", reason=failed.detail)
        if self.status == UP and failed.confirmed is not None and self._unread is not None:
            for home in self.bindings.withhold_unconfirmed(failed.confirmed, UNCONFIRMED):
                self._log(logging.WARNING, "binding-doubted", home_address=home, reason=UNCONFIRMED)
            self.updates += 1
            if failed.started >= self._changed:
                self._unread = None

    def _set_status(self, status: str, reason: str) -> None:
        self._log(logging.WARNING if status == DOWN else logging.INFO, status, reason=reason)
        self.status = status
        self.period += 1

    def _judge(self, now: float) -> None:
        """Decide whether the lease may be renewed."""
        reason = self._suspension_reason(now)
        if reason and not self.suspended:
            self._log(logging.ERROR, "lease-suspended", reason=reason)
        elif self.suspended and not reason:
            self._log(logging.INFO, "lease-resumed")
            self.period += 1
        self.suspended = bool(reason)

    def _suspension_reason(self, now: float) -> str:
        """Return why the lease must not be renewed; empty if it may be."""
        if self.status == DOWN:
            if self.bindings.endless and now - self._down_since > WITHOUT_LIFETIME:
                return "the home agent is down, and without lifetimes nothing else ends its bindings"
        elif self.status == UP and not self._settings.kernel:
            if now - self._last_read > self._reads.interval + self._settings.lease:
                return "the home agent has not shown its binding cache for as long as the lease"
        elif self.status == UP and self._unread is not None and now - self._unread > self._settings.lease:
            return "the kernel has changed, and neither home agent nor kernel show the bindings"
        return ""
