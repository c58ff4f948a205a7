# SPDX-License-Identifier: Apache-2.0
"""Flows that have to go and do not: a switch refuses that, or has not answered for too long.

No flow of a binding ends by itself, so a gate that leads to one of these is not renewed and ends with its lease.
"""

from controller.core.flow_sets import leads_to
from controller.core.flows import FlowKey, Kind
from controller.core.installed import InstalledFlows, Standing
from controller.core.units import Desired

# Seconds that the switch may take to answer, and what was queued before to be sent.
ANSWERED_WITHIN = 3.0
OF_BINDINGS = (Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)


class Withdrawals:
    """Flows that have to go, each with what stood under its key then: when another stands there, it is gone."""

    def __init__(self, installed: InstalledFlows, desired: Desired) -> None:
        self._installed = installed
        self._desired = desired
        self._new: dict[FlowKey, Standing] = {}
        self._since: dict[FlowKey, tuple[Standing, float]] = {}  # the oldest first
        self._refused: dict[FlowKey, Standing] = {}

    def add(self, key: FlowKey) -> None:
        """Have a flow go, if it stands. That counts from the next ``tick``."""
        held = self._installed.get(key)
        if held is not None and (key not in self._since or self._since[key][0] is not held):
            self._new[key] = held

    def refuse(self, key: FlowKey) -> None:
        """Record that the switch has refused to delete a flow."""
        held = self._installed.get(key)
        if held is not None:
            self._refused[key] = held

    def done(self, key: FlowKey) -> None:
        """Record that the switch has carried out a change of this flow."""
        for memory in (self._new, self._since, self._refused):
            if memory:
                memory.pop(key, None)

    def tick(self, now: float) -> None:
        """Take down when flows that were added since the last call had to go."""
        for key, held in self._new.items():
            self._since.pop(key, None)
            self._since[key] = held, now
        if self._new:
            self._new.clear()

    def overdue(self, gate: FlowKey, now: float) -> list[FlowKey]:
        """Return the keys of flows that a gate leads to and that still stand, although the switch has refused to delete
        them, or has had `ANSWERED_WITHIN` seconds for it."""
        self.tick(now)
        found = [key for key, held in list(self._refused.items()) if self._has_to_go(key, held, now)]
        for key, (held, since) in list(self._since.items()):
            if since > now - ANSWERED_WITHIN:
                break
            if self._has_to_go(key, held, now):
                found.append(key)
        return [key for key in dict.fromkeys(found) if leads_to(gate, key)]

    def are_put_off(self, gate: FlowKey) -> bool:
        """Tell whether a gate leads to flows of an earlier life that may not be deleted yet."""
        return any(leads_to(gate, key) for key in self._installed.adopted() if self._installed.kind(key) in OF_BINDINGS)

    def _has_to_go(self, key: FlowKey, held: Standing, now: float) -> bool:
        """Tell whether the same flow still stands and is not desired again; forget it otherwise."""
        if self._installed.get(key) is held and not self._is_desired(key, held, now):
            return True
        self.done(key)
        return False

    def _is_desired(self, key: FlowKey, held: Standing, now: float) -> bool:
        shared = self._desired.uplink_at(key, now)
        units = [self._desired.unit_of(home_address, now) for home_address in self._desired.users(key, now)]
        flows = [flow for unit in units for flow in unit.flows if flow.key == key]
        return any(map(held.does, flows if shared is None else (*flows, shared.flow)))

    def clear(self) -> None:
        """Forget them all."""
        for memory in (self._new, self._since, self._refused):
            memory.clear()
