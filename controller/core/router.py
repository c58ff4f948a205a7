# SPDX-License-Identifier: Apache-2.0
"""Put one router together: its switch's flows, its agent's word, its gates, and what is desired of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from controller.core import pipeline, reasons, traffic
from controller.core.askers import Askers
from controller.core.bindings import Binding
from controller.core.demand import Demand, Install
from controller.core.desired import DesiredFlows
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_sets import flows_of, keys_of, path_of, suppression_of
from controller.core.flow_units import FlowUnit
from controller.core.flows import Action, Flow, FlowKey, Kind, table_of
from controller.core.gates import Gates
from controller.core.home_agents import HomeAgent
from controller.core.installed import FlowEntry
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.registrations import Registrations
from controller.core.suppressions import Request
from controller.core.switch_state import SwitchState
from controller.core.tunnels import EndpointName, FlowTunnels, Tunnels
from controller.core.urgency import MOST_URGENT, Urgency
from hoaflow.addresses import Prefix
from hoaflow.deadlines import earliest


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the controller waits, in seconds, and how many changes it follows.

    ``agent_lease``: how long a tunnel agent may be silent. ``acknowledge_within``: how long flows to a binding's
    former care-of address may stay while the agent changes the tunnel. ``forget_after``: how long home agents and
    routers that are gone are remembered. ``changes_a_second``: how many changes of a binding are followed each second.
    ``idle_after``: how long nothing has to come for a home address until an on-demand router gives its flows up.
    """

    agent_lease: float
    acknowledge_within: float
    forget_after: float
    changes_a_second: int = 10
    idle_after: float = 300.0


@dataclass(frozen=True, slots=True)
class BindingOnRouter:
    """How a binding stands on one router, and why it is not active, None if it is."""

    state: Literal["active", "pending", "failed", "idle"]
    reason: Reason | None = None


ACTIVE = BindingOnRouter("active")


class Standby(NamedTuple):
    """Since when a switch is connected that another controller writes to, or none yet, on the caller's clock.

    ``stranger``: another cluster's marker in the switch, None for none.
    """

    since: float
    stranger: str | None


class Router:
    """An Open vSwitch bridge under control, with its tunnel agent.

    It reads ``registrations``, which all routers share, and never writes them. ``now`` is on the caller's clock.
    """

    def __init__(
        self,
        dpid: int,
        registrations: Registrations,
        timing: Timing,
        classify_miss: tuple[Action, ...] | None,
        masters: Mapping[int, str],
        now: float,
        askers: Askers,
        install: Install,
    ) -> None:
        """Start without switch and agent.

        ``masters``: other controllers of a cluster, by the datapath id of the switches that they write to.
        ``askers``: what on-demand routers are asked for. ``install``: which flows it has unless its agent says.
        """
        self.dpid = dpid
        # Connected: this controller may write to the switch, and has read its flows. Else it may stand by.
        self.connected = False
        self.standby: Standby | None = None
        self.taken_by_stranger: float | None = None  # since when one fights for the switch that is none of the cluster
        self._masters = masters
        self._disconnected_at = now
        self.traffic = traffic.Traffic()
        self.messages = traffic.MessageCounts()
        self.tunnels = Tunnels(registrations.tunnel_list, expected_until=now + timing.agent_lease)
        self._bindings = registrations.bindings
        self._home_agents = registrations.home_agents
        self._timing = timing
        switch = SwitchState()
        self.demand = Demand(dpid, registrations, askers, install, timing.idle_after)
        self.desired = DesiredFlows(registrations, self.tunnels, switch, self.demand)
        self.flows = Reconciliation(self.desired, switch)
        self.gates = Gates(dpid, registrations.home_agents, self.tunnels, self.desired, self.flows, self.demand, now)
        # What flows of present bindings had counted that are gone, and which home address an uplink flow that is
        # leaving served last.
        self._retired: dict[Prefix, traffic.Counters] = {}
        self._last_served: dict[FlowKey, Prefix] = {}
        self._agent_lost = False
        for flow in pipeline.miss_flows(classify_miss):
            self.flows.require(flow)

    # What comes in.

    def connect(self, ports: Mapping[str, int], now: float) -> None:
        """Record that the switch is there, has these ports (numbers by name), and that its flows have been read."""
        known, self.connected = self.connected, True
        self.standby = None
        self.set_ports(ports, now)
        if known:
            self._give_up(self.demand.take_idle(now))
        self.flows.end_reading(now)
        if not known:
            self._take_over_demand()
        self.gates.recall(now)

    def stand_by(self, ports: Mapping[str, int], stranger: str | None, now: float) -> None:
        """Record that the switch is there, with these ports, and that another controller writes to it, or none yet."""
        since = now if self.standby is None else self.standby.since
        self.standby = Standby(since, stranger)
        self.desired.set_ports(ports)
        self.gates.forget_drain()
        self.demand.stand_by()

    def disconnect(self, now: float) -> None:
        """Forget what was known of the switch's flows: its connection is gone."""
        self.connected = False
        self.standby = None
        self._disconnected_at = now
        self.flows.forget_installed()
        self._last_served.clear()
        self.gates.disconnect()
        self.demand.disconnect()
        self.traffic.disconnect()

    def set_ports(self, ports: Mapping[str, int], now: float) -> None:
        """Take in the switch's ports (numbers by name), which have changed."""
        if self.desired.set_ports(ports):
            self.flows.recheck()

    def follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        """Queue a binding's flows, and those of ``former`` bindings of its home address."""
        held = self.demand.on and self._bindings.get(binding.home_address) is not None
        if held and self.demand.is_concerned(binding):
            self._ask(binding.home_address)
        self._follow(binding, former, urgency)

    def _follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        if not (self.desired.has_any_backend or self.flows.installed.has_adopted):
            return  # anybody's switch, perhaps: it gets no binding's flows, and has none
        leaving: tuple[FlowKey, ...] = ()
        for each in former:
            keys = keys_of(each)
            leaving += keys.all
            if not self.tunnels.is_flow and keys.uplink is not None and keys.uplink in self.flows.installed:
                self._last_served[keys.uplink] = each.home_address
        unit = self.flows.installed.unit(binding.home_address) if len(former) == 1 else None
        if unit is not None and not (unit.sole and unit.has_path(former[0].care_of_address, former[0].home_agent)):
            unit = None
        self.flows.queue(binding.home_address, leaving, urgency, binding.home_agent, unit)
        shares = self.desired.shares_uplink(binding)
        if not (shares or self.flows.installed.has_adopted):
            return
        uplink = keys_of(binding).uplink
        if uplink is not None and (shares or self.flows.installed.is_adopted(uplink)):
            self.flows.queue(uplink, urgency=urgency, home_agent=binding.home_agent)

    def leave_former(self, binding: Binding, former: Binding) -> None:
        """Have the flows of a former binding go, which the router's kernel may have served until now."""
        if not self.tunnels.is_flow:
            self.follow(binding, (binding, former), Urgency.ROUTINE)

    def forget(self, home_address: Prefix) -> None:
        """Forget what was counted for a binding that is gone."""
        self._retired.pop(home_address, None)
        self.demand.drop(home_address)

    def ask(self, request: Request, now: float) -> tuple[list[Prefix], Flow | None]:
        """Take in that a packet has come which no flow took.

        Returns the home addresses that get their flows now, and a flow by which no more is told of such packets for a
        while, None for none.
        """
        if not (self.demand.on and self.desired.has_any_backend):
            return [], None  # anybody's switch, perhaps
        binding = self._binding_asked_for(request)
        news: list[Prefix] = []
        if binding is not None:
            if not self.demand.wants(binding.home_address):
                news = self._ask(binding.home_address)
            if self._may_carry(binding, now):
                return news, None
        if not self.demand.suppressions.add(request, now):
            return news, None
        return news, suppression_of(request.home_address, request.path, bool(self.tunnels.flow))

    def set_install(self, change: Callable[[], bool]) -> bool:
        """Change which bindings' flows the router is to have; tell whether that is news. ``review`` has to follow."""
        news = change()
        if news:
            self._take_over_demand()
            self.flows.recheck()
        return news

    def renew_agent_lease(self, now: float) -> None:
        """Renew the tunnel agent's lease, as it has given a sign of life."""
        self.tunnels.agent_lease_ends = now + self._timing.agent_lease
        self._agent_lost = False

    def acknowledge(
        self,
        revision: int,
        endpoints: dict[bytes, EndpointName],
        flow: FlowTunnels,
        macs: tuple[str, ...] | None,
        failures: dict[Prefix, str],
        now: float,
    ) -> set[Prefix]:
        """Take in which backend the router has, and which tunnels its kernel has.

        Returns the home addresses for which that has changed something.
        """
        moved = (endpoints, flow) != (self.tunnels.endpoints, self.tunnels.flow)
        if endpoints:
            self.tunnels.desired.begin(now)
        self.tunnels.endpoints = endpoints
        self.tunnels.flow = flow
        self.tunnels.macs = macs
        # Only now: an agent that asks for its list has not said yet what its kernel has.
        self.tunnels.expected_until = None
        news = self.tunnels.acknowledge(revision, failures, now + self._timing.acknowledge_within)
        if moved:
            self.desired.forget_backends()
        if moved or (not flow and len(news) > MOST_URGENT):
            self.flows.recheck()
        elif not flow:
            for home_address in sorted(news):
                self._queue_home_address(home_address)
        self.flows.recheck_adopted()
        return set(self._bindings.home_addresses()) if moved else news

    def flow_removed(self, key: FlowKey, counted: traffic.Counters, evicted: bool, now: float) -> list[Prefix]:
        """Record that a flow is gone, and what it had counted; ``evicted``: for want of room.

        Returns the home addresses that still need it.
        """
        table = table_of(key) if len(key) > 1 else None  # a flow without addresses is no binding's
        if table == pipeline.DOWNLINK:
            self.traffic.retire(traffic.DOWNLINK, counted)
        elif table == (pipeline.UPLINK if self.uplink_kind is Kind.UPLINK else pipeline.VERIFY):
            self.traffic.retire(traffic.UPLINK, counted)
        served = self._last_served.pop(key, None)
        if served is None and uplink_source(key) is None:
            served = home_end(key)
        if served is not None and any(counted) and self._bindings.get(served) is not None:
            self._retired[served] = self.retired(served).plus(counted)
        return self.flows.flow_removed(key, now, evicted)

    def review(self, now: float, home_agents: Iterable[HomeAgent] | None) -> bool:
        """Review the gates of some home agents, or of all (None); tell whether any have opened."""
        reviewed = self.gates.review(now, home_agents)
        for home_agent in reviewed.opening:
            self._withdraw_formers(home_agent)
        return bool(reviewed.opened)

    def tick(self, now: float) -> bool:
        """End waits that are over; tell whether the agent's lease has ended among them."""
        if self.tunnels.expected_until is not None and now >= self.tunnels.expected_until:
            self.tunnels.expected_until = None
            self.flows.recheck_adopted()
        if self.tunnels.doubt_ends(now):
            self.flows.recheck()
        for home_address in self.tunnels.take_overdue(now):
            self._queue_home_address(home_address)  # those that share its uplink flow have counted on its tunnel
        lease_ends = self.tunnels.agent_lease_ends
        lost = lease_ends is not None and now >= lease_ends and not self._agent_lost
        self._agent_lost = self._agent_lost or lost
        return lost

    def next_deadline(self) -> float | None:
        """Return when ``tick`` and a review are due next: in the past if overdue, None for not at all."""
        lease_ends = None if self._agent_lost else self.tunnels.agent_lease_ends
        return earliest(
            self.tunnels.expected_until, self.tunnels.believed_until, lease_ends, self.tunnels.next_overdue()
        )

    def last_seen(self) -> float | None:
        """Return when switch and agent were there last, None if the router is not to be forgotten.

        A connected one is not, nor a drained one: that may be away for long, and has to come back drained.
        """
        if self.has_switch or self.gates.draining:
            return None
        return max(self._disconnected_at, self.tunnels.agent_lease_ends or self._disconnected_at)

    # What follows from it.

    @property
    def uplink_kind(self) -> Kind:
        """Kind of the flows that count each packet from mobile nodes once: where OpenFlow verifies, those that do."""
        return Kind.VERIFY if self.tunnels.is_flow else Kind.UPLINK

    def prepared_for(self, home_agent: bytes) -> bool:
        """Tell whether the router can encapsulate for a home agent."""
        return not isinstance(self.desired.backend(home_agent), Reason)

    def has_backend_for(self, home_agent: HomeAgent) -> bool:
        """Tell whether the router's agent has announced a backend for a home agent, working or not."""
        return len(home_agent.address) in self.tunnels.flow or home_agent.address in self.tunnels.endpoints

    @property
    def has_switch(self) -> bool:
        """Whether the switch is connected, to be written to or not."""
        return self.connected or self.standby is not None

    @property
    def master(self) -> str | None:
        """The other controller of the cluster that writes to the switch; None: this one, or none is known."""
        return self._masters.get(self.dpid)

    def why_not_connected(self) -> Reason | None:
        """Say why this controller does not write to the switch, None if it does."""
        if self.connected:
            return None
        if self.standby is None:
            return reasons.not_connected(self._disconnected_at, self.master)
        if self.standby.stranger is not None:
            return reasons.another_cluster(self.standby.stranger, self.standby.since)
        if self.master is not None:
            return reasons.other_master(self.master)
        if self.taken_by_stranger is not None:
            return reasons.taken_by_stranger(self.taken_by_stranger)
        return reasons.no_master(self.standby.since)

    def is_active(self, binding: Binding, now: float) -> bool:
        """Decide whether a binding is active here: its home agent's gates are open, and all of its flows stand."""
        if not self.connected or not self.gates.are_open(binding.home_agent, now):
            return False
        backend = self.desired.backend(binding.home_agent)
        if isinstance(backend, Reason) or not self.tunnels.is_applied(binding):
            return False
        unit = flows_of(binding, backend)
        return self.flows.installed.has_unit(unit, now) and self._why_refused(unit) is None

    def is_idle_for(self, binding: Binding) -> bool:
        """Tell whether no packet has come here lately for which a binding's flows would be needed."""
        return not self.demand.wants(binding.home_address)

    def state_of(self, binding: Binding, now: float) -> BindingOnRouter:
        """Say how a binding stands here, and where it is not active, why."""
        if self.is_active(binding, now):
            return ACTIVE
        if self.is_idle_for(binding):
            return BindingOnRouter("idle", self._why_no_gate(binding, now) or reasons.not_asked_for())
        away = self.why_not_connected()
        if away is not None:
            return BindingOnRouter("pending", away)
        backend = self.desired.backend(binding.home_agent)
        if isinstance(backend, Reason):
            return BindingOnRouter("pending", backend)
        failure = self._why_failed(binding, flows_of(binding, backend))
        if failure is not None:
            return BindingOnRouter("failed", failure)
        home_agent = self._home_agents.get(binding.home_agent)
        if home_agent is None:
            return BindingOnRouter("pending", reasons.not_announced(binding.home_agent))
        return BindingOnRouter("pending", self.gates.why_closed(home_agent, now) or self._why_unsteered(binding, now))

    def entries(self, binding: Binding, now: float) -> list[FlowEntry]:
        """Return a binding's flows that are known to be installed, with their ends."""
        entries = (self.flows.installed.entry(key, now) for key in keys_of(binding).all)
        return [entry for entry in entries if entry is not None]

    def counted_keys(self, binding: Binding) -> list[FlowKey]:
        """Return the keys of the flows that count a binding's packets here, one for each direction.

        The uplink flow of a `route` backend counts for all home addresses at its care-of address.
        """
        if not self.prepared_for(binding.home_agent):
            return []
        keys = keys_of(binding)
        uplink = keys.uplink if self.uplink_kind is Kind.UPLINK else keys.verify
        return [keys.downlink] if uplink is None else [keys.downlink, uplink]

    def retired(self, home_address: Prefix) -> traffic.Counters:
        """Return what flows counted for a binding before they were replaced, as by a handover."""
        return self._retired.get(home_address, traffic.NO_TRAFFIC)

    def served_by(self, flow: Flow, now: float) -> list[Prefix]:
        """Return the home addresses that a flow serves here, none if it is no binding's."""
        if flow.kind in (Kind.DOWNLINK, Kind.VERIFY) and flow.serves is not None:
            return [flow.serves]
        return self.desired.users(flow.key, now) if flow.kind is Kind.UPLINK else []

    # How.

    def _binding_asked_for(self, request: Request) -> Binding | None:
        """Return a binding whose flow would take such packets: of tunnel packets, the path tells, not who is inside."""
        if request.path is None:
            return self._bindings.covering(request.home_address)
        found = map(self._bindings.get, self._bindings.behind(request.path.care_of_address))
        takes = (each for each in found if each and each.reverse_tunnel and path_of(each) == request.path)
        return next(takes, None)

    def _ask(self, home_address: Prefix, urgency: Urgency = Urgency.URGENT) -> list[Prefix]:
        """Have a home address carried here, with all that has to stand with it; return those that are new."""
        news = self.demand.ask(home_address)
        if len(news) > MOST_URGENT:  # those behind a MAG: handovers go before so many
            urgency = Urgency.ROUTINE
        for each in news:
            held = self._bindings.get(each)
            if held is not None:
                self._follow(held, (), urgency)
        return news

    def _give_up(self, idle: Iterable[Prefix]) -> None:
        """Withdraw the flows of home addresses for which nothing has come for a while."""
        for home_address in idle:
            self.demand.drop(home_address)
        for home_address in idle:
            held = self._bindings.get(home_address)
            if held is not None:
                self._follow(held, (held,), Urgency.ROUTINE)

    def _take_over_demand(self) -> None:
        """Ask for the home addresses that have flows already: packets may be coming for them."""
        if self.demand.on:
            for home_address in self.flows.installed.home_addresses():
                self._ask(home_address, Urgency.ROUTINE)

    def _may_carry(self, binding: Binding, now: float) -> bool:
        """Tell whether a binding's flows stand here, or may within moments."""
        unit = self.desired.unit_of(binding.home_address, now)
        if unit is None or (unit.uplink_key is not None and self.flows.is_barred(unit.uplink_key)):
            return False
        return self._why_failed(binding, unit) is None

    def _why_failed(self, binding: Binding, unit: FlowUnit) -> Reason | None:
        """Say what has failed for a binding, None if nothing has."""
        failure = self.tunnels.failure(binding)
        return self._why_refused(unit) if failure is None else reasons.tunnel_failed(failure)

    def _why_refused(self, unit: FlowUnit) -> Reason | None:
        """Say what keeps the switch from having one of a binding's flows, None if nothing does."""
        if not (self.flows.refused or self.flows.installed.foreign):
            return None
        for flow in unit.all():
            refusal = self.flows.refused.get(flow.key)
            if refusal is not None:
                return reasons.flow_refused(refusal.reason, refusal.since)
            if self.flows.installed.is_foreign(flow.key):
                return reasons.foreign_flow()
        return None

    def _why_no_gate(self, binding: Binding, now: float) -> Reason | None:
        """Say why no packet of a binding's would be noticed here, None if one would."""
        if (away := self.why_not_connected()) is not None:
            return away
        home_agent = self._home_agents.get(binding.home_agent)
        return None if home_agent is None else self.gates.why_closed(home_agent, now)

    def _why_unsteered(self, binding: Binding, now: float) -> Reason:
        """Say what a binding waits for, given that it is not active, has not failed, and its gates stand."""
        if self.desired.has_hole(binding.home_address):
            return reasons.not_offloaded_within(binding.home_address)
        if not self.tunnels.is_applied(binding):
            return reasons.tunnel_unacknowledged()
        uplink = keys_of(binding).uplink
        if uplink is not None and self.flows.is_barred(uplink):
            return reasons.path_shared(self._left_out(binding, now))
        return reasons.flows_unconfirmed()

    def _left_out(self, binding: Binding, now: float) -> Prefix | None:
        """Return another home address at a binding's care-of address that can't be carried here, None if unknown."""
        found, uplink = self.desired.left_out(binding, now), keys_of(binding).uplink
        refused = self.flows.refused.all().keys()
        for home_address in self.desired.users(uplink, now) if found is None and uplink is not None else ():
            unit = self.desired.unit_of(home_address, now)
            if unit is not None and any(flow.key in refused for flow in unit.flows):
                return home_address
        return found

    def _withdraw_formers(self, home_agent: bytes) -> None:
        """Have flows to former care-of addresses of a home agent's bindings end, as one of its gates is to open."""
        for home_address in self.tunnels.desired.replaced():
            held = self._bindings.get(home_address)
            if held is not None and held.home_agent == home_agent:
                self._queue_home_address(home_address)

    def _queue_home_address(self, home_address: Prefix) -> None:
        """Queue the flows of a home address, as the state of its tunnel has changed."""
        held = self._bindings.get(home_address)
        if held is not None:
            formers = [former.binding for former in self.tunnels.desired.formers(home_address)]
            self.follow(held, (held, *formers), Urgency.URGENT)
