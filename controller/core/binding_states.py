# SPDX-License-Identifier: Apache-2.0
"""Say how bindings stand: what all routers together make of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.core.bindings import Binding
from controller.core.home_agents import HomeAgent
from controller.core.registrations import Registrations
from controller.core.router import Router
from controller.core.routers import Routers
from controller.core.standing import BindingOnRouter

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
        """Return how a binding stands, with reasons."""
        if binding.withheld is not None or self._registrations.is_covered(binding):
            return BindingState("withheld", {})
        routers = {each.dpid: each.standing.of(binding, now) for each in self._prepared(binding.home_agent)}
        if not self._registrations.may_offload(binding, now):
            return BindingState("held", routers)
        asked = [each.state == "active" for each in routers.values() if each.state != "idle"]
        return BindingState(together(asked, len(asked) < len(routers)), routers)

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

    def is_idle(self, binding: Binding, now: float) -> bool:
        """Tell whether ``of`` would say `idle`: no router prepared for it has been asked for it."""
        if not self._registrations.may_offload(binding, now) or self._carrying(binding):
            return False
        return bool(self._prepared(binding.home_agent))

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
