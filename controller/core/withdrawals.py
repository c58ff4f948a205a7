# SPDX-License-Identifier: Apache-2.0
"""Watch flows that have to go until they are gone: a switch may refuse to delete them, or not answer.

No flow of a binding ends by itself, so a gate that leads to such a flow is not renewed and ends with its lease.
"""

from controller.core.flow_keys import leads_to, uplink_source
from controller.core.flow_units import DesiredModel, FlowUnit
from controller.core.flows import FlowKey, Kind
from controller.core.installed import InstalledFlow, InstalledFlows, as_installed
from controller.core.subject_queue import Subject
from hoaflow.addresses import Prefix

# How many seconds a deletion may take, the changes queued before it included.
ANSWERED_WITHIN = 3.0
OF_BINDINGS = (Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)


class Withdrawals:
    """Flows that have to go, each as it was installed: if another has its key now, it is gone."""

    def __init__(self, installed: InstalledFlows, desired: DesiredModel) -> None:
        self._installed = installed
        self._desired = desired
        # By the key of a flow, or the home address of a unit all of which may have to go.
        self._new: dict[Subject, InstalledFlow | FlowUnit] = {}
        self._since: dict[Subject, tuple[InstalledFlow | FlowUnit, float]] = {}  # the oldest first
        self._refused: dict[FlowKey, InstalledFlow] = {}
        # Of each gate, the first flow that has put it off: all are not gone through again while that one does.
        self._put_off_by: dict[FlowKey, FlowKey] = {}

    def add(self, key: FlowKey) -> None:
        """Watch a flow that has to go, if it is installed, from the next ``tick``."""
        installed = self._installed.get(key)
        if installed is not None:
            self._watch(key, installed)

    def add_unit(self, unit: FlowUnit) -> None:
        """Watch those flows of an installed unit that have to go, from the next ``tick``."""
        self._watch(unit.home_address, unit)

    def _watch(self, subject: Subject, installed: InstalledFlow | FlowUnit) -> None:
        if subject not in self._since or self._since[subject][0] != installed:
            self._new[subject] = installed

    def refuse(self, key: FlowKey) -> None:
        """Record that the switch has refused to delete a flow."""
        installed = self._installed.get(key)
        if installed is not None:
            self._refused[key] = installed

    def done(self, subject: Subject) -> None:
        """Record that the switch has carried out a change of this flow, or all changes of a home address's."""
        if self._new:
            self._new.pop(subject, None)
        if self._since:
            self._since.pop(subject, None)
        if self._refused and not isinstance(subject, Prefix):
            self._refused.pop(subject, None)

    def tick(self, now: float) -> None:
        """Start the time of flows that were added since the last call."""
        for key, installed in self._new.items():
            self._since.pop(key, None)
            self._since[key] = installed, now
        if self._new:
            self._new.clear()

    def overdue(self, gate: FlowKey, now: float) -> list[FlowKey]:
        """Return the keys of overdue flows that a gate leads to.

        The switch has refused to delete them, or has not done so within `ANSWERED_WITHIN` seconds.
        """
        self.tick(now)
        late = dict(self._refused)
        done: list[Subject] = []
        for subject, (installed, since) in self._since.items():
            if since > now - ANSWERED_WITHIN:
                break
            if isinstance(installed, FlowUnit):
                left = {flow.key: as_installed(flow) for flow in installed.flows}
                late.update(left)
                if not any(self._still_has_to_go(key, each, now) for key, each in left.items()):
                    done.append(subject)
            elif not isinstance(subject, Prefix):
                late[subject] = installed
        for subject in done:
            self.done(subject)
        return [key for key, installed in late.items() if leads_to(gate, key) and self._has_to_go(key, installed, now)]

    def leads_to_adopted(self, gate: FlowKey) -> bool:
        """Tell whether a gate leads to adopted flows that may not be deleted yet."""
        first = self._put_off_by.pop(gate, None)
        if first is None or not self._installed.is_adopted(first):
            adopted = (key for key in self._installed.adopted() if self._installed.kind(key) in OF_BINDINGS)
            first = next((key for key in adopted if leads_to(gate, key)), None)
        if first is not None:
            self._put_off_by[gate] = first
        return first is not None

    def _has_to_go(self, key: FlowKey, installed: InstalledFlow, now: float) -> bool:
        """Tell whether the same flow is still installed and not desired again; forget it otherwise."""
        if self._still_has_to_go(key, installed, now):
            return True
        self.done(key)
        return False

    def _still_has_to_go(self, key: FlowKey, installed: InstalledFlow, now: float) -> bool:
        return self._installed.get(key) == installed and not self._is_desired(key, installed, now)

    def _is_desired(self, key: FlowKey, installed: InstalledFlow, now: float) -> bool:
        if uplink_source(key) is not None:
            uplink = self._desired.uplink_at(key, now)
            return uplink is not None and installed.equals(uplink.flow)
        units = [self._desired.unit_of(home_address, now) for home_address in self._desired.users(key, now)]
        flows = (flow for unit in units if unit is not None for flow in unit.flows)
        return any(installed.equals(flow) for flow in flows if flow.key == key)

    def clear(self) -> None:
        """Forget all flows."""
        for memory in (self._new, self._since, self._refused, self._put_off_by):
            memory.clear()
