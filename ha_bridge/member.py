# SPDX-License-Identifier: Apache-2.0
"""Decide what one controller is told next, from the home agent's state and the controller's answers. Pure.

Each controller has its own lease, snapshot, stream of changes and waits after failures, so that one that is dead or
slow delays no other. `Member.next` returns the commands that are due, at most one at a time for each of its two workers
(lease, bindings); each command's outcome comes back through a method. Times are seconds of one monotonic clock.

A renewal of the lease certifies freshness: it carries the number of the last change that the controller must have been
told of, and the controller keeps its gates open only when it has been told of everything up to there.
"""

import logging
import random
from functools import partial

from ha_bridge import statistics
from ha_bridge.commands import (
    Announce,
    Announced,
    Ask,
    Failed,
    MemberCommand,
    Replaced,
    Send,
    Snapshot,
    Verdict,
)
from ha_bridge.home_agent import UP, HomeAgent, Log
from ha_bridge.reconciliation import Reconciliation, Report
from ha_bridge.settings import Settings
from ha_bridge.statistics import MemberCondition, Statistics
from hoaflow.backoff import Backoff
from hoaflow.client.directory import ClusterView, MemberAddress

BATCH = 1000  # bindings in one POST
ANNOUNCE_RETRY = 0.25  # first wait; the longest is the renewal interval
SEND_RETRY = 0.25, 5.0
ASK = 10.0  # seconds between two questions which members the cluster has

_VERDICTS = {200: statistics.ACCEPTED, 201: statistics.ACCEPTED, 409: statistics.STALE, 422: statistics.REFUSED}


class Member:
    """Keep the controller at `address` in step with `home_agent`.

    `log(level, event, **fields)` is called for what an operator should know. `renew`: seconds between two renewals of
    the lease.
    """

    def __init__(
        self, address: MemberAddress, home_agent: HomeAgent, settings: Settings, log: Log, rng: random.Random
    ) -> None:
        self.address = address
        self.renew = settings.renew
        self.statistics = Statistics()
        self._home_agent = home_agent
        self._bindings = Reconciliation(home_agent.bindings)
        self._settings = settings
        self._log: Log = partial(log, controller=str(address))
        self._announce_retry = Backoff(ANNOUNCE_RETRY, settings.renew, rng)
        self._send_retry = Backoff(*SEND_RETRY, rng)
        self._period = 0  # of the home agent, as last acted upon
        self._updates = 0  # of the home agent, as last acted upon
        self._dirty = False
        self._expiry: float | None = None
        self._lease_busy = self._sending = False  # whether a command is under way
        self._announced = False  # the home agent's present period, and the lease stands
        self._announce_at = self._send_at = self._ask_at = float("-inf")
        self._snapshot_due = True
        self._snapshot_done = float("-inf")
        self._told: int | None = None  # number of the last change that the controller knows to have been told of
        self._unanswered = False  # the last question which members there are
        self._complete = -1  # number of the last change with which nothing was left to be reported
        self._failing_since: float | None = None
        self._failing_how = ""

    # Outcomes of requests

    def announced(self, command: Announce, outcome: Announced | Failed, now: float) -> None:
        """Take the outcome of an announcement."""
        self._lease_busy = False
        self._count_request(statistics.LEASE, outcome)
        if isinstance(outcome, Failed):
            self._announced = False
            self._announce_at = now + max(self._announce_retry.failed(), outcome.retry_after)
            self._ask_at = now  # once it can be reached again
            self._fails(outcome, now)
            return
        self._announce_retry.succeeded()
        if self._failing_since is not None:
            self._log(logging.INFO, "controller-reachable", after_s=round(now - self._failing_since, 3))
            self._failing_since, self._failing_how = None, ""
            self._send_retry.succeeded()
            self._send_at = now
        if command.period != self._home_agent.period:
            return  # its status has changed meanwhile: the next announcement is due at once
        self._announce_at = command.started + self.renew
        if not self._announced:
            self._announced = True
            self._log(logging.INFO, "announced", status=command.status, held=outcome.bindings)
        # The answer may be older than a snapshot that was under way at the same time.
        if outcome.snapshot_wanted and command.started >= self._snapshot_done and not self._snapshot_due:
            self._log(logging.INFO, "snapshot-wanted")
            self._snapshot_due = True

    def asked(self, outcome: ClusterView | Failed, now: float) -> None:
        """Take the answer to the question which members the cluster has."""
        self._lease_busy = False
        self._ask_at = now + ASK
        if isinstance(outcome, Failed) and not self._unanswered:
            self._log(logging.WARNING, "cluster-unknown", reason=outcome.detail)
        self._unanswered = isinstance(outcome, Failed)

    def sent(self, command: Send, outcome: list[Verdict] | Failed, now: float) -> None:
        """Take the outcome of a request that reported some bindings."""
        self._sending = False
        self._count_request(statistics.BINDINGS, outcome)
        if isinstance(outcome, Failed):
            self._send_failed(outcome, now)
            return
        self._send_retry.succeeded()
        if command.last_change is not None:
            self._told = command.last_change
        for report, verdict in zip(command.reports, outcome, strict=True):
            self._take_verdict(report, verdict, command.started, now)
        self._bindings_changed(now)

    def replaced(self, command: Snapshot, outcome: Replaced | Failed, now: float) -> None:
        """Take the outcome of a snapshot."""
        self._sending = False
        self._count_request(statistics.SNAPSHOT, outcome)
        if isinstance(outcome, Failed):
            self._send_failed(outcome, now)
            return
        self._send_retry.succeeded()
        # That of a former ownership is not the one that the present one begins with.
        self._snapshot_due, self._snapshot_done = command.owner != self._home_agent.owner, now
        self._told = command.last_change
        for report in self._bindings.confirm_snapshot(command.reports, set(outcome.refused), command.started):
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

    def _take_verdict(self, report: Report, verdict: Verdict, sent: float, now: float) -> None:
        fields = {"home_address": report.home_address, "care_of_address": report.care_of_address}
        if report.registration is not None and report.registration.sequence is not None:
            fields["sequence"] = str(report.registration.sequence)
        if report.registration is not None and report.registration.withheld is not None:
            fields["withheld"] = report.registration.withheld
        self.statistics.reports[_VERDICTS.get(verdict.status, statistics.FAILED)] += 1
        if verdict.status in (200, 201):
            self._bindings.confirm(report, sent)
            event = "binding-removed" if report.registration is None else "binding-sent"
            took = round((now - sent) * 1000, 1)
            self._log(logging.INFO, event, **fields, status=verdict.status, request_ms=took)
        elif verdict.home_agent_unknown:
            self._send_failed(Failed(verdict.errors, reached=True, unknown=True), now)
        elif verdict.status == 409:
            self._log(logging.WARNING, "binding-stale", **fields, status=409)
            self._bindings.set_stale(report)
            self._home_agent.ask()
        elif verdict.status in (403, 422):
            if self._bindings.refuse(report):
                self._log(logging.ERROR, "binding-refused", **fields, status=verdict.status, errors=verdict.errors)
        else:
            self._send_failed(Failed(f"status {verdict.status}: {verdict.errors}", reached=True), now)

    def _send_failed(self, failed: Failed, now: float) -> None:
        # The controller may or may not have applied it, so only a snapshot repairs that.
        self._snapshot_due, self._told = True, None
        self._send_at = now + max(self._send_retry.failed(), failed.retry_after)
        if failed.unknown:
            self._log(logging.WARNING, "home-agent-unknown", reason=failed.detail)
            self._announced = False
            self._announce_at = now
        elif failed.reached:
            self._log(logging.ERROR, "send-failed", reason=failed.detail)
        else:
            self._announced = False
            self._announce_at = min(self._announce_at, now + ANNOUNCE_RETRY)
            self._fails(failed, now)

    def _fails(self, failed: Failed, now: float) -> None:
        self._snapshot_due, self._told = True, None
        if self._failing_since is None:
            self._failing_since = now
        event = "announcement-refused" if failed.reached else "controller-unreachable"
        if event != self._failing_how:
            self._failing_how = event
            self._log(logging.ERROR if failed.reached else logging.WARNING, event, reason=failed.detail)

    def _bindings_changed(self, now: float) -> None:
        # Going through all bindings is dear: it is done once after each change, not each time the loop wakes up.
        self._dirty = True
        self._expiry = self._bindings.next_expiry(now)

    # State

    @property
    def expiry(self) -> float | None:
        """Return the earliest end of a binding that this controller has, None if it cannot be told of another."""
        return self._expiry if self._announced else None

    @property
    def lease_confirmed(self) -> bool:
        """Whether the controller has confirmed the last renewal of the lease. May be read from any thread."""
        return self._announced

    def condition(self) -> MemberCondition:
        """Return what the controller has. May be called from any thread."""
        differences = 0 if self._home_agent.standing_by else self._bindings.count_differences()
        return MemberCondition(self._announced, len(self._bindings.actual), differences)

    def _count_request(self, request: str, outcome: object) -> None:
        result = statistics.OK
        if isinstance(outcome, Failed):
            result = statistics.REFUSED if outcome.reached else statistics.UNREACHABLE
        self.statistics.requests[request, result] += 1

    # Commands

    def next(self, now: float) -> list[MemberCommand]:
        """Return the commands that are due.

        No further command goes to a worker before the outcome of its last one has been given back.
        """
        self._follow(now)
        if self._home_agent.suspended or self._home_agent.status is None:
            return []
        commands: list[MemberCommand] = []
        # Before the announcement, which then says whether nothing is left to be reported.
        if not self._sending and self._send_at <= now and (send := self._to_send(now)):
            self._sending = True
            commands.append(send)
        if not self._lease_busy and (lease := self._to_announce_or_ask(now)):
            self._lease_busy = True
            commands.append(lease)
        return commands

    def due(self, now: float) -> float:
        """Return the time after `now` at which a command may be due, unless input comes before; infinite if none."""
        # Anything in the past has been started, or awaits input.
        return min((end for end in (self._announce_at, self._send_at, self._ask_at) if end > now), default=float("inf"))

    def _follow(self, now: float) -> None:
        """Take over what is new at the home agent."""
        if self._updates != self._home_agent.updates:
            self._updates = self._home_agent.updates
            self._bindings_changed(now)
            if self._bindings.release_stale(now):
                self._snapshot_due = True
        if self._period != self._home_agent.period:
            self._period = self._home_agent.period
            self._announced = False
            self._snapshot_due |= self._home_agent.status == UP
            self._announce_at = now
            self._announce_retry.succeeded()

    def _to_announce_or_ask(self, now: float) -> Announce | Ask | None:
        status = self._home_agent.status
        if status is not None and self._announce_at <= now:
            self._announce_at = now + self.renew
            return Announce(status, self._period, self._expected(), now, self._home_agent.owner)
        if self._announced and self._ask_at <= now:
            return Ask()
        return None

    def _expected(self) -> int | None:
        """Return the number of the last change that the controller must have been told of.

        None as long as the bridge itself knows of no binding: what a former one reported goes on to hold. Changes that
        left nothing to be reported, as there and back again, are not told.
        """
        if not self._home_agent.is_known:
            return None
        last_change = self._home_agent.bindings.last_change
        return self._told if self._told is not None and self._complete == last_change else last_change

    def _to_send(self, now: float) -> Send | Snapshot | None:
        if not self._announced or not self._home_agent.is_known:
            return None
        last_change, up = self._home_agent.bindings.last_change, self._home_agent.status == UP
        owner = self._home_agent.owner
        if self._snapshot_due or (up and now - self._snapshot_done >= self._settings.snapshot):
            return Snapshot(self._bindings.snapshot(now), last_change, now, owner)
        if not self._dirty or not up:
            return None
        self._dirty = False
        reports = self._bindings.difference(now)
        whole = len(reports) <= BATCH and not self._bindings.holds_back
        if not reports:
            self._complete = last_change if whole else -1
            return None
        return Send(reports[:BATCH], last_change if whole else None, now, owner)
