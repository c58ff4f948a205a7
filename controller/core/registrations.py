# SPDX-License-Identifier: Apache-2.0
"""What bridges have reported: home agents, their bindings, and what follows from these for all routers alike.

`Updates` and `Offload` write it. Routers only read it.
"""

from collections.abc import Iterator
from itertools import chain

from controller.core import reasons
from controller.core.bindings import Binding, BindingTable
from controller.core.flap_damping import FlapDamping
from controller.core.home_agents import HomeAgents
from controller.core.reasons import Reason
from controller.core.refused_bindings import RefusedBindings
from controller.core.tunnel_list import TunnelList
from hoaflow.addresses import Prefix


class Registrations:
    """Home agents and the home registrations that they hold, by what the controller does with them.

    ``bindings`` are to be offloaded, ``withheld`` are left to their home agents by the bridges, ``refused`` could not
    be taken. A home address is in one of the first two at most.
    """

    def __init__(self, first_revision: int, acknowledge_within: float, changes_a_second: int) -> None:
        """Start empty; ``first_revision`` and ``acknowledge_within`` (seconds) are the tunnel list's."""
        self.home_agents = HomeAgents()
        self.bindings = BindingTable()
        self.withheld = BindingTable()
        self.refused = RefusedBindings()
        self.tunnel_list = TunnelList(self.bindings, first_revision, keep=acknowledge_within)
        self.flap_damping = FlapDamping(changes_a_second)

    def get(self, home_address: Prefix) -> Binding | None:
        """Return the binding of a home address, whether it is to be offloaded or withheld."""
        return self.bindings.get(home_address) or self.withheld.get(home_address)

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses, those of withheld bindings included, in a list of its own."""
        return self.bindings.home_addresses() + self.withheld.home_addresses()

    def of_home_agent(self, home_agent: bytes) -> Iterator[Binding]:
        """Iterate over the bindings of one home agent, those that are withheld included."""
        return chain(self.bindings.of_home_agent(home_agent), self.withheld.of_home_agent(home_agent))

    def any_not_offloaded_at(self, care_of_address: bytes) -> bool:
        """Tell whether a binding at a care-of address is left to its home agent, withheld or refused."""
        return self.refused.any_at(care_of_address) or bool(self.withheld.behind(care_of_address))

    def not_offloaded_at(self, care_of_address: bytes) -> Iterator[Binding]:
        """Iterate over the bindings at a care-of address that are left to their home agents, withheld or refused."""
        yield from self.refused.at(care_of_address)
        for home_address in self.withheld.behind(care_of_address):
            if (binding := self.withheld.get(home_address)) is not None:
                yield binding

    def may_offload(self, binding: Binding, now: float) -> bool:
        """Tell whether a binding may be offloaded: its home agent's lease holds, and it does not flap."""
        home_agent = self.home_agents.get(binding.home_agent)
        if home_agent is None or not home_agent.may_offload(now):
            return False
        return not self.flap_damping.suppresses(binding.home_address)

    def why_suppressed(self, home_address: Prefix) -> Reason | None:
        """Say that a home address changes too often to be followed; None if it does not."""
        return reasons.suppressed(self.flap_damping.limit) if self.flap_damping.suppresses(home_address) else None
