# SPDX-License-Identifier: Apache-2.0
"""Keep the flows that a switch is known to have: it has confirmed them, or they were read from it.

Where all flows of a home address stand as they were sent, one record of the unit does for them. What stands in part, is
shared, or belongs to no binding is recorded flow by flow. Only this module knows which is which.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain

from msgspec import Struct

from controller.core.flow_keys import home_end
from controller.core.flow_transitions import Transition
from controller.core.flow_units import FlowUnit
from controller.core.flows import Flow, FlowKey, Kind, Shape, told_flow
from controller.core.installed_units import InstalledUnits
from controller.core.timeouts import is_over, is_renewal_due
from hoaflow.addresses import Prefix


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


class AlikeFlows(Struct, frozen=True, gc=False):
    """Flows of one shape as a switch reports them, none of which ends by itself; iterate over them as reported.

    ``rows``: of each, the octets of the addresses that it matches and of those that it sets, one after the other.
    ``counted`` returns the packets and bytes of each, in the same order; most never need them.
    """

    shape: Shape
    rows: list[bytes]
    counted: Callable[[], Iterable[tuple[int, int]]]

    def __iter__(self) -> Iterator[ReportedFlow]:
        """Iterate over the flows, one by one."""
        shape = self.shape
        for row, (packets, size) in zip(self.rows, self.counted(), strict=True):
            flow = told_flow(shape, row)
            yield ReportedFlow(flow.key, FlowEntry(flow, None), packets, size)


def one_by_one(flows: Iterable[ReportedFlow | AlikeFlows]) -> Iterator[ReportedFlow]:
    """Iterate over reported flows, each by itself."""
    for each in flows:
        yield from each if isinstance(each, AlikeFlows) else (each,)


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


def as_installed(flow: Flow) -> InstalledFlow:
    """Return an installed flow that does not end by itself."""
    return InstalledFlow(flow.shape, flow.values, None)


# Many installed flows differ only in their keys, which are not in here: one object does for all of them.
_shared = lru_cache(maxsize=4096)(InstalledFlow)


class InstalledFlows:
    """The installed flows of ours by key, and the keys of other applications' flows."""

    def __init__(self) -> None:
        self._standing: dict[FlowKey, InstalledFlow] = {}
        self._units = InstalledUnits()
        self._gates: set[FlowKey] = set()
        # Flows that were read back and have not been desired since; they may still be needed.
        self._adopted: dict[FlowKey, None] = {}
        self.foreign: dict[FlowKey, None] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._standing.clear()
        self._units.clear()
        self._gates.clear()
        self._adopted.clear()
        self.foreign = {}

    def put(self, flow: Flow, expires_at: float | None) -> None:
        """Record an installed flow."""
        key = flow.key
        unit = self._units.at(key)
        if unit is not None:
            self._break_up(unit)
        make = InstalledFlow if flow.kind in (Kind.DOWNLINK, Kind.GATE) else _shared
        self._standing[key] = make(flow.shape, flow.values, expires_at)
        if flow.kind is Kind.GATE:
            self._gates.add(key)

    def remove(self, key: FlowKey) -> bool:
        """Record that no flow has this key; tell whether one was known."""
        unit = self._units.at(key)
        if unit is not None:
            self._break_up(unit)
        self._adopted.pop(key, None)
        self._gates.discard(key)
        return self._standing.pop(key, None) is not None

    def get(self, key: FlowKey) -> InstalledFlow | None:
        """Return the flow with a key. It may have ended, if the switch has not said so yet."""
        installed = self._standing.get(key)
        if installed is None and (unit := self._units.at(key)) is not None:
            flow = unit.flow_at(key)
            return None if flow is None else as_installed(flow)
        return installed

    def kind(self, key: FlowKey) -> Kind | None:
        """Return the kind of the flow with a key, None if there is none."""
        installed = self.get(key)
        return None if installed is None else installed.shape.kind

    def __len__(self) -> int:
        return len(self._standing) + self._units.flows

    def all(self) -> dict[FlowKey, InstalledFlow]:
        """Return all installed flows by key, in a dictionary that later changes do not affect."""
        of_units = (flow for unit in self._units for flow in unit.flows)
        return self._standing | {flow.key: as_installed(flow) for flow in of_units}

    def __contains__(self, key: FlowKey) -> bool:
        return key in self._standing or self._units.at(key) is not None

    # Units.

    def unit(self, home_address: Prefix) -> FlowUnit | None:
        """Return the unit of a home address if all of its flows stand and are recorded as one, else None."""
        return self._units.get(home_address)

    def unit_near(self, key: FlowKey) -> FlowUnit | None:
        """Return the only unit that may have the flow with a key, None if that is recorded by itself, if at all."""
        return self._units.near(key)

    def has_unit(self, unit: FlowUnit, now: float) -> bool:
        """Tell whether all flows stand that carry a home address's packets, the uplink flow included."""
        held = self._units.get(unit.home_address)
        if held is None or held.shapes != unit.shapes or not held.has_path(unit.care_of_address, unit.home_agent):
            if held is not None and held.downlink != unit.downlink:
                return False  # the short way, as most ask while a handover is under way
            return all(self.has(flow, now) for flow in unit.all())
        uplink = None if held.sole else held.uplink
        return uplink is None or self.has(uplink, now)

    def put_units(self, units: Iterable[FlowUnit]) -> None:
        """Record units all of whose flows stand, as desired, and none of which is recorded by itself."""
        for unit in units:
            self._units.put(unit)

    def may_have(self, unit: FlowUnit) -> bool:
        """Tell whether the flows of a unit may be installed, each by itself."""
        return unit.downlink_key in self._standing

    def claim_unit(self, unit: FlowUnit, flows: Sequence[Flow]) -> bool:
        """Mark a unit with these flows as desired if they are installed, each by itself; tell whether they are.

        From then on they are one record.
        """
        for flow in flows:
            installed = self._standing.get(flow.key)
            if installed is None or installed.expires_at is not None or not installed.equals(flow):
                return False
        for flow in flows:
            del self._standing[flow.key]
            self._adopted.pop(flow.key, None)
        behind = self._units.behind(unit.care_of_address) if unit.sole else None
        if behind is not None:
            self._break_up(behind)  # else it would not be found by its uplink flow's key
        self._units.put(unit)
        return True

    def is_free_for(self, step: Transition) -> bool:
        """Tell whether a unit may take the place of another: that stands, and no other flow has a key of either."""
        former, unit = step.former, step.unit
        home_address = unit.home_address if unit is not None else former.home_address if former is not None else None
        if home_address is None or self._units.get(home_address) != former:
            return False
        if not self._standing.keys().isdisjoint(step.keys):
            return False
        behind = None if unit is None else self._units.behind(unit.care_of_address)
        return behind is None or behind == former

    def take_step(self, step: Transition) -> None:
        """Record that a unit has taken the place of another, which has to be free for it."""
        if step.former is not None:
            self._units.remove(step.former)
        if step.unit is not None:
            self._units.put(step.unit)

    def claim_home_address(self, home_address: Prefix) -> None:
        """Mark the unit of a home address as desired, and so no longer adopted."""
        self._units.claim(home_address)

    def is_unit_adopted(self, home_address: Prefix) -> bool:
        """Tell whether the unit of a home address is adopted."""
        return self._units.is_adopted(home_address)

    def home_addresses(self) -> set[Prefix]:
        """Return the home addresses that have a downlink flow."""
        keys = (key for key, each in self._standing.items() if each.shape.kind is Kind.DOWNLINK)
        return {*self._units.by_home_address(), *(each for each in map(home_end, keys) if each is not None)}

    def units(self) -> dict[Prefix, FlowUnit]:
        """Return the units that are recorded as one each, in a dictionary that later changes do not affect."""
        return self._units.by_home_address()

    def singles(self) -> dict[FlowKey, InstalledFlow]:
        """Return the flows that are recorded by themselves, in a dictionary that later changes do not affect."""
        return self._standing.copy()

    def _break_up(self, unit: FlowUnit) -> None:
        """Record the flows of a unit one by one, as one of them goes its own way."""
        adopted = self._units.is_adopted(unit.home_address)
        self._units.remove(unit)
        for flow in unit.flows:
            self._standing[flow.key] = as_installed(flow)
            if adopted:
                self._adopted[flow.key] = None

    # One flow.

    def standing(self, key: FlowKey, now: float) -> InstalledFlow | None:
        """Return the flow with a key if it has not ended."""
        installed = self.get(key)
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
        self.adopt_singles()
        self._units.adopt_all()

    def adopt_singles(self) -> None:
        """Mark all flows as adopted that are recorded by themselves, each until it is claimed."""
        self._adopted = dict.fromkeys(self._standing)

    def adopt(self, key: FlowKey) -> None:
        """Mark the flow with this key as adopted."""
        unit = self._units.at(key)
        if unit is not None:
            self._break_up(unit)
        if key in self._standing:
            self._adopted[key] = None

    def claim(self, key: FlowKey) -> None:
        """Mark the flow with this key as desired, and so no longer adopted."""
        if self._units.any_adopted:
            unit = self._units.at(key)
            if unit is not None and self._units.is_adopted(unit.home_address):
                self._break_up(unit)
        if self._adopted:
            self._adopted.pop(key, None)

    def is_adopted(self, key: FlowKey) -> bool:
        """Tell whether the flow with this key is adopted."""
        if key in self._adopted:
            return True
        unit = self._units.at(key) if self._units.any_adopted else None
        return unit is not None and self._units.is_adopted(unit.home_address)

    @property
    def has_adopted(self) -> bool:
        """Whether any flow is adopted."""
        return bool(self._adopted) or self._units.any_adopted

    @property
    def count_adopted(self) -> int:
        """Number of adopted flows."""
        return len(self._adopted) + self._units.count_adopted

    def adopted(self) -> Iterator[FlowKey]:
        """Iterate over the keys of all adopted flows."""
        return chain(self._adopted, (flow.key for unit in self._units.adopted() for flow in unit.flows))
