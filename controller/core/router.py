# SPDX-License-Identifier: Apache-2.0
"""One router: which flows it should have for the bindings, given what its switch and its tunnel agent confirmed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from controller.core import pipeline, reasons, traffic
from controller.core.addresses import Prefix
from controller.core.backends import Backend, backend_of
from controller.core.bindings import Binding, BindingTable
from controller.core.flow_sets import Path, flows_of, home_end, last_end, path_of
from controller.core.flows import Action, Flow, FlowKey, Kind, match_of, match_value
from controller.core.gates import Gates
from controller.core.home_agents import HomeAgents
from controller.core.reasons import Reason
from controller.core.reconciliation import Entry, FlowChange, Reconciliation
from controller.core.tunnels import EndpointName, FlowTunnelNames, Tunnels


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the controller takes a router at its word, in seconds.

    ``agent_lease``: how long a tunnel agent may be silent. ``acknowledge_within``: how long the flows of a binding's
    former care-of address may stay while the agent changes the tunnel. ``forget_after``: how long what is gone is
    remembered.
    """

    agent_lease: float
    acknowledge_within: float
    forget_after: float


@dataclass(frozen=True, slots=True)
class BindingOnRouter:
    """How a binding stands on one router, and what keeps its packets on the home agent's path, None if active."""

    state: Literal["active", "pending", "failed"]
    reason: Reason | None = None


@dataclass(slots=True)
class Tally:
    """What has passed between controller and switch: flow messages sent, flows that the switch refused, and flows that
    were repaired because somebody else had changed them."""

    added: int = 0
    deleted: int = 0
    refused: int = 0
    repaired: int = 0


class Router:
    """An Open vSwitch bridge under control, with its tunnel agent.

    It reads the shared binding table and home agents and never writes them. ``now`` is the caller's clock throughout.
    """

    def __init__(
        self,
        dpid: int,
        bindings: BindingTable,
        home_agents: HomeAgents,
        timing: Timing,
        classify_miss: tuple[Action, ...] | None,
        first_revision: int,
        now: float,
    ) -> None:
        self.dpid = dpid
        self.connected = False
        self._disconnected_at = now
        self.flows = Reconciliation()
        self.traffic = traffic.Traffic()
        self.tally = Tally()
        self.tunnels = Tunnels(first_revision)
        self._bindings = bindings
        self._home_agents = home_agents
        self._timing = timing
        self._ports: dict[str, int] = {}
        # The binding whose flows are desired, by home address: the table's, or a former one while its tunnel changes.
        self._offered: dict[Prefix, Binding] = {}
        self._uplink_users: dict[Path, dict[Prefix, float | None]] = {}
        # Tunnels that the agent has yet to acknowledge: their home agent, and until when former flows may stay.
        self._waiting: dict[Prefix, tuple[bytes, float]] = {}
        # Packets and bytes of a binding's flows that are gone, and whom an uplink flow on its way out served last.
        self._retired: dict[Prefix, tuple[int, int]] = {}
        self._last_served: dict[FlowKey, Prefix] = {}
        # An agent that has not been heard of yet may only be on its way back to a restarted controller.
        self._agent_expected_until: float | None = now + timing.agent_lease
        self._agent_lost = False
        self.gates = Gates(
            dpid, self.flows, self.tunnels, home_agents, self._backend_or_why, self._has_former_tunnels, now
        )
        for flow in pipeline.miss_flows(classify_miss):
            self.flows.want(flow)

    # What comes in.

    def connect(
        self, ports: Mapping[str, int], installed: Iterable[Entry], foreign: Iterable[FlowKey], now: float
    ) -> None:
        """The switch is there, with these ports (numbers by name) and flows."""
        self.connected = True
        installed = list(installed)
        self.gates.recall(installed, now)
        if ports != self._ports:
            self._ports = dict(ports)
            self._resettle(now)
        self.flows.load(installed, foreign, now)

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
        self._ports = dict(ports)
        self._resettle(now)

    def follow(self, binding: Binding, now: float) -> None:
        """A binding was added, changed or refreshed."""
        self.tunnels.publish(binding)
        self._settle(binding.home_address, now)

    def drop(self, home_address: Prefix, now: float) -> None:
        """A binding is gone."""
        self.tunnels.withdraw(home_address)
        self._retired.pop(home_address, None)
        self._settle(home_address, now)

    def hear_agent(self, now: float) -> None:
        """The tunnel agent has given a sign of life."""
        self.tunnels.agent_lease_ends = now + self._timing.agent_lease
        self._agent_lost = False

    def acknowledge(
        self,
        revision: int,
        endpoints: dict[bytes, EndpointName],
        flow: FlowTunnelNames | None,
        failures: dict[Prefix, str],
        now: float,
    ) -> set[Prefix]:
        """The tunnel agent says what backend the router has, where it is, and what its kernel holds.

        Returns the home addresses for which its word on their tunnels is news.
        """
        moved = (endpoints, flow) != (self.tunnels.endpoints, self.tunnels.flow)
        self.tunnels.endpoints = endpoints
        self.tunnels.flow = flow
        # Not before: an agent that only asks for its list has not said yet what its kernel has.
        self._agent_expected_until = None
        news = self.tunnels.acknowledge(revision, failures)
        if moved:
            self._resettle(now)
        else:
            for home_address in news:
                self._settle(home_address, now)
        return news

    def removed(self, key: FlowKey, packets: int, bytes_: int) -> list[Prefix]:
        """The switch says that a binding's flow is gone, and what it had counted.

        Returns the home addresses that should have it still.
        """
        wanted = self.flows.wants(key)
        table = key[0].table
        if table == pipeline.DOWNLINK:
            self.traffic.retire(traffic.DOWNLINK, packets, bytes_)
        elif table == (pipeline.UPLINK if self.uplink_kind is Kind.UPLINK else pipeline.VERIFY):
            self.traffic.retire(traffic.UPLINK, packets, bytes_)
        served = self._last_served.pop(key, None)
        if served is None and key[0].table != pipeline.UPLINK:
            served = next(
                (value for _, value in match_of(key) if isinstance(value, Prefix) and value in self._offered), None
            )
        if served is not None and self._bindings.get(served) is not None:
            before = self._retired.get(served, (0, 0))
            self._retired[served] = (before[0] + packets, before[1] + bytes_)
        self.flows.removed(key)
        return [] if wanted is None else self.served_by(wanted)

    def tick(self, now: float) -> bool:
        """Time has passed. Tell whether the agent has been lost with it."""
        if self._agent_expected_until is not None and now >= self._agent_expected_until:
            self._agent_expected_until = None
        overdue = [home_address for home_address, (_, deadline) in self._waiting.items() if deadline <= now]
        for home_address in overdue:
            self._settle(home_address, now)
        lease_ends = self.tunnels.agent_lease_ends
        lost = lease_ends is not None and now >= lease_ends and not self._agent_lost
        self._agent_lost = self._agent_lost or lost
        return lost

    def next_deadline(self) -> float | None:
        """Return when ``tick`` and ``review`` have something to do next; in the past if that is overdue."""
        moments = [deadline for _, deadline in self._waiting.values()]
        if self._agent_expected_until is not None:
            moments.append(self._agent_expected_until)
        if self.tunnels.agent_lease_ends is not None and not self._agent_lost:
            moments.append(self.tunnels.agent_lease_ends)
        return min(moments, default=None)

    def last_seen(self) -> float | None:
        """Return when the agent's last lease ended or ends; None while the switch is connected, or the router drained:
        it may be away for long, and has to come back as it went."""
        if self.connected or self.gates.draining:
            return None
        return max(self._disconnected_at, self.tunnels.agent_lease_ends or self._disconnected_at)

    # What follows.

    def changes(self, now: float) -> list[FlowChange]:
        """Return the flow changes that are due (see ``Reconciliation.changes``)."""
        gates = self.flows.adopted_gates(now)
        return self.flows.changes(now, lambda flow: self._may_delete(flow, gates, now))

    @property
    def uplink_kind(self) -> Kind:
        """The flows that count what comes from mobile nodes once: where OpenFlow verifies, what has passed."""
        return Kind.UPLINK if self.tunnels.flow is None else Kind.VERIFY

    def prepared_for(self, home_agent: bytes) -> bool:
        """Tell whether the router can encapsulate for this home agent."""
        return self._backend(home_agent) is not None

    def why_not_connected(self) -> Reason | None:
        """Say that the switch is away, None if it is not."""
        return None if self.connected else reasons.not_connected(self._disconnected_at)

    def state_of(self, binding: Binding, now: float) -> BindingOnRouter:
        """Say how a binding stands here, and why."""
        away = self.why_not_connected()
        if away is not None:
            return BindingOnRouter("pending", away)
        backend = self._backend_or_why(binding.home_agent)
        if isinstance(backend, Reason):
            return BindingOnRouter("pending", backend)
        keys = [flow.key for flow in flows_of(binding, backend)]
        failure = self._failure(binding, keys)
        if failure is not None:
            return BindingOnRouter("failed", failure)
        home_agent = self._home_agents.get(binding.home_agent)
        if home_agent is None:
            return BindingOnRouter("pending", reasons.not_announced(binding.home_agent))
        reason = self.gates.why_closed(home_agent, now) or self._why_unsteered(binding, keys, now)
        return BindingOnRouter("active" if reason is None else "pending", reason)

    def entries(self, binding: Binding, now: float) -> list[Entry]:
        """Return the flows of a binding that the switch is known to have, with their ends."""
        backend = self._backend(binding.home_agent)
        keys = [] if backend is None else [flow.key for flow in flows_of(binding, backend)]
        return [entry for key in keys if (entry := self.flows.entry(key, now)) is not None]

    def counted_keys(self, binding: Binding) -> list[FlowKey]:
        """Return the keys of the flows that count a binding's packets here: one for each direction.

        The uplink flow of a `route` backend counts for all home addresses behind its care-of address.
        """
        backend = self._backend(binding.home_agent)
        if backend is None:
            return []
        downlink, uplink, *verify = flows_of(binding, backend)
        return [downlink.key, *(flow.key for flow in verify or [uplink])]

    def retired(self, home_address: Prefix) -> tuple[int, int]:
        """Return packets and bytes that flows counted for a binding before they were replaced, as by a handover."""
        return self._retired.get(home_address, (0, 0))

    def served_by(self, flow: Flow) -> list[Prefix]:
        """Return the home addresses that a binding's flow serves here."""
        if flow.kind in (Kind.DOWNLINK, Kind.VERIFY) and flow.serves is not None:
            return [flow.serves]
        if flow.kind is Kind.UPLINK:
            source, destination = match_value(flow.match, "ipv6_src"), match_value(flow.match, "ipv6_dst")
            payload = match_value(flow.match, "ip_proto")
            if isinstance(source, Prefix) and isinstance(destination, Prefix) and isinstance(payload, int):
                return list(self._uplink_users.get(Path(source.packed, destination.packed, payload), ()))
        return []

    # How.

    def _settle(self, home_address: Prefix, now: float) -> None:
        """Bring the desired flows of one home address in line with its binding and the agent's word on its tunnel."""
        binding = self._bindings.get(home_address)
        offered = self._offered.get(home_address)
        _, deadline = self._waiting.pop(home_address, (None, None))
        if binding is None or self._backend(binding.home_agent) is None:
            self._offer(home_address, None)
        elif self.tunnels.is_applied(binding):
            self._offer(home_address, binding)
        elif self.tunnels.failure(home_address) is not None:
            self._offer(home_address, None)
        else:
            if deadline is None:
                deadline = max(now + self._timing.acknowledge_within, self._agent_expected_until or now)
            if now < deadline:
                self._waiting[home_address] = (binding.home_agent, deadline)
                if offered is not None and self._stands(offered.home_agent, now):
                    return
            self._offer(home_address, None)

    def _resettle(self, now: float) -> None:
        """Settle everything anew: ports or endpoints moved, so flows that were right may not be any more."""
        for home_address in list(self._offered):
            self._offer(home_address, None)
        for binding in self._bindings:
            self._settle(binding.home_address, now)

    def _offer(self, home_address: Prefix, binding: Binding | None) -> None:
        """Desire the flows of ``binding`` and no others for ``home_address``."""
        former = self._offered.pop(home_address, None)
        if former is not None and (binding is None or not former.same_path(binding)):
            self._leave_uplink(former)
            self.flows.unwant(pipeline.verify_flow(former.care_of_address, home_address, ()).key)
            if binding is None:
                self.flows.unwant(pipeline.downlink_flow(home_address, ()).key)
        if binding is None:
            return
        backend = self._backend(binding.home_agent)
        if backend is None:
            raise ValueError(f"no backend for the home agent of {home_address}: its flows can't be offered")
        self._offered[home_address] = binding
        downlink, uplink, *verify = flows_of(binding, backend)
        for flow in (downlink, *verify):
            self.flows.want(flow, binding.expires_at)
        users = self._uplink_users.setdefault(path_of(binding), {})
        users[home_address] = binding.expires_at
        self.flows.want(uplink, last_end(users))

    def _leave_uplink(self, binding: Binding) -> None:
        """The uplink flow of a care-of address stays for as long as the last of its bindings lives."""
        path = path_of(binding)
        users = self._uplink_users[path]
        del users[binding.home_address]
        key = pipeline.uplink_flow(*path, ()).key
        flow = self.flows.wants(key)
        if not users:
            del self._uplink_users[path]
            self.flows.unwant(key)
            if self.tunnels.flow is None and self.flows.holds(key):
                self._last_served[key] = binding.home_address
        elif flow is not None:
            self.flows.want(flow, last_end(users))

    def _backend_or_why(self, home_agent: bytes) -> Backend | Reason:
        return backend_of(self.tunnels, home_agent, self._ports)

    def _backend(self, home_agent: bytes) -> Backend | None:
        found = self._backend_or_why(home_agent)
        return None if isinstance(found, Reason) else found

    def _has_former_tunnels(self, home_agent: bytes) -> bool:
        """Tell whether the switch may have flows into a tunnel of this home agent that is not acknowledged."""
        return any(
            waited_for == home_agent and self.flows.holds(pipeline.downlink_flow(home_address, ()).key)
            for home_address, (waited_for, _) in self._waiting.items()
        )

    def _failure(self, binding: Binding, keys: list[FlowKey]) -> Reason | None:
        """Say what could not be done for a binding's packets and is tried again, or never."""
        failure = self.tunnels.failure(binding.home_address)
        if failure is not None:
            return reasons.tunnel_failed(failure)
        for key in keys:
            rejection = self.flows.rejection(key)
            if rejection is not None:
                return reasons.flow_refused(rejection.reason, rejection.since)
            if self.flows.is_foreign(key):
                return reasons.foreign_flow()
        return None

    def _why_unsteered(self, binding: Binding, keys: list[FlowKey], now: float) -> Reason | None:
        """Say why the switch does not have the flows of a binding, None if it has."""
        if not self.tunnels.is_applied(binding):
            return reasons.tunnel_unacknowledged()
        if not all(self.flows.is_active(key, now) for key in keys):
            return reasons.flows_unconfirmed()
        return None

    def _stands(self, address: bytes, now: float) -> bool:
        """Tell whether a gate of this home agent stands and its packets can be taken: only then does it matter to
        keep the flows of a binding while its tunnel changes."""
        home_agent = self._home_agents.get(address)
        return home_agent is not None and self.prepared_for(address) and bool(self.gates.open(home_agent, now))

    def _waits_for(self, home_agent: bytes) -> bool:
        """Tell whether tunnels of this home agent are unacknowledged."""
        return any(waited_for == home_agent for waited_for, _ in self._waiting.values())

    def _may_delete(self, flow: Flow, adopted_gates: list[Flow], now: float) -> bool:
        """Decide on a flow of an earlier life that nobody desires.

        It may still be needed: by a home agent whose snapshot has not come, or by a tunnel that its agent is about to
        acknowledge. Once no open gate leads to it, nobody misses it.
        """
        subject = flow.serves
        if subject is None:
            return True
        home_agent = self._home_agents.covering(home_end(flow))
        gates = adopted_gates
        if flow.kind is Kind.GATE and self.gates.draining:
            return True
        if home_agent is not None:
            if home_agent.synced and self._agent_expected_until is None and not self._waits_for(home_agent.address):
                return True
            gates = gates + [gate.flow for gate in self.gates.open(home_agent, now)]
        return not any(gate.serves and gate.serves.overlaps(home_end(flow)) for gate in gates)
