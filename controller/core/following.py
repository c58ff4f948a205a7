# SPDX-License-Identifier: Apache-2.0
"""Queue on one router what an update of a binding may change there."""

from collections.abc import Sequence

from controller.core.bindings import Binding
from controller.core.desired import DesiredFlows
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_sets import keys_of
from controller.core.flows import FlowKey
from controller.core.reconciliation import Reconciliation
from controller.core.tunnels import Tunnels
from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix


class Following:
    """Has one router's flows follow the bindings, and remembers whom flows served that leave."""

    def __init__(self, tunnels: Tunnels, desired: DesiredFlows, flows: Reconciliation) -> None:
        self._tunnels = tunnels
        self._desired = desired
        self._flows = flows
        # Which home address an uplink flow that is leaving served last: thousands may share one.
        self._last_served: dict[FlowKey, Prefix] = {}

    def follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        """Queue a binding's flows, and those of ``former`` bindings of its home address."""
        installed = self._flows.installed
        if not (self._desired.has_any_backend or installed.has_adopted):
            return  # anybody's switch, perhaps: it gets no binding's flows, and has none
        leaving: tuple[FlowKey, ...] = ()
        for each in former:
            keys = keys_of(each)
            leaving += keys.all
            if not self._tunnels.is_flow and keys.uplink is not None and keys.uplink in installed:
                self._last_served[keys.uplink] = each.home_address
        unit = installed.unit(binding.home_address) if len(former) == 1 else None
        if unit is not None and not (unit.sole and unit.has_path(former[0].care_of_address, former[0].home_agent)):
            unit = None
        self._flows.queue(binding.home_address, leaving, urgency, binding.home_agent, unit)
        shares = self._desired.shares_uplink(binding)
        if not (shares or installed.has_adopted):
            return
        uplink = keys_of(binding).uplink
        if uplink is not None and (shares or installed.is_adopted(uplink)):
            self._flows.queue(uplink, urgency=urgency, home_agent=binding.home_agent)

    def take_served(self, key: FlowKey) -> Prefix | None:
        """Return the home address that a flow served which is gone, None if that is not known; forget it."""
        served = self._last_served.pop(key, None)
        return home_end(key) if served is None and uplink_source(key) is None else served

    def disconnect(self) -> None:
        """Forget whom the switch's flows served."""
        self._last_served.clear()
