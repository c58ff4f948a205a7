# SPDX-License-Identifier: Apache-2.0
"""Put one router together: its switch's flows, its agent's word, its gates, and what is desired of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from controller.core import pipeline, traffic
from controller.core.askers import Askers
from controller.core.bindings import Binding
from controller.core.demand import Demand, Install
from controller.core.desired import DesiredFlows
from controller.core.flow_sets import keys_of
from controller.core.flows import Action, Flow, FlowKey, Kind, table_of
from controller.core.following import Following
from controller.core.gates import Gates
from controller.core.home_agents import HomeAgent
from controller.core.installed import FlowEntry
from controller.core.on_demand_flows import OnDemandFlows
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.registrations import Registrations
from controller.core.standing import Standing
from controller.core.switch_presence import SwitchPresence
from controller.core.switch_state import SwitchState
from controller.core.touched_routers import TouchedRouters
from controller.core.traffic import RetiredCounters
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
        retired: RetiredCounters,
        touched: TouchedRouters,
        install: Install,
    ) -> None:
        """Start without switch and agent.

        ``masters``: other controllers of a cluster, by the datapath id of the switches that they write to.
        ``askers``, ``retired`` and ``touched``: of all routers. ``install``: which flows it has unless its agent says.
        """
        self.dpid = dpid
        self.switch = SwitchPresence(dpid, masters, now)
        self.traffic = traffic.Traffic()
        self.messages = traffic.MessageCounts()
        self.tunnels = Tunnels(registrations.tunnel_list, expected_until=now + timing.agent_lease)
        self._bindings = registrations.bindings
        self._timing = timing
        state, home_agents = SwitchState(), registrations.home_agents
        self.demand = Demand(dpid, registrations, askers, install, timing.idle_after)
        self.desired = DesiredFlows(registrations, self.tunnels, state, self.demand)
        self.flows = Reconciliation(self.desired, state)
        self.gates = Gates(dpid, home_agents, self.tunnels, self.desired, self.flows, self.demand, now)
        parts = self.tunnels, self.desired, self.flows
        self.standing = Standing(home_agents, self.switch, *parts, self.gates, self.demand)
        self._following = Following(*parts)
        self.on_demand = OnDemandFlows(self._bindings, self.demand, *parts, self._following, self.standing)
        self._retired = retired
        self._touched = touched
        self._agent_lost = False
        for flow in pipeline.miss_flows(classify_miss):
            self.flows.require(flow)
        self._touch()

    # What comes in. Whoever else changes what a router has to do, or by when, says so by a ``review``.

    def connect(self, ports: Mapping[str, int], now: float) -> None:
        """Record that the switch is there, has these ports (numbers by name), and that its flows have been read."""
        self._touch()
        news = self.switch.connect()
        self.set_ports(ports, now)
        if not news:
            self.on_demand.give_up_idle(now)
        self.flows.end_reading(now)
        if news:
            self.on_demand.keep_installed()
        else:
            self.on_demand.note_adopted()
        self.gates.recall(now)

    def stand_by(self, ports: Mapping[str, int], stranger: str | None, now: float) -> None:
        """Record that the switch is there, with these ports, and that another controller writes to it, or none yet."""
        self._touch()
        self.switch.stand_by(stranger, now)
        self.desired.set_ports(ports)
        self.gates.forget_drain()
        self.demand.stand_by()

    def disconnect(self, now: float) -> None:
        """Forget what was known of the switch's flows: its connection is gone."""
        self._touch()
        self.switch.disconnect(now)
        self.flows.forget_installed()
        self._following.disconnect()
        self.gates.disconnect()
        self.demand.disconnect()
        self.traffic.disconnect()

    def set_ports(self, ports: Mapping[str, int], now: float) -> None:
        """Take in the switch's ports (numbers by name), which have changed."""
        if self.desired.set_ports(ports):
            self._touch()
            self.flows.recheck()

    def follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        """Queue a binding's flows, and those of ``former`` bindings of its home address."""
        self._touch()
        self.on_demand.updated(binding)
        self._following.follow(binding, former, urgency)

    def leave_former(self, binding: Binding, former: Binding) -> None:
        """Have the flows of a former binding go, which the router's kernel may have served until now."""
        if not self.tunnels.is_flow:
            self.follow(binding, (binding, former), Urgency.ROUTINE)

    def set_install(self, change: Callable[[], bool]) -> bool:
        """Change which bindings' flows the router is to have; tell whether that is news. ``review`` has to follow."""
        news = change()
        if news:
            self.on_demand.keep_installed()
            self.flows.recheck()
        return news

    def renew_agent_lease(self, now: float) -> None:
        """Renew the tunnel agent's lease, as it has given a sign of life."""
        self._touch()
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

        Returns the home addresses whose tunnels are news.
        """
        self._touch()
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
        return news

    def flow_removed(self, key: FlowKey, counted: traffic.Counters, evicted: bool, now: float) -> list[Prefix]:
        """Record that a flow is gone, and what it had counted; ``evicted``: for want of room.

        Returns the home addresses that still need it.
        """
        table = table_of(key) if len(key) > 1 else None  # a flow without addresses is no binding's
        if table == pipeline.DOWNLINK:
            self.traffic.retire(traffic.DOWNLINK, counted)
        elif table == (pipeline.UPLINK if self.uplink_kind is Kind.UPLINK else pipeline.VERIFY):
            self.traffic.retire(traffic.UPLINK, counted)
        served = self._following.take_served(key)
        if served is not None and any(counted) and self._bindings.get(served) is not None:
            self._retired.add(served, self.dpid, counted)
        return self.flows.flow_removed(key, now, evicted)

    def review(self, now: float, home_agents: Iterable[HomeAgent] | None) -> bool:
        """Review the gates of some home agents, or of all (None); tell whether any have opened."""
        self._touch()
        reviewed = self.gates.review(now, home_agents)
        for home_agent in reviewed.opening:
            self._withdraw_formers(home_agent)
        return bool(reviewed.opened)

    def tick(self, now: float) -> bool:
        """End waits that are over; tell whether the agent's lease has ended among them."""
        self._touch()
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
        if self.switch.is_there or self.gates.draining:
            return None
        disconnected_at = self.switch.disconnected_at
        return max(disconnected_at, self.tunnels.agent_lease_ends or disconnected_at)

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
        return self._retired.of(home_address, self.dpid)

    def served_by(self, flow: Flow, now: float) -> list[Prefix]:
        """Return the home addresses that a flow serves here, none if it is no binding's."""
        if flow.kind in (Kind.DOWNLINK, Kind.VERIFY) and flow.serves is not None:
            return [flow.serves]
        return self.desired.users(flow.key, now) if flow.kind is Kind.UPLINK else []

    # How.

    def _touch(self) -> None:
        """Say that there may be something to send, and that ``next_deadline`` and ``last_seen`` may have changed."""
        self._touched.add(self.dpid)

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
