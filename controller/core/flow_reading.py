# SPDX-License-Identifier: Apache-2.0
"""Compare the flows that a switch says it has with those that it is known to have, while all else goes on."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from controller.core.flow_units import FlowUnit
from controller.core.flows import Flow, FlowKey, told_flow
from controller.core.installed import AlikeFlows, FlowEntry, InstalledFlow, InstalledFlows
from controller.core.timeouts import SAME_EXPIRY
from hoaflow.addresses import Prefix


class ReadingChanges(NamedTuple):
    """What a reading has changed, by key.

    ``changed``: what was known was wrong, or another application has taken or left the key. ``drifted``: those of them
    under which somebody has changed our flows. Flows that end about now may be there or not, so they do not count.
    """

    changed: list[FlowKey]
    drifted: list[FlowKey]


class FlowReading:
    """The flows that a switch says it has, taken in part by part and compared with the known ones.

    All else goes on meanwhile: what is known of a key that has changed since the reading began is newer. The first time
    nothing is known, which is `FirstReading`'s.
    """

    def __init__(self, installed: InstalledFlows) -> None:
        """Begin to read."""
        self._installed = installed
        # What has not been read yet: flows that are recorded by themselves, and units, with a bit for each of their
        # flows that has been.
        self._missing: dict[FlowKey, InstalledFlow] = installed.singles()
        self._units: dict[Prefix, FlowUnit] = installed.units()
        self._seen: dict[Prefix, int] = {}
        self._loose: set[FlowKey] = set()  # read, and of no unit then
        self._different: dict[FlowKey, FlowEntry] = {}
        self._foreign: dict[FlowKey, None] = {}
        self._passed: set[FlowKey] = set()

    def add(self, entry: FlowEntry) -> None:
        """Take in a flow of ours that the switch has."""
        key = entry.flow.key
        if entry.expires_at is None and self._is_of_unit(entry.flow):
            return
        # As of when the reading began: keys that have changed since are passed by.
        known = self._missing.pop(key, None)
        if known is None:
            self._loose.add(key)
            known = self._installed.get(key)
        if known is None or not known.equals(entry.flow) or not _same_end(known.expires_at, entry.expires_at):
            self._different[key] = entry

    def add_alike(self, flows: AlikeFlows) -> None:
        """Take in flows of ours that the switch has."""
        for row in flows.rows:
            self.add(FlowEntry(told_flow(flows.shape, row), None))

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
        for key in (*self._missing, *self._missing_of_units()):
            installed = None if key in self._passed else self._installed.get(key)
            if installed is not None:
                if _lasts(installed.expires_at, now):
                    drifted.append(key)
                self._installed.remove(key)
                changed[key] = None
        return ReadingChanges(list(changed), drifted)

    def _is_of_unit(self, flow: Flow) -> bool:
        """Note a flow of a unit; tell whether it is one, of a unit that has stood since the reading began."""
        unit = self._installed.unit_near(flow.key) if self._units else None
        place = None if unit is None else unit.place_of(flow)
        if unit is None or place is None or self._units.get(unit.home_address) is not unit:
            return False  # of another unit than then, whose flows would have other places
        seen = self._seen.pop(unit.home_address, 0) | 1 << place
        if seen + 1 == 1 << unit.size:
            del self._units[unit.home_address]
        else:
            self._seen[unit.home_address] = seen
        return True

    def _missing_of_units(self) -> Iterator[FlowKey]:
        """Iterate over the keys of units' flows that have not been read."""
        for home_address, unit in self._units.items():
            seen = self._seen.get(home_address, 0)
            keys = (flow.key for place, flow in enumerate(unit.flows) if not seen >> place & 1)
            yield from (key for key in keys if key not in self._loose)


def _same_end(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) < SAME_EXPIRY


def _lasts(expires_at: float | None, now: float) -> bool:
    return expires_at is None or expires_at > now + SAME_EXPIRY
