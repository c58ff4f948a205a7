# SPDX-License-Identifier: Apache-2.0
"""One router: which flows it should have for the bindings, given what its switch and its tunnel agent confirmed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.core import pipeline, reasons, traffic
from controller.core.bindings import Binding
from controller.core.desired import DesiredFlows
from controller.core.flow_sets import flows_of, home_end, keys_of, uplink_source
from controller.core.flows import Action, Flow, FlowKey, Kind, table_of
from controller.core.gates import Gates
from controller.core.home_agents import HomeAgent
from controller.core.installed import Entry
from controller.core.reasons import Reason
from controller.core.reconciliation import Reconciliation
from controller.core.registrations import Registrations
from controller.core.switch_state import SwitchState
from controller.core.tunnels import EndpointName, FlowTunnelNames, Tunnels
from controller.core.urgency import MOST_URGENT, Urgency
from hoaflow.addresses import Prefix


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the controller takes a router at its word, in seconds.

    ``agent_lease``: how long a tunnel agent may be silent. ``acknowledge_within``: how long the flows of a binding's
    former care-of address may stay while the agent changes the tunnel. ``forget_after``: how long what is gone is
    remembered. ``changes_a_second``: how many changes of a binding are followed, not seconds.
    """

    agent_lease: float
    acknowledge_within: float
    forget_after: float
    changes_a_second: int = 10


@dataclass(frozen=True, slots=True)
class BindingOnRouter:
    """How a binding stands on one router, and what keeps its packets on the home agent's path, None if active."""

    state: Literal["active", "pending", "failed"]
    reason: Reason | None = None


ACTIVE = BindingOnRouter("active")


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
        now: float,
    ) -> None:
        self.dpid = dpid
        self.connected = False
        self._disconnected_at = now
        self.traffic = traffic.Traffic()
        self.messages = traffic.MessageCounts()
        self.tunnels = Tunnels(registrations.tunnel_list, expected_until=now + timing.agent_lease)
        self._bindings = registrations.bindings
        self._home_agents = registrations.home_agents
        self._timing = timing
        switch = SwitchState()
        self.desired = DesiredFlows(registrations, self.tunnels, switch)
        self.flows = Reconciliation(self.desired, switch)
        self.gates = Gates(dpid, registrations.home_agents, self.tunnels, self.desired, self.flows, now)
        # Packets and bytes of a binding's flows that are gone, and whom an uplink flow on its way out served last.
        self._retired: dict[Prefix, traffic.Counters] = {}
        self._last_served: dict[FlowKey, Prefix] = {}
        self._agent_lost = False
        for flow in pipeline.miss_flows(classify_miss):
            self.flows.require(flow)

    # What comes in.

    def connect(self, ports: Mapping[str, int], now: float) -> None:
        """The switch is there, with these ports (numbers by name), and its flows have been read."""
        self.connected = True
        self.desired.set_ports(ports)
        self.flows.end_reading(now)
        self.gates.recall(now)

    def disconnect(self, now: float) -> None:
        """The switch's connection is gone, and with it what was known of its flows."""
        self.connected = False
        self._disconnected_at = now
        self.flows.forget_installed()
        self._last_served.clear()
        self.gates.disconnect()
        self.traffic.disconnect()

    def set_ports(self, ports: Mapping[str, int], now: float) -> None:
        """The switch's ports changed."""
        if self.desired.set_ports(ports):
            self.flows.recheck()

    def follow(self, binding: Binding, former: Sequence[Binding], urgency: Urgency) -> None:
        """A binding is to be looked at, for which there may be flows of ``former`` ones of the same home address."""
        if not (self.desired.takes_any or self.flows.installed.has_adopted):
            return  # anybody can connect such a switch: no binding's flows are there, and none comes
        leaving: tuple[FlowKey, ...] = ()
        for each in former:
            keys = keys_of(each)
            leaving += keys
            if self.tunnels.flow is None and keys.uplink in self.flows.installed:
                self._last_served[keys.uplink] = each.home_address
        self.flows.touch(binding.home_address, leaving, urgency)
        uplink = keys_of(binding).uplink
        if self.desired.shares_uplink(binding) or self.flows.installed.is_adopted(uplink):
            self.flows.touch(uplink, urgency=urgency)

    def forget(self, home_address: Prefix) -> None:
        """A binding is gone, and with it what was counted for it."""
        self._retired.pop(home_address, None)

    def hear_agent(self, now: float) -> None:
        """The tunnel agent has given a sign of life."""
        self.tunnels.agent_lease_ends = now + self._timing.agent_lease
        self._agent_lost = False

    def acknowledge(
        self,
        revision: int,
        endpoints: dict[bytes, EndpointName],
        flow: FlowTunnelNames | None,
        macs: tuple[str, ...] | None,
        failures: dict[Prefix, str],
        now: float,
    ) -> set[Prefix]:
        """The tunnel agent says what backend the router has, where it is, and what its kernel holds.

        Returns the home addresses for which that is news.
        """
        moved = (endpoints, flow) != (self.tunnels.endpoints, self.tunnels.flow)
        self.tunnels.endpoints = endpoints
        self.tunnels.flow = flow
        self.tunnels.macs = macs
        # Not before: an agent that only asks for its list has not said yet what its kernel has.
        self.tunnels.expected_until = None
        news = self.tunnels.acknowledge(revision, failures, now + self._timing.acknowledge_within)
        if moved:
            self.desired.forget_backends()
        if moved or (flow is None and len(news) > MOST_URGENT):
            self.flows.recheck()
        elif flow is None:
            for home_address in sorted(news):
                self._look_at(home_address)
        self.flows.recheck_adopted()
        return set(self._bindings.home_addresses()) if moved else news

    def removed(self, key: FlowKey, counted: traffic.Counters, evicted: bool, now: float) -> list[Prefix]:
        """The switch says that a flow is gone, ``evicted`` for want of room or otherwise, and what it had counted.

        Returns the home addresses that should have it still.
        """
        table = table_of(key) if len(key) > 1 else None  # what matches no address is no binding's
        if table == pipeline.DOWNLINK:
            self.traffic.retire(traffic.DOWNLINK, counted)
        elif table == (pipeline.UPLINK if self.uplink_kind is Kind.UPLINK else pipeline.VERIFY):
            self.traffic.retire(traffic.UPLINK, counted)
        served = self._last_served.pop(key, None)
        if served is None and uplink_source(key) is None:
            served = home_end(key)
        if served is not None and any(counted) and self._bindings.get(served) is not None:
            self._retired[served] = self.retired(served).plus(counted)
        return self.flows.removed(key, now, evicted)

    def review(self, now: float, home_agents: Iterable[HomeAgent] | None) -> bool:
        """Bring the gates of some home agents, or of all (None), in line with what is. Tell whether any opened."""
        reviewed = self.gates.review(now, home_agents)
        for home_agent in reviewed.opening:
            self._withdraw_formers(home_agent)
        return bool(reviewed.opened)

    def tick(self, now: float) -> bool:
        """Time has passed. Tell whether the agent has been lost with it."""
        if self.tunnels.expected_until is not None and now >= self.tunnels.expected_until:
            self.tunnels.expected_until = None
            self.flows.recheck_adopted()
        if self.tunnels.doubt_ends(now):
            self.flows.recheck()
        lease_ends = self.tunnels.agent_lease_ends
        lost = lease_ends is not None and now >= lease_ends and not self._agent_lost
        self._agent_lost = self._agent_lost or lost
        return lost

    def next_deadline(self) -> float | None:
        """Return when ``tick`` and a review have something to do next; in the past if that is overdue."""
        moments = [self.tunnels.expected_until, self.tunnels.believed_until]
        if not self._agent_lost:
            moments.append(self.tunnels.agent_lease_ends)
        return min((moment for moment in moments if moment is not None), default=None)

    def last_seen(self) -> float | None:
        """Return when the agent's last lease ended or ends; None while the switch is connected, or the router drained:
        it may be away for long, and has to come back as it went."""
        if self.connected or self.gates.draining:
            return None
        return max(self._disconnected_at, self.tunnels.agent_lease_ends or self._disconnected_at)

    # What follows.

    @property
    def uplink_kind(self) -> Kind:
        """The flows that count what comes from mobile nodes once: where OpenFlow verifies, what has passed."""
        return Kind.UPLINK if self.tunnels.flow is None else Kind.VERIFY

    def prepared_for(self, home_agent: bytes) -> bool:
        """Tell whether the router can encapsulate for this home agent."""
        return not isinstance(self.desired.backend(home_agent), Reason)

    def takes(self, home_agent: HomeAgent) -> bool:
        """Tell whether the router's agent has announced that it carries packets for a home agent, able to or not."""
        return self.tunnels.flow is not None or home_agent.address in self.tunnels.endpoints

    def why_not_connected(self) -> Reason | None:
        """Say that the switch is away, None if it is not."""
        return None if self.connected else reasons.not_connected(self._disconnected_at)

    def is_active(self, binding: Binding, now: float) -> bool:
        """Decide whether a binding is active here: its home agent's gates are open, and all of its flows stand."""
        if not self.connected or not self.gates.are_open(binding.home_agent, now):
            return False
        backend = self.desired.backend(binding.home_agent)
        if isinstance(backend, Reason) or not self.tunnels.is_applied(binding.home_address):
            return False
        flows = flows_of(binding, backend).all()
        return all(self.flows.installed.has(flow, now) for flow in flows) and self._why_failed(binding, flows) is None

    def state_of(self, binding: Binding, now: float) -> BindingOnRouter:
        """Say how a binding stands here, and where it is not active, why."""
        if self.is_active(binding, now):
            return ACTIVE
        away = self.why_not_connected()
        if away is not None:
            return BindingOnRouter("pending", away)
        backend = self.desired.backend(binding.home_agent)
        if isinstance(backend, Reason):
            return BindingOnRouter("pending", backend)
        failure = self._why_failed(binding, flows_of(binding, backend).all())
        if failure is not None:
            return BindingOnRouter("failed", failure)
        home_agent = self._home_agents.get(binding.home_agent)
        if home_agent is None:
            return BindingOnRouter("pending", reasons.not_announced(binding.home_agent))
        return BindingOnRouter("pending", self.gates.why_closed(home_agent, now) or self._why_unsteered(binding, now))

    def entries(self, binding: Binding, now: float) -> list[Entry]:
        """Return the flows of a binding that the switch is known to have, with their ends."""
        entries = (self.flows.installed.entry(key, now) for key in keys_of(binding))
        return [entry for entry in entries if entry is not None]

    def counted_keys(self, binding: Binding) -> list[FlowKey]:
        """Return the keys of the flows that count a binding's packets here: one for each direction.

        The uplink flow of a `route` backend counts for all home addresses behind its care-of address.
        """
        if not self.prepared_for(binding.home_agent):
            return []
        keys = keys_of(binding)
        return [keys.downlink, keys.uplink if self.uplink_kind is Kind.UPLINK else keys.verify]

    def retired(self, home_address: Prefix) -> traffic.Counters:
        """Return packets and bytes that flows counted for a binding before they were replaced, as by a handover."""
        return self._retired.get(home_address, traffic.NONE)

    def served_by(self, flow: Flow, now: float) -> list[Prefix]:
        """Return the home addresses that a binding's flow serves here."""
        if flow.kind in (Kind.DOWNLINK, Kind.VERIFY) and flow.serves is not None:
            return [flow.serves]
        return self.desired.users(flow.key, now) if flow.kind is Kind.UPLINK else []

    # How.

    def _why_failed(self, binding: Binding, flows: Iterable[Flow]) -> Reason | None:
        """Say what could not be done for a binding's packets and is tried again, or never."""
        failure = self.tunnels.failure(binding.home_address)
        if failure is not None:
            return reasons.tunnel_failed(failure)
        if not (self.flows.rejections or self.flows.installed.foreign):
            return None
        for flow in flows:
            rejection = self.flows.rejections.get(flow.key)
            if rejection is not None:
                return reasons.flow_refused(rejection.reason, rejection.since)
            if self.flows.installed.is_foreign(flow.key):
                return reasons.foreign_flow()
        return None

    def _why_unsteered(self, binding: Binding, now: float) -> Reason:
        """Say why the switch does not have all flows of a binding that is not active."""
        if not self.tunnels.is_applied(binding.home_address):
            return reasons.tunnel_unacknowledged()
        if self.flows.is_barred(keys_of(binding).uplink):
            return reasons.path_shared(self._left_out(binding, now))
        return reasons.flows_unconfirmed()

    def _left_out(self, binding: Binding, now: float) -> Prefix | None:
        """Return another home address at a binding's care-of address that can't be carried here."""
        found = self.desired.left_out(binding, now)
        refused = self.flows.rejections.all().keys()
        for home_address in self.desired.users(keys_of(binding).uplink, now) if found is None else ():
            if any(flow.key in refused for flow in self.desired.unit_of(home_address, now).flows):
                return home_address
        return found

    def _withdraw_formers(self, home_agent: bytes) -> None:
        """A gate of a home agent is to open: no former flow of its bindings may serve from now on."""
        for home_address in self.tunnels.desired.replaced():
            held = self._bindings.get(home_address)
            if held is not None and held.home_agent == home_agent:
                self._look_at(home_address)

    def _look_at(self, home_address: Prefix) -> None:
        """The agent's word on the tunnel of a home address has changed, or what that means."""
        held = self._bindings.get(home_address)
        if held is not None:
            formers = [former.binding for former in self.tunnels.desired.formers(home_address)]
            self.follow(held, (held, *formers), Urgency.URGENT)
