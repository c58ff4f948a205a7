# SPDX-License-Identifier: Apache-2.0
"""Give a router the flows of home addresses that it is asked for, and take those away for which nothing comes.

It does nothing on a router that has the flows of all bindings.
"""

from controller.core.bindings import Binding, BindingTable
from controller.core.demand import Demand
from controller.core.desired import DesiredFlows
from controller.core.flow_keys import uplink_source
from controller.core.flow_sets import path_of, suppression_of
from controller.core.flows import Flow
from controller.core.following import Following
from controller.core.reconciliation import Reconciliation
from controller.core.standing import Standing
from controller.core.suppressions import Request
from controller.core.tunnels import Tunnels
from controller.core.urgency import MOST_URGENT, Urgency
from hoaflow.addresses import Prefix


class OnDemandFlows:
    """Has one router's flows follow what it is asked for."""

    def __init__(
        self,
        bindings: BindingTable,
        demand: Demand,
        tunnels: Tunnels,
        desired: DesiredFlows,
        flows: Reconciliation,
        following: Following,
        standing: Standing,
    ) -> None:
        self._bindings = bindings
        self._demand = demand
        self._tunnels = tunnels
        self._desired = desired
        self._flows = flows
        self._following = following
        self._standing = standing

    def ask(self, request: Request, now: float) -> tuple[list[Prefix], Flow | None]:
        """Take in that a packet has come which no flow took.

        Returns the home addresses that get their flows now, and a flow by which no more is told of such packets for a
        while, None for none.
        """
        if not (self._demand.on and self._desired.has_any_backend):
            return [], None  # anybody's switch, perhaps
        binding = self._binding_asked_for(request)
        news: list[Prefix] = []
        if binding is not None:
            if not self._demand.wants(binding.home_address):
                news = self._bring(binding.home_address)
            if self._may_carry(binding, now):
                return news, None
        if not self._demand.suppressions.add(request, now):
            return news, None
        return news, suppression_of(request.home_address, request.path, bool(self._tunnels.flow))

    def updated(self, binding: Binding) -> None:
        """Bring the flows of a binding that is new, or has moved, if it has to stand with one that is asked for."""
        if not self._demand.on or self._bindings.get(binding.home_address) is None:
            return
        if self._demand.is_concerned(binding):
            self._bring(binding.home_address)

    def give_up_idle(self, now: float) -> None:
        """Withdraw, once all flows have been read, those of home addresses for which nothing has come for a while."""
        idle = self._demand.take_idle(now)
        for home_address in idle:
            self._demand.drop(home_address)
        for home_address in idle:
            held = self._bindings.get(home_address)
            if held is not None:
                self._following.follow(held, (held,), Urgency.ROUTINE)

    def note_adopted(self) -> None:
        """Take in, once all flows have been read, from which care-of addresses adopted uplink flows take packets."""
        if self._demand.on:
            sources = map(uplink_source, self._flows.installed.adopted())
            self._demand.note_adopted(frozenset(each for each in sources if each is not None))

    def keep_installed(self) -> None:
        """Keep the flows of home addresses that have some: packets may be coming for them."""
        if self._demand.on:
            self.note_adopted()
            for home_address in self._flows.installed.home_addresses():
                self._bring(home_address, Urgency.ROUTINE)

    def _binding_asked_for(self, request: Request) -> Binding | None:
        """Return a binding whose flow would take such packets: of tunnel packets, the path tells, not who is inside."""
        if request.path is None:
            return self._bindings.covering(request.home_address)
        found = map(self._bindings.get, self._bindings.behind(request.path.care_of_address))
        takes = (each for each in found if each and each.reverse_tunnel and path_of(each) == request.path)
        return next(takes, None)

    def _bring(self, home_address: Prefix, urgency: Urgency = Urgency.URGENT) -> list[Prefix]:
        """Have a home address carried here, with all that has to stand with it; return those that are new."""
        news = self._demand.ask(home_address)
        if len(news) > MOST_URGENT:  # those behind a MAG: handovers go before so many
            urgency = Urgency.ROUTINE
        for each in news:
            held = self._bindings.get(each)
            if held is not None:
                self._following.follow(held, (), urgency)
        return news

    def _may_carry(self, binding: Binding, now: float) -> bool:
        """Tell whether a binding's flows stand here, or may within moments."""
        unit = self._desired.unit_of(binding.home_address, now)
        if unit is None or (unit.uplink_key is not None and self._flows.is_barred(unit.uplink_key)):
            return False
        return self._standing.why_failed(binding, unit) is None
