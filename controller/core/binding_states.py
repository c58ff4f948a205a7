# SPDX-License-Identifier: Apache-2.0
"""Say how bindings stand: what all routers together make of one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.core.bindings import Binding
from controller.core.home_agents import HomeAgent
from controller.core.registrations import Registrations
from controller.core.router import Router
from controller.core.routers import Routers
from controller.core.standing import BindingOnRouter
from hoaflow.addresses import Prefix

State = Literal["active", "partial", "pending", "idle", "held", "withheld"]


@dataclass(frozen=True, slots=True)
class BindingState:
    """How a binding stands, and on each router prepared for it."""

    state: State
    routers: Mapping[int, BindingOnRouter]


class BindingStates:
    """Says how bindings stand, from registrations and routers; keeps nothing.

    ``idle``: only on-demand routers are prepared for it, and no packet has come to any lately: the first goes by the
    home agent. ``held``: the home agent's lease does not hold, all packets go through it. ``withheld``: its bridge
    leaves the binding to the home agent, or another protocol's binding of the same home address takes the packets.
    """

    def __init__(self, registrations: Registrations, routers: Routers) -> None:
        self._registrations = registrations
        self._routers = routers

    def of(self, binding: Binding, now: float) -> BindingState:
        """Return how a binding stands, with reasons, on all routers prepared for it."""
        return self._on(self._prepared(binding.home_agent), binding, now)

    def in_brief(self, binding: Binding, now: float) -> BindingState:
        """Return how a binding stands, without those of a thousand on-demand routers that see none of its packets.

        ``routers`` has those that are to carry it, and those that have counted packets for it.
        """
        carrying = self._carrying(binding)
        counting = self._routers.counting(binding.home_address)
        routers = dict.fromkeys((*carrying, *(each for each in counting if each.prepared_for(binding.home_agent))))
        return self._on([each for each in routers if each.switch.standby is None], binding, now)

    def _on(self, routers: Iterable[Router], binding: Binding, now: float) -> BindingState:
        if binding.withheld is not None or self._registrations.is_covered(binding):
            return BindingState("withheld", {})
        standing = {each.dpid: each.standing.of(binding, now) for each in routers}
        if not self._registrations.may_offload(binding, now):
            return BindingState("held", standing)
        asked = [each.state == "active" for each in standing.values() if each.state != "idle"]
        return BindingState(together(asked, not asked and self.any_prepared(binding.home_agent)), standing)

    def of_confirmed(self, home_agent: HomeAgent, now: float) -> State:
        """Return the state of a home agent's bindings whose flows all stand: that of its gates.

        Of those that on-demand routers have been asked for, it is ``of_asked``, unless all gates are open.
        """
        if not home_agent.may_offload(now):
            return "held"
        prepared = self._prepared(home_agent.address)
        with_everything = [each for each in prepared if not each.demand.on]
        return together(
            [each.switch.connected and each.gates.are_open(home_agent.address, now) for each in with_everything],
            any_idle=len(with_everything) < len(prepared),
        )

    def of_asked(self, binding: Binding, now: float) -> State:
        """Return the state of a binding whose home agent may offload, by the routers that carry it alone."""
        return together([each.standing.is_active(binding, now) for each in self._carrying(binding)])

    def is_active(self, binding: Binding, now: float) -> bool:
        """Tell whether ``of`` would say `active`: on all routers prepared for it, and there is one."""
        if not self._registrations.may_offload(binding, now):
            return False
        # Routers are told of a change in order and confirm it in about that order, so that the last one is the most
        # likely not to be active yet. Each of them asks, when it has confirmed: that must not cost a look at all.
        found = False
        for router in reversed(self._routers.carrying(binding.home_address)):
            if router.switch.standby is None and router.prepared_for(binding.home_agent):
                if not router.standing.is_active(binding, now):
                    return False
                found = True
        return found

    def is_carried(self, home_address: Prefix) -> bool:
        """Tell whether any router is to have a home address's flows, or may be, as none is known yet."""
        return self._routers.any_carrying(home_address)

    def is_idle(self, binding: Binding, now: float) -> bool:
        """Tell whether ``of`` would say `idle`: no router prepared for it has been asked for it."""
        if not self._registrations.may_offload(binding, now) or self._carrying(binding):
            return False
        return self.any_prepared(binding.home_agent)

    def is_settled(self, binding: Binding, now: float) -> bool:
        """Tell whether there is nothing to wait for: a binding is active, or no router has been asked for it."""
        return self.is_active(binding, now) or self.is_idle(binding, now)

    def any_prepared(self, home_agent: bytes) -> bool:
        """Tell whether a router that is this controller's to write to is prepared for a home agent."""
        found = (each for each in self._routers.values() if each.switch.standby is None)
        return any(router.prepared_for(home_agent) for router in found)

    def _carrying(self, binding: Binding) -> list[Router]:
        """Return those of the prepared routers that are to have a binding's flows."""
        found = (each for each in self._routers.carrying(binding.home_address) if each.switch.standby is None)
        return [router for router in found if router.prepared_for(binding.home_agent)]

    def _prepared(self, home_agent: bytes) -> list[Router]:
        """Return the routers prepared for a home agent that are this controller's to write to."""
        found = (each for each in self._routers.values() if each.switch.standby is None)
        return [router for router in found if router.prepared_for(home_agent)]


def together(active: Sequence[bool], any_idle: bool = False) -> State:
    """Combine routers into one state; ``active`` says for each prepared one whether the binding is active there.

    Those that have not been asked for it do not count; ``any_idle``: there are such.
    """
    if any_idle and not active:
        return "idle"
    if not any(active):
        return "pending"
    return "active" if all(active) else "partial"
