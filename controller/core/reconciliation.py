# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed flows of one router, keyed by flow; the difference is what is sent.

Posting, deleting, handover, reconnect, restart and drift repair all come down to this one structure. Input marks keys
dirty; ``changes`` turns dirt into messages; ``confirm`` and ``reject`` record what the switch made of them. What failed
stays dirty and is tried again, later each time.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind

# OpenFlow counts timeouts in 16 bits of seconds.
LONGEST_TIMEOUT = 0xFFFF
# A hard_timeout is a whole number: round down, but let a moment's delay not cost a whole second.
ROUNDING = 0.1
# Moments of expiry this close are one: the switch counts whole seconds.
SAME_EXPIRY = 2.0
# A gate is renewed for whatever it gains in whole seconds.
GATE_GAIN = 0.25
FIRST_RETRY = 1.0
# Flows of an earlier life that may not be deleted yet are looked at again after this many seconds.
ADOPTED_REVIEW = 5.0
LAST_RETRY = 60.0
EARLIER_LIFE = "of an earlier life of the controller, and perhaps still needed"


class Entry(Struct, frozen=True, gc=False):
    """A flow and when it ends, on the caller's clock (None: never)."""

    flow: Flow
    expires_at: float | None


class FlowChange(Struct, frozen=True, gc=False):
    """One message to a switch: add ``entry`` (replacing in place what has the same key), or delete ``flow``."""

    flow: Flow
    add: bool
    expires_at: float | None = None
    hard_timeout: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a switch refused a flow, how often, since when, and when it is tried again."""

    reason: str
    times: int
    since: float
    retry_at: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Desired flows against those that a switch has: with why a missing one is not sent, if it is not, and why an
    unexpected one stays, if it does; a different one as desired and as installed."""

    missing: list[tuple[Entry, str | None]]
    unexpected: list[tuple[Entry, str | None]]
    different: list[tuple[Entry, Entry]]

    @property
    def in_sync(self) -> bool:
        """Whether there is none."""
        return not (self.missing or self.unexpected or self.different)


def hard_timeout(expires_at: float | None, now: float) -> int:
    """Return the whole seconds from ``now`` to ``expires_at`` for a flow (0: none, as OpenFlow has it).

    Never later than the moment itself, but for a tenth of a second; a flow that would live on for less than a second
    is not worth one: see ``Reconciliation.changes``.
    """
    if expires_at is None:
        return 0
    return min(LONGEST_TIMEOUT, math.floor(expires_at - now + ROUNDING))


class Reconciliation:
    """The flows that a router should have, those it has, and what is to be done about the difference."""

    def __init__(self) -> None:
        self._desired: dict[FlowKey, Entry] = {}
        self._installed: dict[FlowKey, Entry] = {}
        # Whether the switch's flows have been read, and the keys under which it then had something else than believed.
        self._known = False
        self._drifted: set[FlowKey] = set()
        # Ours by cookie, read back from the switch, and not desired since: an earlier life's, perhaps still needed.
        self._adopted: set[FlowKey] = set()
        self._foreign: frozenset[FlowKey] = frozenset()
        self._rejected: dict[FlowKey, Rejection] = {}
        self._dirty: dict[FlowKey, None] = {}
        # When to look at keys again: the moment that counts for each, and all of them in order.
        self._planned: dict[FlowKey, float] = {}
        self._later: list[tuple[float, FlowKey]] = []

    # What should be.

    def want(self, flow: Flow, expires_at: float | None = None) -> None:
        """Desire ``flow`` until ``expires_at``. Idempotent."""
        entry = Entry(flow, expires_at)
        held = self._desired.get(flow.key)
        if held == entry:
            return
        self._desired[flow.key] = entry
        self._adopted.discard(flow.key)
        if held is None or held.flow != flow:
            self._rejected.pop(flow.key, None)  # another flow deserves another try at once
        self._dirty[flow.key] = None

    def unwant(self, key: FlowKey) -> None:
        """Desire that no flow has this key. Idempotent."""
        if self._desired.pop(key, None) is not None:
            self._rejected.pop(key, None)
            self._dirty[key] = None

    def wants(self, key: FlowKey) -> Flow | None:
        """Return the desired flow of this key."""
        entry = self._desired.get(key)
        return entry.flow if entry else None

    # What is.

    def load(self, installed: Iterable[Entry], foreign: Iterable[FlowKey], now: float) -> None:
        """Take what was read back from the switch in place of what was believed.

        ``foreign`` are the keys of other applications' flows: a flow of ours with such a key would replace theirs, so
        it is never sent.
        """
        found = {entry.flow.key: entry for entry in installed}
        if self._known:
            self._drifted = set(_drift(self._installed, found, now))
        self._known = True
        self._installed = found
        self._adopted = {key for key in self._installed if key not in self._desired}
        self._foreign = frozenset(foreign)
        self._rejected.clear()
        self.recheck()

    def forget_installed(self) -> None:
        """Know nothing of the switch any more: it went away."""
        self._known = False
        self._drifted.clear()
        self._installed.clear()
        self._adopted.clear()
        self._dirty.clear()
        self._planned.clear()
        self._later.clear()

    def recheck(self) -> None:
        """Look at every flow again with the next ``changes``."""
        self._dirty.update(dict.fromkeys(self._desired))
        self._dirty.update(dict.fromkeys(self._installed))

    def recheck_adopted(self) -> None:
        """Look again at the flows of an earlier life: deleting them may have become allowed."""
        self._dirty.update(dict.fromkeys(self._adopted))

    def installed(self, key: FlowKey, now: float) -> Flow | None:
        """Return the flow that the switch is known to have under this key and that has not ended."""
        entry = self.entry(key, now)
        return None if entry is None else entry.flow

    def entry(self, key: FlowKey, now: float) -> Entry | None:
        """Return the same with its end."""
        entry = self._installed.get(key)
        return None if entry is None or _over(entry, now) else entry

    def holds(self, key: FlowKey) -> bool:
        """Tell whether the switch has been seen with a flow of this key."""
        return key in self._installed

    def has_gates(self, now: float) -> bool:
        """Tell whether a gate of ours stands, whosever it is."""
        return any(entry.flow.kind is Kind.GATE and not _over(entry, now) for entry in self._installed.values())

    def adopted_gates(self, now: float) -> list[Flow]:
        """Return the open gates of an earlier life."""
        flows = (self.installed(key, now) for key in self._adopted)
        return [flow for flow in flows if flow is not None and flow.kind is Kind.GATE]

    def is_active(self, key: FlowKey, now: float) -> bool:
        """Tell whether the desired flow of this key is confirmed by the switch and has not ended."""
        desired = self._desired.get(key)
        return desired is not None and self.installed(key, now) == desired.flow

    @property
    def count(self) -> int:
        """How many flows of ours the switch is known to have."""
        return len(self._installed)

    def rejection(self, key: FlowKey) -> Rejection | None:
        """Return why the switch refused the desired flow of this key, if it did."""
        return self._rejected.get(key)

    def rejections(self) -> Mapping[FlowKey, Rejection]:
        """Return all refusals that stand."""
        return self._rejected

    def is_foreign(self, key: FlowKey) -> bool:
        """Tell whether another application holds this key on the switch."""
        return key in self._foreign

    def compare(self, installed: Iterable[Entry], now: float) -> Difference:
        """Compare what is desired with what a switch says that it has. Changes nothing."""
        found = {entry.flow.key: entry for entry in installed if not _over(entry, now)}
        worth_sending = {
            key: entry
            for key, entry in self._desired.items()
            if entry.expires_at is None or hard_timeout(entry.expires_at, now) >= 1
        }
        return Difference(
            missing=[(entry, self._why_missing(key)) for key, entry in worth_sending.items() if key not in found],
            unexpected=[
                (entry, EARLIER_LIFE if key in self._adopted else None)
                for key, entry in found.items()
                if key not in self._desired
            ],
            different=[
                (entry, found[key])
                for key, entry in worth_sending.items()
                if key in found and (found[key].flow != entry.flow or _outlives(found[key], entry))
            ],
        )

    def _why_missing(self, key: FlowKey) -> str | None:
        if key in self._foreign:
            return "another application holds a flow with the same match"
        rejection = self._rejected.get(key)
        return None if rejection is None else f"the switch refused it: {rejection.reason}"

    # The difference.

    def changes(self, now: float, may_delete: Callable[[Flow], bool]) -> list[FlowChange]:
        """Return what is to be sent now, in the order in which it is safe: gates close first and open last.

        ``may_delete`` decides on flows of an earlier life that nobody desires yet. Every change has to come back
        through ``confirm``, ``reject``, ``postpone`` or, when the switch went away, ``forget_installed``.
        """
        while self._later and self._later[0][0] <= now:
            moment, key = heapq.heappop(self._later)
            if self._planned.get(key) == moment:  # or it has been planned anew since
                del self._planned[key]
                self._dirty[key] = None
        dirty, self._dirty = self._dirty, {}
        changes = [change for key in dirty if (change := self._change(key, now, may_delete)) is not None]
        changes.sort(key=_order)
        return changes

    def next_due(self) -> float | None:
        """Return the next moment at which ``changes`` may have something although nothing new came in."""
        return self._later[0][0] if self._later else None

    @property
    def dirty(self) -> bool:
        """Tell whether anything is to be looked at."""
        return bool(self._dirty)

    def confirm(self, changes: Iterable[FlowChange]) -> int:
        """Record that the switch carried these out. Returns how many of them repaired what somebody else had done."""
        drifted = len(self._drifted)
        for change in changes:
            key = change.flow.key
            self._rejected.pop(key, None)
            if change.add:
                self._installed[key] = Entry(change.flow, change.expires_at)
                self._dirty[key] = None  # plans the renewal, or sends what was wanted in the meantime
            else:
                self._installed.pop(key, None)
                self._adopted.discard(key)
            self._drifted.discard(key)
        return drifted - len(self._drifted)

    def removed(self, key: FlowKey) -> None:
        """Record that the switch says a flow is gone; if it is desired, it is sent anew."""
        if self._installed.pop(key, None) is not None:
            self._adopted.discard(key)
            self._dirty[key] = None

    def reject(self, change: FlowChange, reason: str, now: float) -> None:
        """Record that the switch refused one; it stays undone and is tried again, later each time."""
        key = change.flow.key
        before = self._rejected.get(key)
        times = before.times + 1 if before else 1
        retry_at = now + min(LAST_RETRY, FIRST_RETRY * 2 ** (times - 1))
        self._rejected[key] = Rejection(reason, times, before.since if before else now, retry_at)
        self._look_again(retry_at, key)

    def postpone(self, changes: Iterable[FlowChange]) -> None:
        """Record that these were not carried out through no fault of theirs."""
        self._dirty.update(dict.fromkeys(change.flow.key for change in changes))

    def _change(self, key: FlowKey, now: float, may_delete: Callable[[Flow], bool]) -> FlowChange | None:
        installed = self._installed.get(key)
        if installed is not None and _over(installed, now):
            del self._installed[key]
            self._adopted.discard(key)
            installed = None
        rejection = self._rejected.get(key)
        if rejection is not None and now < rejection.retry_at:
            return None
        desired = self._desired.get(key)
        if desired is not None:
            return self._addition(key, desired, installed, now)
        if installed is None:
            return None
        if key in self._adopted and not may_delete(installed.flow):
            self._look_again(now + ADOPTED_REVIEW, key)
            return None
        return FlowChange(installed.flow, add=False)

    def _addition(self, key: FlowKey, desired: Entry, installed: Entry | None, now: float) -> FlowChange | None:
        if key in self._foreign:
            return None
        timeout = hard_timeout(desired.expires_at, now)
        if desired.expires_at is not None and timeout < 1:
            return None  # ends before a switch could count it; whoever desired it ends it, too
        if installed is not None and installed.flow == desired.flow:
            renew_at = _renew_at(desired, installed, now)
            if renew_at is None or renew_at > now:
                if renew_at is not None:
                    self._look_again(renew_at, key)
                return None
        expires_at = None if desired.expires_at is None else now + timeout
        return FlowChange(desired.flow, add=True, expires_at=expires_at, hard_timeout=timeout)

    def _look_again(self, moment: float, key: FlowKey) -> None:
        if self._planned.get(key) == moment:
            return
        self._planned[key] = moment
        heapq.heappush(self._later, (moment, key))
        # Each refresh leaves a moment behind that does not count any more; rebuild before they outweigh the others.
        if len(self._later) > 2 * len(self._planned) + 64:
            self._later = [(planned, planned_key) for planned_key, planned in self._planned.items()]
            heapq.heapify(self._later)


def _drift(believed: Mapping[FlowKey, Entry], found: Mapping[FlowKey, Entry], now: float) -> Iterator[FlowKey]:
    """Return where a switch has something else than it was left with; what ends about now may or may not be there."""
    for key, entry in found.items():
        held = believed.get(key)
        if _lasts(entry, now) if held is None else held.flow != entry.flow:
            yield key
    for key, entry in believed.items():
        if key not in found and _lasts(entry, now):
            yield key


def _lasts(entry: Entry, now: float) -> bool:
    return entry.expires_at is None or entry.expires_at > now + SAME_EXPIRY


def _over(entry: Entry, now: float) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now


def _outlives(installed: Entry, desired: Entry) -> bool:
    """Tell whether a flow would still stand when it should not."""
    if desired.expires_at is None:
        return False
    return installed.expires_at is None or installed.expires_at > desired.expires_at + SAME_EXPIRY


def _renew_at(desired: Entry, installed: Entry, now: float) -> float | None:
    """Return when an installed flow has to be sent again for its timeout's sake; None: not as things stand.

    Shortened or open-ended lifetimes go out at once, gates at every renewal. Otherwise a flow is rewritten when half
    of what the binding has left is gone, so that frequent refreshes cost next to nothing.
    """
    if desired.expires_at is None or installed.expires_at is None:
        return None if desired.expires_at is installed.expires_at else now
    gain = desired.expires_at - installed.expires_at
    if gain < -SAME_EXPIRY:
        return now
    if desired.flow.kind is Kind.GATE:
        return now if now + hard_timeout(desired.expires_at, now) - installed.expires_at >= GATE_GAIN else None
    if gain < SAME_EXPIRY:
        return None
    # A lifetime longer than OpenFlow can count is renewed at half of what it can.
    return installed.expires_at - min(gain, LONGEST_TIMEOUT / 2)


def _order(change: FlowChange) -> int:
    if change.flow.kind is Kind.GATE:
        return 3 if change.add else 0
    return 1 if change.add else 2
