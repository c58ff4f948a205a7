# SPDX-License-Identifier: Apache-2.0
"""Compare the home agent's bindings with those the controller was told; the difference is to be sent. Pure.

All times are seconds of one monotonic clock, given by the caller.
"""

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
    """A binding with the time of its end.

    `expires` and `total` are None if the source has no lifetimes. `detected` is the time of the first sign that packets
    take this path. `withheld` and `frozen` are as in `Observed`.
    """

    care_of_address: str
    sequence: int | None
    expires: float | None
    total: int | None
    detected: float | None = field(default=None, compare=False)
    withheld: str | None = None
    frozen: bool = field(default=False, compare=False)

    @property
    def path(self) -> tuple[str, str | None]:
        """What identifies the path of the binding's packets."""
        return self.care_of_address, self.withheld


@dataclass(frozen=True, slots=True)
class Report:
    """A report on one home address for the controller; `binding` is None for a removal.

    `news`: the controller has not been told of this path before.
    """

    home_address: str
    care_of_address: str
    binding: Held | None
    news: bool = False

    def as_json(self, home_agent: str, now: float) -> dict[str, object]:
        """Return the report as the REST API takes it, with the lifetime as of `now`."""
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
    """Return the whole seconds until `expires`, at least 1: a binding lives through its last second."""
    return max(1, math.ceil(expires - now))


class Ledger:
    """Hold the home agent's bindings (`wanted`) and the controller's (`told`), by home address."""

    def __init__(self) -> None:
        self.wanted: dict[str, Held] = {}
        self.told: dict[str, Held] = {}
        self._refused: dict[str, tuple[str, str | None]] = {}  # the path
        self._stale: set[str] = set()

    def observe(self, bindings: Iterable[Observed], now: float, detected: float | None = None) -> None:
        """Replace the home agent's bindings by those of a complete reading at `now`.

        `detected` is the time of the first sign of what is new in it.
        """
        seen = ((binding.home_address, self._held(binding, now, detected)) for binding in bindings)
        self.wanted = {home: held for home, held in seen if held is not None}

    def doubt(self, confirmed: dict[str, str], reason: str) -> list[str]:
        """Withhold and return the bindings whose care-of address differs from `confirmed`.

        Bindings that the home agent forgot are not in `confirmed`: they are doubted only if it shows another address
        for them.
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
        """Return the number of withheld bindings. May be called from any thread."""
        return sum(held.withheld is not None for held in dict(self.wanted).values())

    def count_frozen(self) -> int:
        """Return the number of bindings that the home agent forgot in a restart. May be called from any thread."""
        return sum(held.frozen for held in dict(self.wanted).values())

    def changes(self, now: float) -> list[Report]:
        """Return the reports that are due, without what the controller refused or found stale."""
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
        """Return the number of bindings that differ between home agent and controller, without those it refused.

        May be called from any thread: both sides are copied atomically.
        """
        wanted, told, refused = dict(self.wanted), dict(self.told), dict(self._refused)
        sent = sum((home in told and told[home].path == held.path) or home in refused for home, held in wanted.items())
        return len(wanted) - sent + sum(home not in wanted for home in told)

    def snapshot(self, now: float) -> list[Report]:
        """Return all bindings, including those refused before: the controller's settings may have changed."""
        return [Report(home, held.care_of_address, held) for home, held in self.wanted.items() if not _over(held, now)]

    def acknowledged(self, report: Report, sent: float) -> None:
        """Record that the controller took `report`, sent at time `sent`."""
        self._stale.discard(report.home_address)
        if report.binding is None:
            self.told.pop(report.home_address, None)
        else:
            self._refused.pop(report.home_address, None)
            self.told[report.home_address] = _as_sent(report.binding, sent)

    def refused(self, report: Report) -> bool:
        """Record that the controller refused `report` (422), and tell whether that is news. It is not sent again."""
        if report.binding is None:
            self.told.pop(report.home_address, None)
            return True
        known = self._refused.get(report.home_address) == report.binding.path
        self._refused[report.home_address] = report.binding.path
        return not known

    def found_stale(self, report: Report) -> None:
        """Record that the controller has something newer (409), and hold the report back until the next reading."""
        self._stale.add(report.home_address)

    def take_stale(self, now: float) -> bool:
        """Release what was found stale, after a new reading; tell whether some of it is still to be sent."""
        stale, self._stale = self._stale, set()
        return bool(stale) and any(report.home_address in stale for report in self.changes(now))

    def replaced(self, reports: Iterable[Report], refused: set[str], sent: float) -> list[Report]:
        """Record a snapshot that the controller took; return those home addresses in `refused` that are news."""
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
        """Return the earliest end of the controller's bindings that the home agent still has."""
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
    """Tell whether a binding ended since the last reading and no new one could be read."""
    return held.expires is not None and held.expires + ROUNDING <= now


def _refresh_due(told: Held, held: Held, now: float) -> bool:
    if told.expires is None or held.expires is None:
        return (told.expires is None) != (held.expires is None)
    total = held.total or 0
    moved = held.expires - told.expires
    if moved >= max(MIN_MOVE, total / REFRESH_PART) or moved <= -MIN_MOVE:
        return True
    return moved >= ROUNDING and told.expires - now <= max(MIN_MOVE, total / LAST_PART)
