# SPDX-License-Identifier: Apache-2.0
"""Decide what the bridge does next, from its source's readings and the controller's answers. Pure.

Input comes through the methods. `next` returns the commands that are due, at most one at a time for each of the three
workers (source, lease, bindings); each command's outcome comes back through a method. Times are seconds of one
monotonic clock.

The lease keeps traffic off the home agent. It is renewed only while the controller's bindings can be trusted:

- The home agent answers: the lease is renewed, `up`.
- Its process is certainly gone (nobody listens): the lease is renewed, `ha-down`. Bindings are frozen, and nothing else
  is sent. Without lifetimes nothing would end frozen bindings, so the lease is renewed for `WITHOUT_LIFETIME` only.
- It listens but does not answer (an operator's session, a hang), and the bridge sees the kernel: the lease is renewed.
  After a change in the kernel, bindings that the kernel does not confirm are withheld.
- It listens but does not answer, and the bridge does not see the kernel: the lease is renewed until the next reading is
  overdue by the length of the lease. Then the gates close within another lease, and traffic takes the home agent's
  path.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from ha_bridge import statistics
from ha_bridge.exchange import Announce, Announced, Command, Failed, Read, Replaced, Send, Snapshot, Verdict
from ha_bridge.frozen_bindings import WITHOUT_LIFETIME
from ha_bridge.model import Reading, ReadingFailed
from ha_bridge.reconciliation import Reconciliation, Report
from ha_bridge.schedule import FOLLOW_UPS, ReadSchedule
from ha_bridge.statistics import Condition, Statistics
from hoaflow.backoff import Backoff

BATCH = 1000  # bindings in one POST
UNCONFIRMED = "in doubt: the kernel has changed it since the terminal showed it last, and the terminal does not answer"
UP, DOWN = "up", "ha-down"
READ_RETRY = 0.25, 1.0  # first and longest wait (seconds) before an unanswering source is asked again
ANNOUNCE_RETRY = 0.25  # first wait; the longest is the renewal interval
SEND_RETRY = 0.25, 5.0
FOLLOWING = 0.5  # seconds by which the last reading that follows a change may begin late

Log = Callable[..., None]

_VERDICTS = {200: statistics.ACCEPTED, 201: statistics.ACCEPTED, 409: statistics.STALE, 422: statistics.REFUSED}


@dataclass(frozen=True, slots=True)
class Settings:
    """Intervals of the bridge, in seconds. `kernel`: changes in the kernel arrive as events."""

    lease: int
    renew: float
    snapshot: float
    poll: float
    kernel: bool


class Core:
    """Hold the bridge's state and decide what is due.

    `log(level, event, **fields)` is called for what an operator should know.
    """

    def __init__(self, settings: Settings, log: Log, rng: random.Random) -> None:
        self.bindings = Reconciliation()
        self._settings = settings
        self._log = log
        self._reads = ReadSchedule(settings.poll, Backoff(*READ_RETRY, rng))
        self._announce_retry = Backoff(ANNOUNCE_RETRY, settings.renew, rng)
        self._send_retry = Backoff(*SEND_RETRY, rng)
        self._status: str | None = None
        self._last_read = float("-inf")  # start of the last complete reading
        self._changed = float("-inf")
        self._unread: float | None = None  # time of the first change in the kernel that no reading has covered
        self._dirty = False
        self._expiry: float | None = None
        self._down_since = 0.0
        self._unreadable = False
        self._withheld: dict[str, str] = {}
        self._announcing = self._sending = False
        self._announced: str | None = None
        self._announce_at = self._send_at = float("-inf")
        self._snapshot_due = True
        self._snapshot_done = float("-inf")
        self._failing_since: float | None = None
        self._failing_how = ""
        self._suspended = False
        self.statistics = Statistics()

    # Outcomes of readings

    def changed(self, now: float) -> None:
        """Record that the kernel changed something that may be a binding."""
        self._changed = now
        if self._unread is None:
            self._unread = now
        self._reads.changed(now)

    def read(self, reading: Reading | ReadingFailed, now: float) -> None:
        """Take the outcome of a reading of the source."""
        self._reads.finish(now, isinstance(reading, Reading))
        if isinstance(reading, ReadingFailed):
            self.statistics.readings[statistics.DOWN if reading.down else statistics.UNREADABLE] += 1
            self._take_failure(reading, now)
            return
        self.statistics.readings[statistics.OK] += 1
        self._last_read = reading.started
        detected = self._first_sign(reading.started)
        self._unread = self._changed if self._changed > reading.started else None
        if self._unreadable:
            self._unreadable = False
            self._log(logging.INFO, "source-readable")
        if self._status != UP:
            self._set_status(UP, now, "the home agent answers")
            self._snapshot_due = True
        self.bindings.observe(reading.bindings, now, detected)
        self._bindings_changed(now)
        if self.bindings.release_stale(now):
            self._snapshot_due = True
        withheld = {each.home_address: each.withheld for each in reading.bindings if each.withheld is not None}
        for home, reason in withheld.items():
            if self._withheld.get(home) != reason:
                self._log(logging.WARNING, "binding-withheld", home_address=home, reason=reason)
        self._withheld = withheld

    def _first_sign(self, started: float) -> float:
        """Return the time of the first sign of a change that is found by a reading begun at `started`.

        It is that of the kernel's event that led to the reading, possibly some readings ago, else `started` itself.
        """
        if self._unread is not None and self._unread <= started:
            return self._unread
        return self._changed if 0 <= started - self._changed <= FOLLOW_UPS[-1] + FOLLOWING else started

    def _take_failure(self, failed: ReadingFailed, now: float) -> None:
        if failed.down:
            if self._status != DOWN:
                self._down_since = now
                self._set_status(DOWN, now, failed.detail)
            return
        if not self._unreadable:
            self._unreadable = True
            self._log(logging.WARNING, "source-unreadable", reason=failed.detail)
        if self._status == UP and failed.confirmed is not None and self._unread is not None:
            for home in self.bindings.withhold_unconfirmed(failed.confirmed, UNCONFIRMED):
                self._log(logging.WARNING, "binding-doubted", home_address=home, reason=UNCONFIRMED)
            self._bindings_changed(now)
            if failed.started >= self._changed:
                self._unread = None

    def _set_status(self, status: str, now: float, reason: str) -> None:
        self._log(logging.WARNING if status == DOWN else logging.INFO, status, reason=reason)
        self._status = status
        self._announced = None
        self._announce_at = now
        self._announce_retry.succeeded()

    # Outcomes of requests to the controller

    def announced(self, command: Announce, outcome: Announced | Failed, now: float) -> None:
        """Take the outcome of an announcement."""
        self._announcing = False
        self._count_request(statistics.LEASE, outcome)
        if isinstance(outcome, Failed):
            self._announced = None
            self._announce_at = now + max(self._announce_retry.failed(), outcome.retry_after)
            self._controller_fails(outcome, now)
            return
        self._announce_retry.succeeded()
        if self._failing_since is not None:
            self._log(logging.INFO, "controller-reachable", after_s=round(now - self._failing_since, 3))
            self._failing_since, self._failing_how = None, ""
            self._send_retry.succeeded()
            self._send_at = now
        if command.status != self._status:
            return  # the home agent's status has changed meanwhile: the next announcement is due at once
        self._announce_at = command.started + self._settings.renew
        if self._announced != command.status:
            self._announced = command.status
            self._log(logging.INFO, "announced", status=command.status, held=outcome.bindings)
        # The answer may be older than a snapshot that was under way at the same time.
        if outcome.snapshot_wanted and command.started >= self._snapshot_done and not self._snapshot_due:
            self._log(logging.INFO, "snapshot-wanted")
            self._snapshot_due = True

    def sent(self, command: Send, outcome: list[Verdict] | Failed, now: float) -> None:
        """Take the outcome of a request that reported some bindings."""
        self._sending = False
        self._count_request(statistics.BINDINGS, outcome)
        if isinstance(outcome, Failed):
            self._send_failed(outcome, now)
            return
        self._send_retry.succeeded()
        for report, verdict in zip(command.reports, outcome, strict=True):
            self._take_verdict(report, verdict, command.started, now)
        self._bindings_changed(now)

    def _take_verdict(self, report: Report, verdict: Verdict, sent: float, now: float) -> None:
        fields = {"home_address": report.home_address, "care_of_address": report.care_of_address}
        if report.registration is not None and report.registration.sequence is not None:
            fields["sequence"] = str(report.registration.sequence)
        if report.registration is not None and report.registration.withheld is not None:
            fields["withheld"] = report.registration.withheld
        self.statistics.reports[_VERDICTS.get(verdict.status, statistics.FAILED)] += 1
        if verdict.status in (200, 201):
            self.bindings.confirm(report, sent)
            event = "binding-removed" if report.registration is None else "binding-sent"
            took = round((now - sent) * 1000, 1)
            self._log(logging.INFO, event, **fields, status=verdict.status, request_ms=took)
        elif verdict.home_agent_unknown:
            self._send_failed(Failed(verdict.errors, reached=True, unknown=True), now)
        elif verdict.status == 409:
            self._log(logging.WARNING, "binding-stale", **fields, status=409)
            self.bindings.set_stale(report)
            self._reads.ask()
        elif verdict.status in (403, 422):
            if self.bindings.refuse(report):
                self._log(logging.ERROR, "binding-refused", **fields, status=verdict.status, errors=verdict.errors)
        else:
            self._send_failed(Failed(f"status {verdict.status}: {verdict.errors}", reached=True), now)

    def replaced(self, command: Snapshot, outcome: Replaced | Failed, now: float) -> None:
        """Take the outcome of a snapshot."""
        self._sending = False
        self._count_request(statistics.SNAPSHOT, outcome)
        if isinstance(outcome, Failed):
            self._send_failed(outcome, now)
            return
        self._send_retry.succeeded()
        self._snapshot_due, self._snapshot_done = False, now
        for report in self.bindings.confirm_snapshot(command.reports, set(outcome.refused), command.started):
            self._log(
                logging.ERROR,
                "binding-refused",
                home_address=report.home_address,
                care_of_address=report.care_of_address,
                errors=outcome.refused[report.home_address],
            )
        self._bindings_changed(now)
        took = round((now - command.started) * 1000, 1)
        counts = dict(outcome.counts) | {"refused": len(outcome.refused)}
        self._log(logging.INFO, "snapshot-sent", bindings=len(command.reports), **counts, request_ms=took)

    def _send_failed(self, failed: Failed, now: float) -> None:
        # The controller may or may not have applied it, so only a snapshot repairs that.
        self._snapshot_due = True
        self._send_at = now + max(self._send_retry.failed(), failed.retry_after)
        if failed.unknown:
            self._log(logging.WARNING, "home-agent-unknown", reason=failed.detail)
            self._announced = None
            self._announce_at = now
        elif failed.reached:
            self._log(logging.ERROR, "send-failed", reason=failed.detail)
        else:
            self._announced = None
            self._announce_at = min(self._announce_at, now + ANNOUNCE_RETRY)
            self._controller_fails(failed, now)

    def _controller_fails(self, failed: Failed, now: float) -> None:
        self._snapshot_due = True
        if self._failing_since is None:
            self._failing_since = now
        event = "announcement-refused" if failed.reached else "controller-unreachable"
        if event != self._failing_how:
            self._failing_how = event
            self._log(logging.ERROR if failed.reached else logging.WARNING, event, reason=failed.detail)

    def _bindings_changed(self, now: float) -> None:
        # Going through all bindings is dear: it is done once after each change, not each time the loop wakes up.
        self._dirty = True
        self._expiry = self.bindings.next_expiry(now)

    # State

    def condition(self, now: float) -> Condition:
        """Return the bridge's condition. May be called from any thread."""
        return Condition(
            home_agent_up=self._status == UP,
            announced=self._announced is not None,
            readable=self._status == UP and not self._unreadable,
            lease_suspended=self._suspended,
            since_change=None if self._changed == float("-inf") else now - self._changed,
            registered=len(self.bindings.desired),
            accepted=len(self.bindings.actual),
            differences=self.bindings.count_differences(),
            withheld=self.bindings.count_withheld(),
            frozen=self.bindings.count_frozen(),
        )

    def _count_request(self, request: str, outcome: object) -> None:
        result = statistics.OK
        if isinstance(outcome, Failed):
            result = statistics.REFUSED if outcome.reached else statistics.UNREACHABLE
        self.statistics.requests[request, result] += 1

    # Commands

    def next(self, now: float) -> list[Command]:
        """Return the commands that are due.

        No further command goes to a worker before the outcome of its last one has been given back.
        """
        commands: list[Command] = []
        if not self._reads.reading and self._reads.due(self._expiry) <= now:
            self._reads.start(now)
            commands.append(Read())
        renewing = self._may_renew(now)
        if renewing and self._status is not None and not self._announcing and self._announce_at <= now:
            self._announcing = True
            self._announce_at = now + self._settings.renew
            commands.append(Announce(self._status, now))
        if renewing and not self._sending and self._send_at <= now and (send := self._to_send(now)):
            self._sending = True
            commands.append(send)
        return commands

    def wait(self, now: float) -> float:
        """Return the seconds from `now` until a command may be due, unless input comes before."""
        ends = [now + 1.0, self._announce_at, self._send_at]
        if not self._reads.reading:
            ends.append(self._reads.due(self._expiry))
        # Anything in the past has been started, or awaits input.
        return min(end for end in ends if end > now) - now

    def _to_send(self, now: float) -> Send | Snapshot | None:
        if self._status != UP or self._announced != UP:
            return None
        if self._snapshot_due or now - self._snapshot_done >= self._settings.snapshot:
            return Snapshot(self.bindings.snapshot(now), now)
        if not self._dirty:
            return None
        self._dirty = False
        reports = self.bindings.difference(now)[:BATCH]
        return Send(reports, now) if reports else None

    def _may_renew(self, now: float) -> bool:
        reason = self._suspension_reason(now)
        if reason and not self._suspended:
            self._log(logging.ERROR, "lease-suspended", reason=reason)
        elif self._suspended and not reason:
            self._log(logging.INFO, "lease-resumed")
            self._snapshot_due = True
            self._announce_at = now
        self._suspended = bool(reason)
        return not reason

    def _suspension_reason(self, now: float) -> str:
        """Return why the lease must not be renewed; empty if it may be."""
        if self._status == DOWN:
            endless = any(registration.expires is None for registration in self.bindings.actual.values())
            if endless and now - self._down_since > WITHOUT_LIFETIME:
                return "the home agent is down, and without lifetimes nothing else ends its bindings"
        elif self._status == UP and not self._settings.kernel:
            if now - self._last_read > self._reads.interval + self._settings.lease:
                return "the home agent has not shown its binding cache for as long as the lease"
        elif self._status == UP and self._unread is not None and now - self._unread > self._settings.lease:
            return "the kernel has changed, and neither home agent nor kernel show the bindings"
        return ""
