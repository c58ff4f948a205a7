# SPDX-License-Identifier: Apache-2.0
"""What bridges have reported: home agents, their bindings, and what follows from these for all routers alike.

`Updates` and `Offload` write it. Routers only read it.
"""

from collections.abc import Iterator
from itertools import chain

from controller.core import reasons
from controller.core.bindings import Binding, BindingTable, Key
from controller.core.flap_damping import FlapDamping
from controller.core.home_agents import HomeAgents
from controller.core.protocols import IN_OTHER_TUNNELS, Protocol
from controller.core.reasons import Reason
from controller.core.refused_bindings import RefusedBindings
from controller.core.tunnel_list import TunnelList
from hoaflow.addresses import Prefix


class Registrations:
    """Home agents and the home registrations that they hold, by what the controller does with them.

    ``bindings`` are to be offloaded, ``withheld`` are left to their home agents by the bridges, ``refused`` could not
    be taken. A home address is in one of the first two at most. ``covered``: bindings by another protocol than the one
    there, which outranks them; they wait for its end.
    """

    def __init__(self, first_revision: int, acknowledge_within: float, changes_a_second: int) -> None:
        """Start empty; ``first_revision`` and ``acknowledge_within`` (seconds) are the tunnel list's."""
        self.home_agents = HomeAgents()
        self.bindings = BindingTable()
        self.withheld = BindingTable()
        self.covered = BindingTable()
        # Prefixes of ``bindings`` in which a home address is not offloaded: their flows would take its packets.
        self.holed: set[Prefix] = set()
        self.refused = RefusedBindings()
        self.tunnel_list = TunnelList(self.bindings, first_revision, keep=acknowledge_within)
        self.flap_damping = FlapDamping(changes_a_second)

    def get(self, home_address: Prefix) -> Binding | None:
        """Return the binding of a home address, whether it is to be offloaded or withheld."""
        return self.bindings.get(home_address) or self.withheld.get(home_address)

    def at(self, key: Key) -> Binding | None:
        """Return the binding with a key, wherever it is held."""
        protocol, home_address = key
        found = (table.get(home_address) for table in (self.bindings, self.withheld, self.covered))
        return next((each for each in found if each is not None and each.protocol is protocol), None)

    def all_at(self, home_address: Prefix) -> list[Binding]:
        """Return the bindings of a home address by all protocols, the one that takes the packets first."""
        return [each for each in (self.get(home_address), self.covered.get(home_address)) if each is not None]

    def is_covered(self, binding: Binding) -> bool:
        """Tell whether another protocol's binding of the same home address takes the packets."""
        held = self.covered.get(binding.home_address) if len(self.covered) else None
        return held is not None and held.protocol is binding.protocol

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses, those of withheld bindings included, in a list of its own."""
        return self.bindings.home_addresses() + self.withheld.home_addresses()

    def of_home_agent(self, home_agent: bytes) -> Iterator[Binding]:
        """Iterate over the bindings of one home agent, those that are withheld or covered included."""
        return chain.from_iterable(
            table.of_home_agent(home_agent) for table in (self.bindings, self.withheld, self.covered)
        )

    def bound_to(self, care_of_address: bytes, home_agent: bytes, protocol: Protocol) -> list[Binding]:
        """Return a home agent's bindings by one protocol with a care-of address."""
        tables = (self.bindings, self.withheld, self.covered)
        bound = chain.from_iterable(table.bound_to(care_of_address) for table in tables)
        return [each for each in bound if each.home_agent == home_agent and each.protocol is protocol]

    def count(self, home_agent: bytes) -> int:
        """Return how many bindings a home agent has, those that are withheld or covered included."""
        return sum(table.count(home_agent) for table in (self.bindings, self.withheld, self.covered))

    def any_not_offloaded_at(self, care_of_address: bytes) -> bool:
        """Tell whether a binding at a care-of address is left to its home agent: withheld, covered or refused."""
        return (
            self.refused.any_at(care_of_address)
            or self.withheld.any_behind(care_of_address)
            or self.covered.any_behind(care_of_address)
        )

    def not_offloaded_at(self, care_of_address: bytes) -> Iterator[Binding]:
        """Iterate over the bindings at a care-of address that are left to their home agents.

        Without those whose packets no flow of another binding at that address would take.
        """
        yield from self.refused.at(care_of_address)
        for table in (self.withheld, self.covered):
            for home_address in table.behind(care_of_address):
                binding = table.get(home_address)
                if binding is not None and binding.withheld not in IN_OTHER_TUNNELS:
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
