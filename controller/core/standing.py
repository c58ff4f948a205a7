# SPDX-License-Identifier: Apache-2.0
"""Say how bindings stand on one router, and where one is not active, why."""

from dataclasses import dataclass
from typing import Literal

from controller.core import reasons
from controller.core.bindings import Binding
from controller.core.demand import Demand
from controller.core.desired import DesiredFlows
from controller.core.flow_sets import flows_of, keys_of
from controller.core.flow_units import FlowUnit
from controller.core.gates import Gates
from controller.core.home_agents import HomeAgents
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.switch_presence import SwitchPresence
from controller.core.tunnels import Tunnels
from hoaflow.addresses import Prefix


@dataclass(frozen=True, slots=True)
class BindingOnRouter:
    """How a binding stands on one router, and why it is not active, None if it is."""

    state: Literal["active", "pending", "failed", "idle"]
    reason: Reason | None = None


ACTIVE = BindingOnRouter("active")


class Standing:
    """Works out how bindings stand on one router; keeps nothing."""

    def __init__(
        self,
        home_agents: HomeAgents,
        switch: SwitchPresence,
        tunnels: Tunnels,
        desired: DesiredFlows,
        flows: Reconciliation,
        gates: Gates,
        demand: Demand,
    ) -> None:
        self._home_agents = home_agents
        self._switch = switch
        self._tunnels = tunnels
        self._desired = desired
        self._flows = flows
        self._gates = gates
        self._demand = demand

    def is_active(self, binding: Binding, now: float) -> bool:
        """Decide whether a binding is active here: its home agent's gates are open, and all of its flows stand."""
        if not self._switch.connected or not self._gates.are_open(binding.home_agent, now):
            return False
        backend = self._desired.backend(binding.home_agent)
        if isinstance(backend, Reason) or not self._tunnels.is_applied(binding):
            return False
        unit = flows_of(binding, backend)
        return self._flows.installed.has_unit(unit, now) and self._why_refused(unit) is None

    def is_idle(self, binding: Binding) -> bool:
        """Tell whether no packet has come here lately for which a binding's flows would be needed."""
        return not self._demand.wants(binding.home_address)

    def of(self, binding: Binding, now: float) -> BindingOnRouter:
        """Say how a binding stands here, and where it is not active, why."""
        if self.is_active(binding, now):
            return ACTIVE
        if self.is_idle(binding):
            return BindingOnRouter("idle", self._why_no_gate(binding, now) or reasons.not_asked_for())
        away = self._switch.why_not_connected()
        if away is not None:
            return BindingOnRouter("pending", away)
        backend = self._desired.backend(binding.home_agent)
        if isinstance(backend, Reason):
            return BindingOnRouter("pending", backend)
        failure = self.why_failed(binding, flows_of(binding, backend))
        if failure is not None:
            return BindingOnRouter("failed", failure)
        home_agent = self._home_agents.get(binding.home_agent)
        if home_agent is None:
            return BindingOnRouter("pending", reasons.not_announced(binding.home_agent))
        return BindingOnRouter("pending", self._gates.why_closed(home_agent, now) or self._why_unsteered(binding, now))

    def why_failed(self, binding: Binding, unit: FlowUnit) -> Reason | None:
        """Say what has failed for a binding, None if nothing has."""
        failure = self._tunnels.failure(binding)
        return self._why_refused(unit) if failure is None else reasons.tunnel_failed(failure)

    def _why_refused(self, unit: FlowUnit) -> Reason | None:
        """Say what keeps the switch from having one of a binding's flows, None if nothing does."""
        if not (self._flows.refused or self._flows.installed.foreign):
            return None
        for flow in unit.all():
            refusal = self._flows.refused.get(flow.key)
            if refusal is not None:
                return reasons.flow_refused(refusal.reason, refusal.since)
            if self._flows.installed.is_foreign(flow.key):
                return reasons.foreign_flow()
        return None

    def _why_no_gate(self, binding: Binding, now: float) -> Reason | None:
        """Say why no packet of a binding's would be noticed here, None if one would."""
        if (away := self._switch.why_not_connected()) is not None:
            return away
        home_agent = self._home_agents.get(binding.home_agent)
        return None if home_agent is None else self._gates.why_closed(home_agent, now)

    def _why_unsteered(self, binding: Binding, now: float) -> Reason:
        """Say what a binding waits for, given that it is not active, has not failed, and its gates stand."""
        if self._desired.has_hole(binding.home_address):
            return reasons.not_offloaded_within(binding.home_address)
        if not self._tunnels.is_applied(binding):
            return reasons.tunnel_unacknowledged()
        uplink = keys_of(binding).uplink
        if uplink is not None and self._flows.is_barred(uplink):
            return reasons.path_shared(self._left_out(binding, now))
        return reasons.flows_unconfirmed()

    def _left_out(self, binding: Binding, now: float) -> Prefix | None:
        """Return another home address at a binding's care-of address that can't be carried here, None if unknown."""
        found, uplink = self._desired.left_out(binding, now), keys_of(binding).uplink
        refused = self._flows.refused.all().keys()
        for home_address in self._desired.users(uplink, now) if found is None and uplink is not None else ():
            unit = self._desired.unit_of(home_address, now)
            if unit is not None and any(flow.key in refused for flow in unit.flows):
                return home_address
        return found
