# SPDX-License-Identifier: Apache-2.0
"""Keep the flows that a switch is known to have: it has confirmed them, or they were read from it."""

import math
from collections.abc import Iterable, KeysView
from functools import lru_cache
from typing import NamedTuple

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind, Shape
from controller.core.timeouts import SAME_EXPIRY, is_over, is_renewal_due


class FlowEntry(Struct, frozen=True, gc=False):
    """A flow and its end on the caller's clock, None for never."""

    flow: Flow
    expires_at: float | None


class ReportedFlow(Struct, frozen=True, gc=False):
    """A flow as a switch reports it, and what it has counted; ``entry`` is None for another application's."""

    key: FlowKey
    entry: FlowEntry | None
    packets: int
    bytes: int


class InstalledFlow(Struct, frozen=True, gc=False):
    """An installed flow without its key. It is small, as a router has several for each binding."""

    shape: Shape
    values: tuple[bytes, ...]
    expires_at: float | None

    def flow(self, key: FlowKey) -> Flow:
        """Return the flow, given its key."""
        return Flow(self.shape, key, self.values)

    def equals(self, flow: Flow) -> bool:
        """Tell whether this is ``flow``, given that the keys are equal."""
        return (self.shape is flow.shape or self.shape == flow.shape) and self.values == flow.values


# Many installed flows differ only in their keys, which are not in here: one object does for all of them.
_shared = lru_cache(maxsize=4096)(InstalledFlow)


class InstalledFlows:
    """The installed flows of ours by key, and the keys of other applications' flows."""

    def __init__(self) -> None:
        self._standing: dict[FlowKey, InstalledFlow] = {}
        self._gates: set[FlowKey] = set()
        # Flows that were read back and have not been desired since; they may still be needed.
        self._adopted: dict[FlowKey, None] = {}
        self.foreign: dict[FlowKey, None] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._standing.clear()
        self._gates.clear()
        self._adopted.clear()
        self.foreign = {}

    def put(self, flow: Flow, expires_at: float | None) -> None:
        """Record an installed flow."""
        key = flow.key
        make = InstalledFlow if flow.kind in (Kind.DOWNLINK, Kind.GATE) else _shared
        self._standing[key] = make(flow.shape, flow.values, expires_at)
        if flow.kind is Kind.GATE:
            self._gates.add(key)

    def remove(self, key: FlowKey) -> bool:
        """Record that no flow has this key; tell whether one was known."""
        self._adopted.pop(key, None)
        self._gates.discard(key)
        return self._standing.pop(key, None) is not None

    def get(self, key: FlowKey) -> InstalledFlow | None:
        """Return the flow with a key. It may have ended, if the switch has not said so yet."""
        return self._standing.get(key)

    def kind(self, key: FlowKey) -> Kind | None:
        """Return the kind of the flow with a key, None if there is none."""
        installed = self._standing.get(key)
        return None if installed is None else installed.shape.kind

    def __len__(self) -> int:
        return len(self._standing)

    def all(self) -> dict[FlowKey, InstalledFlow]:
        """Return all installed flows by key, in a dictionary that later changes do not affect."""
        return self._standing.copy()

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._standing

    def standing(self, key: FlowKey, now: float) -> InstalledFlow | None:
        """Return the flow with a key if it has not ended."""
        installed = self._standing.get(key)
        return None if installed is None or is_over(installed.expires_at, now) else installed

    def stands(self, key: FlowKey, now: float) -> bool:
        """Tell whether a flow with a key is there and has not ended."""
        return self.standing(key, now) is not None

    def entry(self, key: FlowKey, now: float) -> FlowEntry | None:
        """Return the flow with a key and its end, None if there is none or it has ended."""
        installed = self.standing(key, now)
        return None if installed is None else FlowEntry(installed.flow(key), installed.expires_at)

    def has(self, flow: Flow, now: float) -> bool:
        """Tell whether exactly this flow is installed."""
        installed = self.standing(flow.key, now)
        return installed is not None and installed.equals(flow)

    def claim_as(self, flow: Flow, key: FlowKey) -> bool:
        """Mark a flow as desired if exactly this one is installed and does not end; tell whether it is."""
        installed = self._standing.get(key)
        if installed is None or installed.expires_at is not None or not installed.equals(flow):
            return False
        self.claim(key)
        return True

    def lasts(self, gate: FlowEntry, now: float) -> bool:
        """Tell whether a gate is installed as desired and need not be renewed yet."""
        installed = self.standing(gate.flow.key, now)
        if installed is None or not installed.equals(gate.flow):
            return False
        return not is_renewal_due(gate.expires_at, installed.expires_at, now)

    def gates(self, now: float) -> list[FlowKey]:
        """Return the keys of all gates that stand, of any home agent."""
        return [key for key in self._gates if self.standing(key, now) is not None]

    def ends(self, key: FlowKey, now: float) -> float:
        """Return when the flow with a key ends: infinity for never, ``now`` if there is none."""
        installed = self.standing(key, now)
        return now if installed is None else math.inf if installed.expires_at is None else installed.expires_at

    def is_foreign(self, key: FlowKey) -> bool:
        """Tell whether another application has a flow with this key, which one of ours would replace."""
        return key in self.foreign

    # Adopted flows: installed before the controller restarted or reconnected, or by somebody else with our cookie.

    def adopt_all(self) -> None:
        """Mark all flows as adopted, each until it is claimed."""
        self._adopted = dict.fromkeys(self._standing)

    def adopt(self, key: FlowKey) -> None:
        """Mark the flow with this key as adopted."""
        if key in self._standing:
            self._adopted[key] = None

    def claim(self, key: FlowKey) -> None:
        """Mark the flow with this key as desired, and so no longer adopted."""
        if self._adopted:
            self._adopted.pop(key, None)

    def is_adopted(self, key: FlowKey) -> bool:
        """Tell whether the flow with this key is adopted."""
        return key in self._adopted

    @property
    def has_adopted(self) -> bool:
        """Whether any flow is adopted."""
        return bool(self._adopted)

    def adopted(self) -> KeysView[FlowKey]:
        """Return a view of the keys of all adopted flows."""
        return self._adopted.keys()


class ReadingChanges(NamedTuple):
    """What a reading has changed, by key.

    ``changed``: what was known was wrong, or another application has taken or left the key. ``drifted``: those of them
    under which somebody has changed our flows. Flows that end about now may be there or not, so they do not count.
    """

    changed: list[FlowKey]
    drifted: list[FlowKey]


class FlowReading:
    """The flows that a switch says it has, taken in part by part and compared with the known ones.

    All else goes on meanwhile: what is known of a key that has changed since the reading began is newer.
    """

    def __init__(self, installed: InstalledFlows, first: bool) -> None:
        """Begin to read; ``first``: nothing is known yet, so that there is nothing to compare with."""
        self._installed = installed
        self._first = first
        self._missing = {} if first else installed.all()
        self._different: dict[FlowKey, FlowEntry] = {}
        self._foreign: dict[FlowKey, None] = {}
        self._passed: set[FlowKey] = set()

    def add(self, entry: FlowEntry) -> None:
        """Take in a flow of ours that the switch has."""
        key = entry.flow.key
        if self._first:
            self._installed.put(entry.flow, entry.expires_at)
            return
        # As of when the reading began: keys that have changed since are passed by.
        known = self._missing.pop(key, None)
        if known is None or not known.equals(entry.flow) or not _same_end(known.expires_at, entry.expires_at):
            self._different[key] = entry

    def add_foreign(self, key: FlowKey) -> None:
        """Take in the key of another application's flow."""
        self._foreign[key] = None

    def pass_by(self, keys: Iterable[FlowKey]) -> None:
        """Leave out keys that have changed since the reading began, or are changing."""
        self._passed.update(keys)

    def end(self, now: float) -> ReadingChanges:
        """Replace what was known by what was read, and return what that changed."""
        foreign, former = self._foreign, self._installed.foreign
        changed = dict.fromkeys(key for key in (*former, *foreign) if key not in former or key not in foreign)
        self._installed.foreign = foreign
        drifted = []
        for key, entry in self._different.items():
            if key not in self._passed:
                installed = self._installed.get(key)
                if _lasts(entry.expires_at, now) if installed is None else not installed.equals(entry.flow):
                    drifted.append(key)
                self._installed.put(entry.flow, entry.expires_at)
                changed[key] = None
        for key in self._missing:
            installed = None if key in self._passed else self._installed.get(key)
            if installed is not None:
                if _lasts(installed.expires_at, now):
                    drifted.append(key)
                self._installed.remove(key)
                changed[key] = None
        return ReadingChanges(list(changed), drifted)


def _same_end(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) < SAME_EXPIRY


def _lasts(expires_at: float | None, now: float) -> bool:
    return expires_at is None or expires_at > now + SAME_EXPIRY
