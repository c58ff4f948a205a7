# SPDX-License-Identifier: Apache-2.0
"""How bindings stand: what the routers together make of one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core.bindings import Binding
from controller.core.registrations import Registrations
from controller.core.router import BindingOnRouter, Router


@dataclass(frozen=True, slots=True)
class BindingState:
    """How a binding stands, and on each router prepared for it."""

    state: Literal["active", "partial", "pending", "held", "withheld"]
    routers: Mapping[int, BindingOnRouter]


class BindingStates:
    """Says how bindings stand, from registrations and routers; keeps nothing."""

    def __init__(self, registrations: Registrations, routers: Mapping[int, Router]) -> None:
        self._registrations = registrations
        self._routers = routers

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
        if not self._registrations.may_offload(binding, now):
            return BindingState("held", routers)
        active = sum(router.state == "active" for router in routers.values())
        if active == 0:
            return BindingState("pending", routers)
        return BindingState("active" if active == len(routers) else "partial", routers)

    def is_active(self, binding: Binding, now: float) -> bool:
        """Tell whether ``of`` would say so, without a look at reasons."""
        if not self._registrations.may_offload(binding, now):
            return False
        prepared = [router for router in self._routers.values() if router.prepared_for(binding.home_agent)]
        return bool(prepared) and all(router.serves(binding, now) for router in prepared)
