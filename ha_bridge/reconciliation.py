# SPDX-License-Identifier: Apache-2.0
"""Compare the bindings that one controller should have with those that it has. Pure.

Desired is what the home agent shows, actual what the controller has confirmed; the difference is to be sent. All times
are seconds of one monotonic clock, given by the caller.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ha_bridge.desired import ROUNDING, DesiredBindings, Path, Registration
from ha_bridge.model import MIPV4, MIPV6

# A refresh is sent when it moves the end of the lifetime by 1/REFRESH_PART of it, or when the controller's copy has
# less than 1/LAST_PART left.
REFRESH_PART = 4
LAST_PART = 8
MIN_MOVE = 2.0
LONGEST_DETECTION = 3600.0  # seconds, the most that the controller accepts


@dataclass(frozen=True, slots=True)
class Report:
    """A report on one home address for the controller; `registration` is None for a removal.

    `new_path`: the controller does not have this path yet.
    """

    home_address: str
    care_of_address: str
    registration: Registration | None
    new_path: bool = False

    def as_json(self, home_agent: str, now: float, protocol: str = MIPV6) -> dict[str, object]:
        """Return the report in the form of the REST API, with the lifetime as of `now`."""
        body: dict[str, object] = {
            "home_address": self.home_address,
            "care_of_address": self.care_of_address,
            "home_agent": home_agent,
        }
        if protocol != MIPV6:
            body["protocol"] = protocol
        if ":" in home_agent and ":" not in self.care_of_address:
            body["tunnel"] = "ipv4"  # between other addresses of the home agent's than the one that it is known by
        if self.registration is None:
            return body | {"lifetime": 0}
        if self.registration.expires is not None:
            body["lifetime"] = lifetime_left(self.registration.expires, now)
        if protocol == MIPV4:
            body["reverse_tunnel"] = self.registration.reverse_tunnel
        if self.registration.sequence is not None:
            body["identification" if protocol == MIPV4 else "sequence"] = self.registration.sequence
        if self.registration.withheld is not None:
            body["withheld"] = self.registration.withheld
        if self.new_path and self.registration.detected is not None:
            body["detected_ago"] = round(min(max(0.0, now - self.registration.detected), LONGEST_DETECTION), 6)
        return body


def lifetime_left(expires: float, now: float) -> int:
    """Return the whole seconds until `expires`, at least 1: a binding is valid through its last second."""
    return max(1, math.ceil(expires - now))


class Reconciliation:
    """Hold the bindings that one controller has, by home address, and compare them with the desired ones."""

    def __init__(self, desired: DesiredBindings) -> None:
        self._desired = desired
        self.actual: dict[str, Registration] = {}
        self._refused: dict[str, Path] = {}
        self._stale: set[str] = set()

    def difference(self, now: float) -> list[Report]:
        """Return the reports that turn actual into desired, without what the controller refused or found stale."""
        reports = []
        for home, desired in self._desired.registrations.items():
            if home in self._stale or desired.has_ended(now):
                continue
            actual = self.actual.get(home)
            if self._refused.get(home) == desired.path:
                if actual is not None:  # it refuses the new care-of address, so it must not keep the old one
                    reports.append(Report(home, actual.care_of_address, None))
            elif actual is None or actual.path != desired.path:
                reports.append(Report(home, desired.care_of_address, desired, new_path=True))
            elif _refresh_due(actual, desired, now):
                reports.append(Report(home, desired.care_of_address, desired))
        reports.extend(
            Report(home, actual.care_of_address, None)
            for home, actual in self.actual.items()
            if home not in self._desired.registrations
        )
        return reports

    def count_differences(self) -> int:
        """Return the number of paths that differ between desired and actual, without those refused.

        May be called from any thread: both sides are copied atomically.
        """
        desired, actual, refused = dict(self._desired.registrations), dict(self.actual), dict(self._refused)
        equal = sum(
            (home in actual and actual[home].path == registration.path) or home in refused
            for home, registration in desired.items()
        )
        return len(desired) - equal + sum(home not in desired for home in actual)

    def snapshot(self, now: float) -> list[Report]:
        """Return all desired bindings, with those refused before: the controller's settings may have changed."""
        return [
            Report(home, registration.care_of_address, registration)
            for home, registration in self._desired.registrations.items()
            if not registration.has_ended(now)
        ]

    def confirm(self, report: Report, sent: float) -> None:
        """Record that the controller accepted `report`, sent at time `sent`."""
        self._stale.discard(report.home_address)
        if report.registration is None:
            self.actual.pop(report.home_address, None)
        else:
            self._refused.pop(report.home_address, None)
            self.actual[report.home_address] = _as_sent(report.registration, sent)

    def refuse(self, report: Report) -> bool:
        """Record that the controller refused `report`, which is not sent again; tell whether that is new."""
        if report.registration is None:
            self.actual.pop(report.home_address, None)
            return True
        known = self._refused.get(report.home_address) == report.registration.path
        self._refused[report.home_address] = report.registration.path
        return not known

    def set_stale(self, report: Report) -> None:
        """Record that the controller has a newer binding (409), and hold `report` back until the next reading."""
        self._stale.add(report.home_address)

    @property
    def holds_back(self) -> bool:
        """Whether a stale report is held back."""
        return bool(self._stale)

    def release_stale(self, now: float) -> bool:
        """Release the stale reports, after a new reading; tell whether any of them still differs."""
        stale, self._stale = self._stale, set()
        return bool(stale) and any(report.home_address in stale for report in self.difference(now))

    def confirm_snapshot(self, reports: Iterable[Report], refused: set[str], sent: float) -> list[Report]:
        """Record an accepted snapshot, except the home addresses in `refused`; return the newly refused reports."""
        before = self._refused
        self.actual, self._refused, newly_refused = {}, {}, []
        self._stale.clear()
        for report in reports:
            if report.registration is None:
                continue
            if report.home_address in refused:
                self._refused[report.home_address] = report.registration.path
                if before.get(report.home_address) != report.registration.path:
                    newly_refused.append(report)
            else:
                self.actual[report.home_address] = _as_sent(report.registration, sent)
        return newly_refused

    def next_expiry(self, now: float) -> float | None:
        """Return the earliest end of the actual bindings that are also desired."""
        desired = self._desired.registrations
        ends = (registration.expires for home, registration in self.actual.items() if home in desired)
        return min((end for end in ends if end is not None and end > now), default=None)


def _as_sent(registration: Registration, sent: float) -> Registration:
    if registration.expires is None:
        return registration
    return replace(registration, expires=sent + lifetime_left(registration.expires, sent))


def _refresh_due(actual: Registration, desired: Registration, now: float) -> bool:
    if actual.expires is None or desired.expires is None:
        return (actual.expires is None) != (desired.expires is None)
    total = desired.total or 0
    moved = desired.expires - actual.expires
    if moved >= max(MIN_MOVE, total / REFRESH_PART) or moved <= -MIN_MOVE:
        return True
    return moved >= ROUNDING and actual.expires - now <= max(MIN_MOVE, total / LAST_PART)
