# SPDX-License-Identifier: Apache-2.0
"""Answer what one router should have: the read model of registrations, the agent's word and the switch's state.

Dependencies point one way: `Router`, `Gates` and `Reconciliation` ask this model; it asks none of them.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from controller.core import pipeline
from controller.core.backends import Backend, backend_of
from controller.core.bindings import Binding
from controller.core.demand import Demand
from controller.core.flow_keys import home_end, keeps_safe, uplink_source, verified_source
from controller.core.flow_sets import flows_of, gates_of, guards_of, keys_of, uplink_key
from controller.core.flow_units import FlowUnit, SharedUplink
from controller.core.flows import Flow, FlowKey, Kind, Local
from controller.core.home_agents import HomeAgent
from controller.core.reasons import Reason
from controller.core.registrations import Registrations
from controller.core.switch_state import SwitchState
from controller.core.tunnels import Tunnels
from hoaflow.addresses import Prefix


class DesiredFlows:
    """Answers which flows one router should have for bindings, and which adopted ones it still needs.

    Nothing is kept but the switch's ports and what encapsulates for each home agent: every answer is worked out anew
    from what bridges, agent and switch have said.
    """

    def __init__(self, registrations: Registrations, tunnels: Tunnels, switch: SwitchState, demand: Demand) -> None:
        self._bindings = registrations.bindings
        self._home_agents = registrations.home_agents
        self._registrations = registrations
        self._flap_damping = registrations.flap_damping
        self._tunnels = tunnels
        self._demand = demand
        self._switch = switch
        self._ports: dict[str, int] = {}
        # What encapsulates for each home agent, as far as anybody has asked.
        self._backends: dict[bytes, Backend | Reason] = {}

    def set_ports(self, ports: Mapping[str, int]) -> bool:
        """Take in the switch's ports (numbers by name); tell whether they have changed."""
        if ports == self._ports:
            return False
        self._ports = dict(ports)
        self.forget_backends()
        return True

    def forget_backends(self) -> None:
        """Work out anew what encapsulates for each home agent, as the agent has announced something else."""
        self._backends.clear()

    def backend(self, home_agent: bytes) -> Backend | Reason:
        """Return what encapsulates for a home agent here, or why nothing does."""
        found = self._backends.get(home_agent)
        if found is None:
            found = self._backends[home_agent] = backend_of(self._tunnels, home_agent, self._ports)
        return found

    @property
    def has_any_backend(self) -> bool:
        """Whether the agent has announced a backend for any home agent."""
        return bool(self._tunnels.flow or self._tunnels.endpoints)

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""
        if not self.has_any_backend:
            return []
        if self._demand.on:
            return [each for each in self._demand if self._bindings.get(each) is not None]
        return self._bindings.home_addresses()

    def unit_of(self, home_address: Prefix, now: float) -> FlowUnit | None:
        """Return what should stand for a home address, None if it is not carried here."""
        binding = self._carried(home_address, now)
        return None if binding is None else self._flows(binding, sole=not self.shares_uplink(binding))

    def units_of(self, home_addresses: Iterable[Prefix], now: float) -> list[FlowUnit]:
        """Return what should stand for those of some home addresses that are carried here."""
        carried = [binding for each in home_addresses if (binding := self._carried(each, now)) is not None]
        return [self._flows(binding, sole=not self.shares_uplink(binding)) for binding in carried]

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        """Return the uplink flow with a key and whom it serves, None if no binding needs it.

        It stays for as long as the last of its bindings lives. Thousands may share it, so they are not gone through.
        """
        user = next(self._users(key, now), None)
        flow = None if user is None else self._flows(user).uplink
        if user is None or flow is None:
            return None
        sole = None if self.shares_uplink(user) else user.home_address
        return SharedUplink(flow, self._left_out(key, now), sole)

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        """Return the home addresses that need the flow with a key."""
        if uplink_source(key) is not None:
            return [binding.home_address for binding in self._users(key, now)]
        home_address = home_end(key)
        binding = None if home_address is None else self._carried(home_address, now)
        if binding is None or all(flow.key != key for flow in self._flows(binding).own()):
            return []
        return [binding.home_address]

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may lead packets to a verifying flow."""
        home_address, care_of_address = home_end(verify), verified_source(verify)
        if home_address is None or care_of_address is None:
            return []
        outside = [each.address for each in self._home_agents if len(each.address) == len(care_of_address)]
        return [uplink_key(home_address, care_of_address, each) for each in outside]

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may take packets of the home address that another flow serves.

        They are those of its binding and of former ones.
        """
        home_address = home_end(key)
        binding = None if home_address is None else self._bindings.get(home_address)
        if home_address is None or binding is None:
            return []
        formers = () if self._tunnels.is_flow else self._tunnels.desired.formers(home_address)
        keys = (keys_of(each).uplink for each in (binding, *(former.binding for former in formers)))
        return [key for key in keys if key is not None]

    def left_out(self, binding: Binding, now: float) -> Prefix | None:
        """Return a home address at a binding's care-of address that is not carried here, None if all are."""
        uplink = keys_of(binding).uplink
        return None if uplink is None else self._left_out(uplink, now)

    def all_flows(self, now: float) -> Iterator[Flow]:
        """Iterate over the flows of all home addresses."""
        shared: dict[FlowKey, None] = {}
        for home_address in self.home_addresses():
            unit = self.unit_of(home_address, now)
            if unit is None:
                continue
            yield from unit.flows
            if unit.shared is not None:
                shared[unit.shared] = None
        yield from (uplink.flow for key in shared if (uplink := self.uplink_at(key, now)) is not None)

    def has_hole(self, home_address: Prefix) -> bool:
        """Tell whether a binding is not carried as a home address in its prefix is not offloaded."""
        return home_address in self._registrations.holed

    def sharing(self, home_agent: HomeAgent) -> list[HomeAgent]:
        """Return the other home agents with bindings to which a home agent's gates lead, too (see ``HomeAgent``)."""
        return [each for each in self._home_agents.sharing(home_agent) if self._bindings.count(each.address)]

    def shares_uplink(self, binding: Binding) -> bool:
        """Tell whether other home addresses may use a binding's uplink flow, which is then a subject of its own."""
        if not binding.reverse_tunnel:
            return False
        if not self._bindings.is_alone(binding) or self._registrations.any_not_offloaded_at(binding.care_of_address):
            return True
        return not self._tunnels.flow and bool(self._tunnels.desired.formers_behind(binding.care_of_address))

    def _users(self, uplink: FlowKey, now: float) -> Iterator[Binding]:
        """Iterate over the bindings carried here whose packets an uplink flow takes."""
        care_of_address = uplink_source(uplink) or b""
        behind: Iterable[Prefix] = self._bindings.behind(care_of_address)
        if not self._tunnels.flow:
            formers = self._tunnels.desired.formers_behind(care_of_address)
            held = self._bindings.behind(care_of_address)
            behind = chain(behind, (each for each in formers if each not in held))
        return (binding for each in behind if (binding := self._carried_at(uplink, each, now)) is not None)

    def _carried_at(self, uplink: FlowKey, home_address: Prefix, now: float) -> Binding | None:
        """Return the binding of a home address that is carried here by an uplink flow, None if none is."""
        binding = self._carried(home_address, now)
        return binding if binding is not None and keys_of(binding).uplink == uplink else None

    def _bound_at(self, uplink: FlowKey) -> Iterator[Binding]:
        """Iterate over the bindings on an uplink flow's path, those that are left to their home agents included."""
        care_of_address = uplink_source(uplink) or b""
        held = (self._bindings.get(each) for each in self._bindings.behind(care_of_address))
        others = self._registrations.not_offloaded_at(care_of_address)
        return (each for each in chain(held, others) if each is not None and keys_of(each).uplink == uplink)

    def _left_out(self, uplink: FlowKey, now: float) -> Prefix | None:
        """Return a home address whose mobile node uses an uplink flow's path without being carried by it.

        Only those that may not be carried are looked at, not the thousands that may be behind the same address. One
        whose tunnel the agent may yet set up in time does not count: a handover or a new mobile node would send all
        others back to the home agent, and forth, for the sake of what it sends within these milliseconds.
        """
        care_of_address = uplink_source(uplink) or b""
        for binding in self._registrations.not_offloaded_at(care_of_address):
            if keys_of(binding).uplink == uplink and self._carried_at(uplink, binding.home_address, now) is None:
                return binding.home_address
        behind = self._bindings.behind(care_of_address)
        kept = (self._flap_damping.suppressed, self._registrations.holed, self._tunnels.overdue(now))
        for home_address in chain.from_iterable(kept):
            binding_there = self._bindings.get(home_address) if home_address in behind else None
            if binding_there is None or keys_of(binding_there).uplink != uplink:
                continue
            if self._carried_at(uplink, home_address, now) is None:
                return home_address
        return None

    def _carried(self, home_address: Prefix, now: float) -> Binding | None:
        """Return the binding whose flows a home address should have: the one held, or a former one.

        It is a former one while the tunnel changes.
        """
        binding = self._bindings.get(home_address)
        if (
            binding is None
            or not self._demand.wants(home_address)
            or self._flap_damping.suppresses(home_address)
            or home_address in self._registrations.holed
            or isinstance(self.backend(binding.home_agent), Reason)
        ):
            return None
        if self._tunnels.is_applied(binding):
            return binding
        # Former flows that serve, stay. Without a gate nothing is lost with them, and none may open onto them.
        former = self._tunnels.serving(binding, now)
        return former if former is not None and self._is_served(former, now) else None

    def _flows(self, binding: Binding, sole: bool = True) -> FlowUnit:
        backend = self.backend(binding.home_agent)
        if isinstance(backend, Reason):
            raise ValueError(f"nothing encapsulates for the home agent of {binding.home_address}: {backend.text}")
        return flows_of(binding, backend, sole)

    def _is_served(self, binding: Binding, now: float) -> bool:
        """Tell whether a binding's packets are being offloaded here, by a gate and a flow."""
        home_agent = self._home_agents.get(binding.home_agent)
        if home_agent is None or isinstance(self.backend(home_agent.address), Reason):
            return False
        stands = self._switch.installed.stands(keys_of(binding).downlink, now)
        return stands and self._keeps_gate(home_agent, binding.home_address, now)

    def _keeps_gate(self, home_agent: HomeAgent, home_address: Prefix, now: float) -> bool:
        """Tell whether a gate for a home address stands and is not about to go; one that goes may open anew."""
        return any(
            gate.serves is not None and gate.serves.contains(home_address) and self._switch.is_active(gate.key, now)
            for gate in gates_of(home_agent, self._tunnels.macs)
        )

    # Adopted flows: installed before the controller restarted or reconnected.

    def may_delete(self, key: FlowKey, now: float) -> bool:
        """Tell whether an adopted flow that nobody needs may be deleted.

        A home agent whose snapshot has not come may still need it, or a tunnel that the agent is about to acknowledge.
        Once no open gate leads to it, nobody misses it.
        """
        served = home_end(key)
        entry = self._switch.installed.entry(key, now)
        if entry is not None and entry.flow.kind is Kind.GUARD and self._tunnels.expected_until is not None:
            return False  # which guards there have to be is known once the agent has said what it has
        if served is None or entry is None or entry.flow.serves is None:
            return True
        if entry.flow.kind is Kind.GATE and (self._is_draining or self._lacks_guard(key, now)):
            return True
        if entry.flow.kind is Kind.UPLINK and self._loses_packets(entry.flow, now):
            return True
        home_agents = self._home_agents.owners(served)
        if home_agents and all(each.synced for each in home_agents) and self._tunnels.expected_until is None:
            waits = not self._tunnels.is_flow and any(
                self._tunnels.desired.is_awaited(each.address, self._tunnels.acknowledged, now) for each in home_agents
            )
            if not waits:
                return True
        gates = (home_end(gate) for gate in self._switch.installed.gates(now) if not self._switch.is_going(gate))
        return not any(gate is not None and gate.overlaps(served) for gate in gates)

    @property
    def _is_draining(self) -> bool:
        return pipeline.drain_marker().key in self._switch.required

    def _lacks_guard(self, gate: FlowKey, now: float) -> bool:
        """Tell whether a guard that has to stand while a gate does is missing, or may be."""
        served = home_end(gate)
        home_agent = None if served is None else next(iter(self._home_agents.owners(served)), None)
        if home_agent is None:
            return False
        backend = self.backend(home_agent.address)
        guards = guards_of(home_agent, None if isinstance(backend, Reason) else backend)
        installed = self._switch.installed
        return any(keeps_safe(guard.key, gate) and not installed.stands(guard.key, now) for guard in guards)

    def _loses_packets(self, uplink: Flow, now: float) -> bool:
        """Tell whether an adopted uplink flow takes packets of a home address that was not carried before.

        They would be decapsulated and then dropped, as nothing lets them pass. With OpenFlow verifying, the missing
        verifying flow shows that; with a kernel verifying, only the missing downlink flow does.
        """
        by_openflow = any(isinstance(action, Local) for action in uplink.actions)
        for binding in self._bound_at(uplink.key):
            keys = keys_of(binding)
            shown_by = keys.verify if by_openflow else keys.downlink
            if shown_by is not None and not self._switch.installed.stands(shown_by, now):
                return True
        return False
