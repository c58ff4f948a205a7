# SPDX-License-Identifier: Apache-2.0
"""The whole of the controller's logic in one object: what comes in from bridges, agents, switches and time, and what
follows from it for each router.

Each call is all or nothing: what raises has changed nothing. After any call, routers whose ``flows.dirty`` is set have
something to send (``Router.changes``).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from controller.core.activation import Activation, Activations
from controller.core.addresses import Prefix, format_address, host
from controller.core.admission import NotAnnounced, Refused, check_binding, check_home_agent, is_deregistration
from controller.core.bindings import Binding, BindingTable, Change, StaleSequence
from controller.core.events import Event
from controller.core.flows import Action, FlowKey, Kind
from controller.core.history import History, Result, Source, Update
from controller.core.home_agents import HomeAgent, HomeAgents, Status
from controller.core.reconciliation import Entry, FlowChange
from controller.core.router import BindingOnRouter, Router, Timing
from controller.core.tunnels import EndpointName, FlowTunnelNames

# How many bindings that may have become active one ``tick`` looks at: others wait meanwhile.
LOOKED_AT_ONCE = 500


class UnknownRouter(Exception):
    """Neither a switch nor a tunnel agent with this datapath id has been heard of."""

    def __init__(self, dpid: int) -> None:
        super().__init__(f"no router {dpid:016x} is known; its switch or its tunnel agent has to announce it first")


@dataclass(slots=True)
class SnapshotResult:
    """What a snapshot did; ``refused`` gives the index and reason of each binding not taken.

    ``changed`` counts bindings on a new path; a mere refresh counts as ``unchanged``.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: list[tuple[int, Binding, Refused]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BindingState:
    """How a binding stands, and on each router prepared for it."""

    state: Literal["active", "partial", "pending", "held"]
    routers: Mapping[int, BindingOnRouter]


class Offload:
    """Bindings, home agents and routers, and the rules between them."""

    def __init__(self, timing: Timing, classify_miss: tuple[Action, ...] | None, first_revision: int) -> None:
        self.bindings = BindingTable()
        self.home_agents = HomeAgents()
        self.routers: dict[int, Router] = {}
        self.events: list[Event] = []
        self._timing = timing
        self._classify_miss = classify_miss
        self._first_revision = first_revision
        self.history = History()
        self.activations = Activations()
        # How long bindings took that have become active; taken away by the caller, as are the events.
        self.activated: list[Activation] = []
        # Home addresses whose bindings may have become active because a gate opened or an agent acknowledged.
        self._suspects: dict[Prefix, None] = {}

    # From the bridges.

    def announce(
        self, address: bytes, home_prefixes: tuple[Prefix, ...], lease: int, status: Status, now: float
    ) -> HomeAgent:
        """A bridge announces its home agent or renews its lease (``lease`` seconds). Idempotent.

        Raises Refused for addresses that can't be a home agent's, PrefixesOverlap for another's home prefix.
        """
        check_home_agent(address, home_prefixes)
        before = self.home_agents.get(address)
        home_agent = self.home_agents.announce(address, home_prefixes, lease, status, now)
        for replaced in self.home_agents.overlapping(address, home_prefixes):
            self._forget(replaced, now)
        if before is None or not before.lease_held(now) or before.status is not status:
            self._event("home-agent-announced", home_agent=address, status=status.value, lease=lease)
        if before is not None and before.home_prefixes != home_prefixes:
            for binding in list(self.bindings.of_home_agent(address)):
                if not home_agent.covers(binding.home_address):
                    self._drop(binding.home_address, now, "prefix-gone", "lease")
        self._review(now)
        return home_agent

    def post(self, binding: Binding, now: float) -> Change:
        """A bridge reports one binding. Idempotent.

        Raises Refused for a value that can't be taken, StaleSequence for an update older than what is held.
        """
        gone = is_deregistration(binding)
        try:
            home_agent = self._check(binding)
            self.bindings.check_sequence(
                binding.home_address, binding.sequence, None if gone else binding.care_of_address
            )
        except Refused as refused:
            self._refused(binding, str(refused), "post", now)
            raise
        except StaleSequence:
            self._refused(binding, "stale-sequence", "post", now)
            raise
        held = self.bindings.get(binding.home_address)
        if gone:
            if held is not None:
                self._drop(binding.home_address, now, "deregistered", "post", binding)
            return Change.REMOVED if held is not None else Change.UNCHANGED
        return self._put(binding, home_agent, "post", now)

    def snapshot(self, home_agent: bytes, bindings: Iterable[Binding], now: float) -> SnapshotResult:
        """A bridge reports the whole binding cache: the truth of its moment. Idempotent.

        What it holds is taken as it is, what it lacks is removed, what can't be taken counts as lacking and is
        reported. Raises NotAnnounced.
        """
        agent = self.home_agents.get(home_agent)
        if agent is None:
            raise NotAnnounced(home_agent)
        result = SnapshotResult()
        present: set[Prefix] = set()
        for index, binding in enumerate(bindings):
            try:
                if binding.home_agent != home_agent:
                    raise Refused("home_agent", f"this is the snapshot of {format_address(home_agent)}")
                self._check(binding)
                if binding.home_address in present:
                    raise Refused("home_address", f"{binding.home_address} stands in this snapshot twice")
            except Refused as refused:
                self._refused(binding, str(refused), "snapshot", now)
                result.refused.append((index, binding, refused))
                continue
            if is_deregistration(binding):
                continue
            present.add(binding.home_address)
            change = self._put(binding, agent, "snapshot", now)
            if change is Change.ADDED:
                result.added += 1
            elif change is Change.CHANGED:
                result.changed += 1
            else:
                result.unchanged += 1
        for home_address in self.bindings.absent_from(home_agent, present):
            self._drop(home_address, now, "not-in-snapshot", "snapshot")
            result.removed += 1
        if not agent.synced and agent.lease_held(now):
            agent.synced = True
            for router in self.routers.values():
                router.tunnels.demand_full()
            self._event("home-agent-synced", home_agent=home_agent, bindings=len(present))
        self._review(now)
        return result

    def remove(self, home_address: Prefix, now: float) -> bool:
        """An operator removes a binding; the next snapshot brings it back if the home agent still holds it."""
        if self.bindings.get(home_address) is None:
            return False
        self._drop(home_address, now, "deleted", "delete")
        return True

    # From the tunnel agents.

    def acknowledge(
        self,
        dpid: int,
        revision: int,
        endpoints: dict[bytes, EndpointName],
        flow: FlowTunnelNames | None,
        failures: dict[Prefix, str],
        now: float,
    ) -> None:
        """A tunnel agent says what backend its router has, and what its kernel holds."""
        router = self._router(dpid, now)
        before = router.tunnels.failures
        router.hear_agent(now)
        self._look_at(router.acknowledge(revision, endpoints, flow, failures, now))
        for home_address, reason in failures.items():
            if before.get(home_address) != reason:
                self._event("tunnel-failed", home_address=home_address, router=f"{dpid:016x}", reason=reason)
        self.review(router, now)

    def hear_agent(self, dpid: int, now: float) -> Router:
        """A tunnel agent asks for its list. Raises UnknownRouter."""
        router = self.router(dpid)
        was_alive = router.tunnels.agent_alive(now)
        router.hear_agent(now)
        if not was_alive:
            self.review(router, now)
        return router

    def router(self, dpid: int) -> Router:
        """Return a router. Raises UnknownRouter."""
        try:
            return self.routers[dpid]
        except KeyError:
            raise UnknownRouter(dpid) from None

    # From the operator.

    def drain(self, dpid: int, draining: bool, now: float) -> Router:
        """Take a router out of service, all its traffic going back to the home agents, or back into service.

        Idempotent. Raises UnknownRouter.
        """
        router = self.router(dpid)
        if router.gates.drain(draining, now):
            if draining:
                self._event("router-drained", router=f"{dpid:016x}")
            else:
                self._event("router-undrained", router=f"{dpid:016x}")
            self.review(router, now)
        return router

    # From the switches.

    def connect(
        self,
        dpid: int,
        ports: Mapping[str, int],
        installed: Iterable[Entry],
        foreign: Iterable[FlowKey],
        now: float,
    ) -> Router:
        """A switch is connected and its flows have been read back."""
        router = self._router(dpid, now)
        router.connect(ports, installed, foreign, now)
        self.review(router, now)
        self._event("router-connected", router=f"{dpid:016x}")
        return router

    def disconnect(self, dpid: int, now: float) -> None:
        """A switch's connection is gone."""
        self.router(dpid).disconnect(now)
        self._event("router-disconnected", router=f"{dpid:016x}")

    def set_ports(self, dpid: int, ports: Mapping[str, int], now: float) -> None:
        """A switch's ports changed."""
        router = self.router(dpid)
        router.set_ports(ports, now)
        self.review(router, now)

    def confirm(self, router: Router, changes: list[FlowChange], now: float, sent: float | None = None) -> None:
        """A switch has carried these changes out, which were sent at ``sent``."""
        repaired = router.flows.confirm(changes)
        if repaired:
            router.tally.repaired += repaired
            self._event("drift-repaired", router=f"{router.dpid:016x}", flows=repaired)
        if any(change.flow.kind in (Kind.GUARD, Kind.GATE) for change in changes):
            self.review(router, now)
        for change in changes:
            if change.add:
                for home_address in router.served_by(change.flow):
                    self._announce_if_active(home_address, now, sent)

    def reject(self, router: Router, change: FlowChange, reason: str, now: float) -> None:
        """A switch has refused a change."""
        router.flows.reject(change, reason, now)
        router.tally.refused += 1
        self.activations.lose(router.served_by(change.flow))
        self._event(
            "flow-rejected",
            router=f"{router.dpid:016x}",
            flow=change.flow,
            serves=change.flow.serves,
            reason=reason,
        )

    def removed(self, router: Router, key: FlowKey, packets: int, bytes_: int) -> None:
        """A switch says that a binding's flow is gone, and what it had counted."""
        self.activations.lose(router.removed(key, packets, bytes_))

    def review(self, router: Router, now: float) -> None:
        """Bring a router's gates in line with what is, after anything that may open or close one."""
        for home_agent in router.gates.review(now):
            self._look_at(binding.home_address for binding in self.bindings.of_home_agent(home_agent))

    def _look_at(self, home_addresses: Iterable[Prefix]) -> None:
        """These may have become active without a word of a switch on their own flows: look at them with ``tick``."""
        unconfirmed = self.activations.unconfirmed
        self._suspects.update((address, None) for address in home_addresses if address in unconfirmed)

    # From the clock.

    def tick(self, now: float) -> None:
        """Time has passed: end lifetimes, leases and waits."""
        for binding in self.bindings.expired(now):
            self._gone(binding, now, "expired", "expiry")
        for home_agent in self.home_agents:
            if home_agent.synced and not home_agent.lease_held(now):
                home_agent.synced = False
                self._event("lease-lapsed", home_agent=home_agent.address)
                for binding in list(self.bindings.of_home_agent(home_agent.address)):
                    if binding.expires_at is None:
                        self._drop(binding.home_address, now, "lease-lapsed", "lease")
        for router in self.routers.values():
            if router.tick(now):
                self._event("agent-lost", router=f"{router.dpid:016x}")
        self._forget_lost(now)
        self._review(now)
        for home_address in list(islice(self._suspects, LOOKED_AT_ONCE)):
            del self._suspects[home_address]
            self._announce_if_active(home_address, now)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has to be called next, in the past if that is overdue; None for not at all."""
        if self._suspects:
            return -math.inf
        moments = [self.bindings.next_expiry(), self.home_agents.next_lapse(), self._next_forgetting()]
        moments += [router.next_deadline() for router in self.routers.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    # What is.

    def state_of(self, binding: Binding, now: float) -> BindingState:
        """Say how a binding stands. ``held``: its home agent's lease does not hold, all packets go through it."""
        routers = {
            dpid: router.state_of(binding, now)
            for dpid, router in self.routers.items()
            if router.prepared_for(binding.home_agent)
        }
        home_agent = self.home_agents.get(binding.home_agent)
        if home_agent is None or not home_agent.may_offload(now):
            return BindingState("held", routers)
        active = sum(router.state == "active" for router in routers.values())
        if active == 0:
            return BindingState("pending", routers)
        return BindingState("active" if active == len(routers) else "partial", routers)

    def active_since(self, home_address: Prefix) -> float | None:
        """Return when a binding became active at its care-of address, None if it never was."""
        return self.activations.active_since.get(home_address)

    # How.

    def _router(self, dpid: int, now: float) -> Router:
        router = self.routers.get(dpid)
        if router is None:
            router = Router(
                dpid,
                self.bindings,
                self.home_agents,
                self._timing,
                self._classify_miss,
                self._first_revision,
                now,
            )
            self.routers[dpid] = router
            for binding in self.bindings:
                router.follow(binding, now)
        return router

    def _check(self, binding: Binding) -> HomeAgent:
        """Return the binding's home agent. Raises Refused for a binding that may not be offloaded."""
        home_agent = check_binding(binding, self.home_agents)
        # A care-of address may be a home address itself (nested mobility), but not in a circle.
        seen, end = {binding.home_address}, host(binding.care_of_address)
        while not is_deregistration(binding):
            if end in seen:
                raise Refused("care_of_address", "the bindings from there lead back to the home address: a circle")
            step = self.bindings.get(end)
            if step is None:
                break
            seen.add(end)
            end = host(step.care_of_address)
        return home_agent

    def _put(self, binding: Binding, home_agent: HomeAgent, source: Source, now: float) -> Change:
        change = self.bindings.put(binding)
        if change is Change.UNCHANGED:
            return change
        for router in self.routers.values():
            router.follow(binding, now)
        self._record(binding, now, source, change.value)
        if change in (Change.ADDED, Change.CHANGED):
            self.activations.report(binding.home_address, now)
            self._event(
                f"binding-{change.value}",
                home_address=binding.home_address,
                care_of_address=binding.care_of_address,
                home_agent=home_agent.address,
                sequence=binding.sequence,
                lifetime=binding.lifetime,
            )
        return change

    def _drop(
        self, home_address: Prefix, now: float, reason: str, source: Source, update: Binding | None = None
    ) -> None:
        """Forget a binding. ``update`` is what ended it, where that was an update."""
        removed = self.bindings.remove(home_address)
        if removed is not None:
            self._gone(removed, now, reason, source, update)

    def _gone(self, binding: Binding, now: float, reason: str, source: Source, update: Binding | None = None) -> None:
        self.activations.forget(binding.home_address)
        for router in self.routers.values():
            router.drop(binding.home_address, now)
        self._record(update or binding, now, source, "removed", reason)
        self._event("binding-removed", home_address=binding.home_address, reason=reason)

    def _forget(self, home_agent: HomeAgent, now: float) -> None:
        for binding in list(self.bindings.of_home_agent(home_agent.address)):
            self._drop(binding.home_address, now, "home-agent-replaced", "lease")
        self.home_agents.forget(home_agent.address)
        self._event("home-agent-forgotten", home_agent=home_agent.address)

    def _next_forgetting(self) -> float | None:
        gone = [agent.lease_ends for agent in self.home_agents if not self.bindings.count(agent.address)]
        gone += [seen for router in self.routers.values() if (seen := router.last_seen()) is not None]
        return min(gone) + self._timing.forget_after if gone else None

    def _forget_lost(self, now: float) -> None:
        """Forget home agents without bridge and bindings, and routers without switch and agent, after a while."""
        for agent in list(self.home_agents):
            if agent.lease_ends + self._timing.forget_after <= now and not self.bindings.count(agent.address):
                self._forget(agent, now)
        for router in list(self.routers.values()):
            seen = router.last_seen()
            if seen is not None and seen + self._timing.forget_after <= now:
                del self.routers[router.dpid]
                self._event("router-forgotten", router=f"{router.dpid:016x}")

    def _review(self, now: float) -> None:
        for router in self.routers.values():
            self.review(router, now)

    def _announce_if_active(self, home_address: Prefix, now: float, sent: float | None = None) -> None:
        """Report a binding when the last of its routers has confirmed it; ``sent`` is when that one's flows were."""
        binding = self.bindings.get(home_address)
        if binding is None or home_address not in self.activations.unconfirmed:
            return
        if self.state_of(binding, now).state == "active":
            took = self.activations.confirm(home_address, sent, now)
            if took is not None:
                self.activated.append(took)
            self._event(
                "binding-active",
                home_address=home_address,
                care_of_address=binding.care_of_address,
                sequence=binding.sequence,
            )

    def _refused(self, binding: Binding, reason: str, source: Source, now: float) -> None:
        if self.home_agents.covering(binding.home_address) is not None:
            self._record(binding, now, source, "refused", reason)
        self._event("binding-refused", home_address=binding.home_address, home_agent=binding.home_agent, reason=reason)

    def _record(self, binding: Binding, now: float, source: Source, result: Result, reason: str | None = None) -> None:
        update = Update(now, binding.care_of_address, binding.sequence, binding.lifetime, source, result, reason)
        self.history.record(binding.home_address, update)

    def _event(self, name: str, **fields: object) -> None:
        self.events.append(Event(name, fields))
