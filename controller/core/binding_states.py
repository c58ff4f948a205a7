# SPDX-License-Identifier: Apache-2.0
"""How bindings stand: what the routers together make of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core import reasons
from controller.core.bindings import Binding
from controller.core.churn import Churn
from controller.core.home_agents import HomeAgents
from controller.core.reasons import Reason
from controller.core.router import BindingOnRouter, Router
from hoaflow.addresses import Prefix


@dataclass(frozen=True, slots=True)
class BindingState:
    """How a binding stands, and on each router prepared for it."""

    state: Literal["active", "partial", "pending", "held", "withheld"]
    routers: Mapping[int, BindingOnRouter]


class BindingStates:
    """Says how bindings stand, from what home agents, routers and the limit on changes say. It keeps nothing."""

    def __init__(self, home_agents: HomeAgents, routers: Mapping[int, Router], churn: Churn) -> None:
        self._home_agents = home_agents
        self._routers = routers
        self._churn = churn

    def of(self, binding: Binding, now: float) -> BindingState:
        """Say how a binding stands. ``held``: its home agent's lease does not hold, all packets go through it.
        ``withheld``: its bridge leaves it to the home agent."""
        if binding.withheld is not None:
            return BindingState("withheld", {})
        routers = {
            dpid: router.state_of(binding, now)
            for dpid, router in self._routers.items()
            if router.prepared_for(binding.home_agent)
        }
        if not self._may_be_offloaded(binding, now):
            return BindingState("held", routers)
        active = sum(router.state == "active" for router in routers.values())
        if active == 0:
            return BindingState("pending", routers)
        return BindingState("active" if active == len(routers) else "partial", routers)

    def is_active(self, binding: Binding, now: float) -> bool:
        """Tell whether ``of`` would say so, without a look at reasons."""
        if not self._may_be_offloaded(binding, now):
            return False
        prepared = [router for router in self._routers.values() if router.prepared_for(binding.home_agent)]
        return bool(prepared) and all(router.serves(binding, now) for router in prepared)

    def why_held_back(self, home_address: Prefix) -> Reason | None:
        """Say why a binding that its home agent may have offloaded is not, None if nothing speaks against it."""
        return reasons.flapping(self._churn.limit) if self._churn.holds(home_address) else None

    def _may_be_offloaded(self, binding: Binding, now: float) -> bool:
        home_agent = self._home_agents.get(binding.home_agent)
        return home_agent is not None and home_agent.may_offload(now) and not self._churn.holds(binding.home_address)
