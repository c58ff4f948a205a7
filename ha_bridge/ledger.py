# SPDX-License-Identifier: Apache-2.0
"""What the home agent holds against what the controller was told: the difference is what is to be sent. Pure.

All times are seconds of one monotonic clock, given by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ha_bridge.model import Observed

# A refresh of an unchanged binding is passed on when it has moved the end by this part of the lifetime...
REFRESH_PART = 4
# ... or, however little it has moved it, when the controller's copy is this part of the lifetime from its
# end.
LAST_PART = 8
# The terminal shows whole seconds, rounded down: ends that differ by less are the same end.
ROUNDING = 1.0
MIN_MOVE = 2.0
LONGEST_DETECTION = 3600.0  # seconds, the longest that the controller takes


@dataclass(frozen=True, slots=True)
class Held:
    """A binding and when it ends. `expires` and `total` are None where the source has no lifetimes. `detected` is the
    time of the first sign that its packets take this path. `withheld`, `frozen`: as in `Observed`."""

    care_of_address: str
    sequence: int | None
    expires: float | None
    total: int | None
    detected: float | None = field(default=None, compare=False)
    withheld: str | None = None
    frozen: bool = field(default=False, compare=False)

    @property
    def path(self) -> tuple[str, str | None]:
        """What tells one way of its packets from another."""
        return self.care_of_address, self.withheld


@dataclass(frozen=True, slots=True)
class Report:
    """What the controller is to be told of one home address; `binding` is None for a removal.

    `news`: it has not been told of this path before.
    """

    home_address: str
    care_of_address: str
    binding: Held | None
    news: bool = False

    def as_json(self, home_agent: str, now: float) -> dict[str, object]:
        """Return the northbound API's form of it, its lifetime as it is at `now`."""
        body: dict[str, object] = {
            "home_address": self.home_address,
            "care_of_address": self.care_of_address,
            "home_agent": home_agent,
        }
        if self.binding is None:
            return body | {"lifetime": 0}
        if self.binding.expires is not None:
            body["lifetime"] = lifetime_left(self.binding.expires, now)
        if self.binding.sequence is not None:
            body["sequence"] = self.binding.sequence
        if self.binding.withheld is not None:
            body["withheld"] = self.binding.withheld
        if self.news and self.binding.detected is not None:
            body["detected_ago"] = round(min(max(0.0, now - self.binding.detected), LONGEST_DETECTION), 6)
        return body


def lifetime_left(expires: float, now: float) -> int:
    """Return the whole seconds until `expires`, at least 1: in its last second it is still a binding."""
    return max(1, math.ceil(expires - now))


class Ledger:
    """The home agent's bindings (`wanted`) and the controller's (`told`), by home address."""

    def __init__(self) -> None:
        self.wanted: dict[str, Held] = {}
        self.told: dict[str, Held] = {}
        self._refused: dict[str, tuple[str, str | None]] = {}  # the path
        self._stale: set[str] = set()

    def observe(self, bindings: Iterable[Observed], now: float, detected: float | None = None) -> None:
        """Take a complete look at the home agent's bindings, made at `now`, in place of the last one. `detected`: when
        the first sign came of what is new in it."""
        seen = ((binding.home_address, self._held(binding, now, detected)) for binding in bindings)
        self.wanted = {home: held for home, held in seen if held is not None}

    def doubt(self, confirmed: dict[str, str], reason: str) -> list[str]:
        """Withhold the bindings whose care-of address is not as in `confirmed`, and return them.

        What a home agent forgot, it does not confirm: that is doubted only where it is known to be elsewhere.
        """
        doubted = [
            home
            for home, held in self.wanted.items()
            if held.withheld is None
            and confirmed.get(home, held.care_of_address if held.frozen else None) != held.care_of_address
        ]
        for home in doubted:
            self.wanted[home] = replace(self.wanted[home], withheld=reason)
        return doubted

    def count_withheld(self) -> int:
        """Return how many bindings are withheld. May be called from any thread."""
        return sum(held.withheld is not None for held in dict(self.wanted).values())

    def count_frozen(self) -> int:
        """Return how many bindings the home agent forgot in a restart. May be called from any thread."""
        return sum(held.frozen for held in dict(self.wanted).values())

    def changes(self, now: float) -> list[Report]:
        """Return what the controller has to be told now, but for what it refused or found stale."""
        reports = []
        for home, held in self.wanted.items():
            if home in self._stale or _over(held, now):
                continue
            told = self.told.get(home)
            if self._refused.get(home) == held.path:
                if told is not None:  # it will not have the new care-of address, so it must not keep the old one
                    reports.append(Report(home, told.care_of_address, None))
            elif told is None or told.path != held.path:
                reports.append(Report(home, held.care_of_address, held, news=True))
            elif _refresh_due(told, held, now):
                reports.append(Report(home, held.care_of_address, held))
        reports.extend(
            Report(home, told.care_of_address, None) for home, told in self.told.items() if home not in self.wanted
        )
        return reports

    def unsent(self) -> int:
        """Return how many bindings the controller has otherwise than the home agent, but for those that it refused.

        May be called from any thread: both sides are copied at once.
        """
        wanted, told, refused = dict(self.wanted), dict(self.told), dict(self._refused)
        sent = sum((home in told and told[home].path == held.path) or home in refused for home, held in wanted.items())
        return len(wanted) - sent + sum(home not in wanted for home in told)

    def snapshot(self, now: float) -> list[Report]:
        """Return all bindings, also those refused before: the controller's settings may have changed."""
        return [Report(home, held.care_of_address, held) for home, held in self.wanted.items() if not _over(held, now)]

    def acknowledged(self, report: Report, sent: float) -> None:
        """The controller has taken `report`, sent at `sent`."""
        self._stale.discard(report.home_address)
        if report.binding is None:
            self.told.pop(report.home_address, None)
        else:
            self._refused.pop(report.home_address, None)
            self.told[report.home_address] = _as_sent(report.binding, sent)

    def refused(self, report: Report) -> bool:
        """The controller will not have `report` (422): not to be sent again. True when that is news."""
        if report.binding is None:
            self.told.pop(report.home_address, None)
            return True
        known = self._refused.get(report.home_address) == report.binding.path
        self._refused[report.home_address] = report.binding.path
        return not known

    def found_stale(self, report: Report) -> None:
        """The controller holds something newer (409): not to be sent until the home agent was asked again."""
        self._stale.add(report.home_address)

    def take_stale(self, now: float) -> bool:
        """After a fresh look: forget what was found stale; True when some of it has still to be told."""
        stale, self._stale = self._stale, set()
        return bool(stale) and any(report.home_address in stale for report in self.changes(now))

    def replaced(self, reports: Iterable[Report], refused: set[str], sent: float) -> list[Report]:
        """The controller has taken a snapshot but for `refused`; return those whose refusal is news."""
        before = self._refused
        self.told, self._refused, news = {}, {}, []
        self._stale.clear()
        for report in reports:
            if report.binding is None:
                continue
            if report.home_address in refused:
                self._refused[report.home_address] = report.binding.path
                if before.get(report.home_address) != report.binding.path:
                    news.append(report)
            else:
                self.told[report.home_address] = _as_sent(report.binding, sent)
        return news

    def next_expiry(self, now: float) -> float | None:
        """Return when the controller's copy of a binding that the home agent holds runs out first."""
        ends = (held.expires for home, held in self.told.items() if home in self.wanted)
        return min((end for end in ends if end is not None and end > now), default=None)

    def _held(self, binding: Observed, now: float, detected: float | None) -> Held | None:
        known = self.wanted.get(binding.home_address)
        if known is not None and known.care_of_address != binding.care_of_address:
            known = None
        if known is not None and known.withheld == binding.withheld:
            detected = known.detected
        if binding.total is None:
            expires = None
        elif binding.left is not None:
            expires = now + binding.left
        elif known is not None:
            expires = known.expires  # what is left cannot be told: the end known before stands
        else:
            return None  # no lifetime to bind it by
        before = known.expires if known is not None else None
        if expires is not None and before is not None and abs(before - expires) < ROUNDING:
            expires = max(before, expires)  # both are rounded down: the later one is nearer the truth
        return Held(
            binding.care_of_address,
            binding.sequence,
            expires,
            binding.total,
            detected,
            binding.withheld,
            binding.frozen,
        )


def _as_sent(held: Held, sent: float) -> Held:
    if held.expires is None:
        return held
    return replace(held, expires=sent + lifetime_left(held.expires, sent))


def _over(held: Held, now: float) -> bool:
    """Tell whether a binding has ended since the last look, and no new one could be had."""
    return held.expires is not None and held.expires + ROUNDING <= now


def _refresh_due(told: Held, held: Held, now: float) -> bool:
    if told.expires is None or held.expires is None:
        return (told.expires is None) != (held.expires is None)
    total = held.total or 0
    moved = held.expires - told.expires
    if moved >= max(MIN_MOVE, total / REFRESH_PART) or moved <= -MIN_MOVE:
        return True
    return moved >= ROUNDING and told.expires - now <= max(MIN_MOVE, total / LAST_PART)
