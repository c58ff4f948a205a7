# SPDX-License-Identifier: Apache-2.0
"""The flows that a switch is known to have: those that it confirmed, or was read to have."""

import math
from collections.abc import Iterable, KeysView
from typing import NamedTuple

from msgspec import Struct

from controller.core.flows import Flow, FlowKey, Kind, Shape
from controller.core.timeouts import SAME_EXPIRY, is_over


class Entry(Struct, frozen=True, gc=False):
    """A flow and when it ends, on the caller's clock (None: never)."""

    flow: Flow
    expires_at: float | None


class Standing(Struct, frozen=True, gc=False):
    """What stands under a key. A router has several for each binding, so that is all it is."""

    shape: Shape
    values: tuple[bytes, ...]
    expires_at: float | None

    def flow(self, key: FlowKey) -> Flow:
        """Return it as the flow that it is."""
        return Flow(self.shape, key[1:], self.values)

    def does(self, flow: Flow) -> bool:
        """Tell whether it is ``flow``, which has its key."""
        return self.shape == flow.shape and self.values == flow.values


class InstalledFlows:
    """Flows of ours by key, and the keys that other applications' flows have."""

    def __init__(self) -> None:
        self._standing: dict[FlowKey, Standing] = {}
        self._gates: set[FlowKey] = set()
        # Flows that were read back and that nobody has asked for since: an earlier life's, perhaps still needed.
        self._adopted: dict[FlowKey, None] = {}
        self.foreign: dict[FlowKey, None] = {}

    def clear(self) -> None:
        """Know nothing."""
        self._standing.clear()
        self._gates.clear()
        self._adopted.clear()
        self.foreign = {}

    def put(self, flow: Flow, expires_at: float | None) -> None:
        """A flow stands."""
        key = flow.key
        self._standing[key] = Standing(flow.shape, flow.values, expires_at)
        if flow.kind is Kind.GATE:
            self._gates.add(key)

    def remove(self, key: FlowKey) -> bool:
        """None stands under this key. Tell whether one was known."""
        self._adopted.pop(key, None)
        self._gates.discard(key)
        return self._standing.pop(key, None) is not None

    def get(self, key: FlowKey) -> Standing | None:
        """Return what was put under a key. It may have ended, but if it has the switch has not said so yet."""
        return self._standing.get(key)

    def __len__(self) -> int:
        return len(self._standing)

    def keys(self) -> KeysView[FlowKey]:
        """Return all keys under which something stands, as they are at any time."""
        return self._standing.keys()

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._standing

    def standing(self, key: FlowKey, now: float) -> Standing | None:
        """Return what stands under a key and has not ended."""
        held = self._standing.get(key)
        return None if held is None or is_over(held.expires_at, now) else held

    def stands(self, key: FlowKey, now: float) -> bool:
        """Tell whether a flow with this key stands, rather than that it may."""
        return self.standing(key, now) is not None

    def entry(self, key: FlowKey, now: float) -> Entry | None:
        """Return what stands under a key as a flow with its end."""
        held = self.standing(key, now)
        return None if held is None else Entry(held.flow(key), held.expires_at)

    def has(self, flow: Flow, now: float) -> bool:
        """Tell whether this very flow stands."""
        held = self.standing(flow.key, now)
        return held is not None and held.does(flow)

    def gates(self, now: float) -> list[FlowKey]:
        """Return the keys of all gates that stand, whosever they are."""
        return [key for key in self._gates if self.standing(key, now) is not None]

    def ends(self, key: FlowKey, now: float) -> float:
        """Return when what stands under a key ends, infinity if it never does, ``now`` if nothing stands."""
        held = self.standing(key, now)
        return now if held is None else math.inf if held.expires_at is None else held.expires_at

    def is_foreign(self, key: FlowKey) -> bool:
        """Tell whether another application has a flow with this key: one of ours would replace it."""
        return key in self.foreign

    # Of an earlier life.

    def adopt_all(self) -> None:
        """Whatever stands may be of an earlier life, until somebody asks for it."""
        self._adopted = dict.fromkeys(self._standing)

    def adopt(self, key: FlowKey) -> None:
        """So may what stands under this key."""
        if key in self._standing:
            self._adopted[key] = None

    def claim(self, key: FlowKey) -> None:
        """Somebody asks for the flow with this key."""
        if self._adopted:
            self._adopted.pop(key, None)

    def is_adopted(self, key: FlowKey) -> bool:
        """Tell whether what stands under this key is of an earlier life, as far as anybody knows."""
        return key in self._adopted

    @property
    def has_adopted(self) -> bool:
        """Tell whether there is any such flow."""
        return bool(self._adopted)

    def adopted(self) -> list[FlowKey]:
        """Return the keys of all such flows."""
        return list(self._adopted)


class Found(NamedTuple):
    """What a reading has changed, by key.

    ``changed``: what was believed was wrong, or another application has taken or left the key. ``drifted``: those of
    them under which somebody has changed our flows; what ends about now may or may not be there.
    """

    changed: list[FlowKey]
    drifted: list[FlowKey]


class Reading:
    """What a switch says that it has, taken in part by part and compared with what is believed.

    All else goes on meanwhile: under a key that has been changed since it began, what is believed is newer.
    """

    def __init__(self, installed: InstalledFlows, first: bool) -> None:
        """``first``: nothing is believed yet, so that there is nothing to compare with."""
        self._installed = installed
        self._first = first
        self._missing: dict[FlowKey, None] = {} if first else dict.fromkeys(installed.keys())
        self._different: dict[FlowKey, Entry] = {}
        self._foreign: dict[FlowKey, None] = {}
        self._passed: set[FlowKey] = set()

    def add(self, entry: Entry) -> None:
        """The switch has this flow of ours."""
        key = entry.flow.key
        if self._first:
            self._installed.put(entry.flow, entry.expires_at)
            return
        self._missing.pop(key, None)
        held = self._installed.get(key)
        if held is None or not held.does(entry.flow) or not _same_end(held.expires_at, entry.expires_at):
            self._different[key] = entry

    def add_foreign(self, key: FlowKey) -> None:
        """The switch has another application's flow with this key."""
        self._foreign[key] = None

    def pass_by(self, keys: Iterable[FlowKey]) -> None:
        """These have been changed, or are just being changed, since it began."""
        self._passed.update(keys)

    def end(self, now: float) -> Found:
        """Believe what was read, and return what that changed."""
        foreign, former = self._foreign, self._installed.foreign
        changed = dict.fromkeys(key for key in (*former, *foreign) if key not in former or key not in foreign)
        self._installed.foreign = foreign
        drifted = []
        for key, entry in self._different.items():
            if key not in self._passed:
                held = self._installed.get(key)
                if _lasts(entry.expires_at, now) if held is None else not held.does(entry.flow):
                    drifted.append(key)
                self._installed.put(entry.flow, entry.expires_at)
                changed[key] = None
        for key in self._missing:
            held = None if key in self._passed else self._installed.get(key)
            if held is not None:
                if _lasts(held.expires_at, now):
                    drifted.append(key)
                self._installed.remove(key)
                changed[key] = None
        return Found(list(changed), drifted)


def _same_end(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) < SAME_EXPIRY


def _lasts(expires_at: float | None, now: float) -> bool:
    return expires_at is None or expires_at > now + SAME_EXPIRY
