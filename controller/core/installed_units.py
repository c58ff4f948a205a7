# SPDX-License-Identifier: Apache-2.0
"""Keep the flow units that stand whole on a switch: one record each, whatever number of flows they have."""

from collections.abc import Iterator

from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_units import FlowUnit
from controller.core.flows import FlowKey
from hoaflow.addresses import Prefix


class InstalledUnits:
    """Flow units by home address, also found by the key of each of their flows."""

    def __init__(self) -> None:
        self._units: dict[Prefix, FlowUnit] = {}
        # Of those with an uplink flow of their own, the home address by care-of address.
        self._behind: dict[bytes, Prefix] = {}
        self._adopted: dict[Prefix, None] = {}  # see `InstalledFlows`
        # How many flows the units have, and the adopted ones among them.
        self.flows = 0
        self.count_adopted = 0

    def clear(self) -> None:
        """Forget everything."""
        self._units.clear()
        self._behind.clear()
        self._adopted.clear()
        self.flows = self.count_adopted = 0

    def __iter__(self) -> Iterator[FlowUnit]:
        return iter(self._units.values())

    def by_home_address(self) -> dict[Prefix, FlowUnit]:
        """Return all units by home address, in a dictionary that later changes do not affect."""
        return self._units.copy()

    def get(self, home_address: Prefix) -> FlowUnit | None:
        """Return the unit of a home address, None if none stands whole."""
        return self._units.get(home_address)

    def behind(self, care_of_address: bytes) -> FlowUnit | None:
        """Return the unit with an uplink flow of its own from a care-of address, None if there is none."""
        home_address = self._behind.get(care_of_address)
        return None if home_address is None else self._units[home_address]

    def at(self, key: FlowKey) -> FlowUnit | None:
        """Return the unit that has a flow with this key, None if none has."""
        unit = self.near(key)
        has_it = unit is not None and (unit.has_own(key) or (unit.sole and unit.uplink_key == key))
        return unit if has_it else None

    def near(self, key: FlowKey) -> FlowUnit | None:
        """Return the only unit that may have a flow with this key, None if there is none."""
        if not self._units or len(key) < 2:
            return None  # a flow without addresses is no binding's
        source = uplink_source(key)
        if source is not None:
            return self.behind(source)
        home_address = home_end(key)
        return None if home_address is None else self._units.get(home_address)

    def put(self, unit: FlowUnit) -> None:
        """Record a unit of a home address that has none, and whose care-of address is behind none."""
        self._units[unit.home_address] = unit
        if unit.sole:
            self._behind[unit.care_of_address] = unit.home_address
        self.flows += unit.size

    def remove(self, unit: FlowUnit) -> None:
        """Forget a unit."""
        self.claim(unit.home_address)
        del self._units[unit.home_address]
        if unit.sole:
            del self._behind[unit.care_of_address]
        self.flows -= unit.size

    def adopt_all(self) -> None:
        """Mark all units as adopted, each until it is claimed."""
        self._adopted = dict.fromkeys(self._units)
        self.count_adopted = self.flows

    def claim(self, home_address: Prefix) -> None:
        """Mark the unit of a home address as desired, and so no longer adopted."""
        if home_address in self._adopted:
            del self._adopted[home_address]
            self.count_adopted -= self._units[home_address].size

    def is_adopted(self, home_address: Prefix) -> bool:
        """Tell whether the unit of a home address is adopted."""
        return home_address in self._adopted

    @property
    def any_adopted(self) -> bool:
        """Whether any unit is adopted."""
        return bool(self._adopted)

    def adopted(self) -> Iterator[FlowUnit]:
        """Iterate over the adopted units."""
        return (self._units[home_address] for home_address in self._adopted)
