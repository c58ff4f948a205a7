# SPDX-License-Identifier: Apache-2.0
"""The whole of the controller's logic in one object: what comes in from bridges, agents, switches and time, and what
follows from it for each router.

Each call is all or nothing: what raises has changed nothing. After any call, routers whose ``flows.dirty`` is set have
something to send (``Router.take``).
"""

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from itertools import islice

from controller.core.activation_news import ActivationNews
from controller.core.admission import Refused, check_home_agent, is_deregistration
from controller.core.batches import Batch
from controller.core.binding_states import BindingState, BindingStates, State
from controller.core.bindings import Binding, Change, StaleSequence
from controller.core.events import Event
from controller.core.flows import Action, FlowKey, Kind
from controller.core.home_agents import HomeAgent, Status
from controller.core.installed import Reading
from controller.core.reasons import Reason
from controller.core.registrations import Registrations
from controller.core.router import Router, Timing
from controller.core.routers import Routers
from controller.core.snapshots import Snapshot, Snapshots
from controller.core.traffic import Counters
from controller.core.tunnels import EndpointName, FlowTunnelNames
from controller.core.updates import BINDINGS_AT_ONCE, Updates
from controller.core.urgency import MOST_EVENTS, Urgency
from hoaflow.addresses import Prefix, host


class Offload:
    """Bindings, home agents and routers, and the rules between them."""

    def __init__(self, timing: Timing, classify_miss: tuple[Action, ...] | None, first_revision: int) -> None:
        self.registrations = Registrations(first_revision, timing.acknowledge_within, timing.changes_a_second)
        self.bindings = self.registrations.bindings
        self.withheld = self.registrations.withheld  # nothing is installed for these
        self.home_agents = self.registrations.home_agents
        self.routers = Routers(self.registrations, timing, classify_miss)
        self._timing = timing
        self._events: list[Event] = []
        self._updates = Updates(self.registrations, self.routers, self._events)
        self.history = self._updates.history  # the last updates of each home address
        self.activations = self._updates.activations
        self._states = BindingStates(self.registrations, self.routers)
        self.activation_news = ActivationNews(self.bindings, self._states, self.activations, self._events)
        self._snapshots = Snapshots(self._updates, self._synced)

    # From the bridges.

    def announce(
        self, address: bytes, home_prefixes: tuple[Prefix, ...], lease: int, status: Status, now: float
    ) -> tuple[HomeAgent, Change]:
        """A bridge announces its home agent or renews its lease (``lease`` seconds). Idempotent.

        Returns the home agent, and what has changed. Raises Refused for addresses that can't be a home agent's,
        PrefixesOverlap for another's home prefix.
        """
        check_home_agent(address, home_prefixes)
        before = self.home_agents.get(address)
        moved = before is None or before.home_prefixes != home_prefixes
        replaced = self.home_agents.overlapping(address, home_prefixes) if moved else []
        home_agent, change = self.home_agents.announce(address, home_prefixes, lease, status, now)
        for each in replaced:
            self._forget(each, now)
        if change is Change.ADDED or before is None or before.status is not status:
            self._event("home-agent-announced", home_agent=address, status=status.value, lease=lease)
        if before is not None and before.home_prefixes != home_prefixes:
            held = self.registrations.of_home_agent(address)
            self._updates.schedule_removal(
                (each for each in held if not home_agent.covers(each.home_address)), "prefix-gone"
            )
        if before is None:
            # What is tunnelled to a home agent, and its signalling, never goes into anybody's tunnel.
            self._updates.schedule_removal(list(self.bindings.all_covering(host(address))), "home-agent-address")
        self._review(now, None if replaced else [home_agent])
        return home_agent, change

    def report(self, binding: Binding, now: float, urgency: Urgency = Urgency.URGENT) -> Change:
        """A bridge reports one binding. Idempotent.

        Raises StaleSequence for an update older than what is held, or than what has just been removed: nothing changes.
        Raises Refused for a value that can't be taken: what was held of its home agent is withdrawn then, for that has
        accepted what the controller does not.
        """
        gone = is_deregistration(binding)
        try:
            self._updates.check_sequence(binding, now)
            self._updates.check(binding)
        except StaleSequence:
            self._updates.reject(binding, "stale-sequence", "post", now)
            raise
        except Refused as refused:
            if self._updates.refuse(binding, str(refused), "post", now, urgency):
                self._snapshots.note_removal(binding.home_address, binding.sequence)
            raise
        held = self.registrations.get(binding.home_address)
        if not gone:
            self._snapshots.note_update(binding.home_address)
            return self._updates.put(binding, "post", now, urgency)
        self._snapshots.note_removal(binding.home_address, binding.sequence)
        self._updates.note_departure(binding, held, now)
        self._updates.free_path(self.registrations.refused.remove(binding.home_agent, binding.home_address))
        if held is not None:
            self._updates.drop(held, now, "deregistered", "post", urgency, binding)
        return Change.REMOVED if held is not None else Change.UNCHANGED

    def snapshot(self, home_agent: bytes, now: float) -> AbstractContextManager[Snapshot]:
        """A bridge begins to report its whole binding cache, which is then taken in slice by slice.

        Raises NotAnnounced when entered.
        """
        return self._snapshots.begin(home_agent, now)

    def updated(self, changes: int) -> None:
        """A batch of reports has been worked off that had so many changes."""
        if changes > MOST_EVENTS:
            self._event("bindings-updated", source="batch", changes=changes)

    def remove(self, home_address: Prefix, now: float) -> bool:
        """An operator removes a binding; the next snapshot brings it back if the home agent still holds it."""
        held = self.registrations.get(home_address)
        if held is None:
            return False
        self._snapshots.note_removal(home_address)
        self._updates.drop(held, now, "deleted", "delete")
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
        macs: tuple[str, ...] | None = None,
    ) -> Change:
        """A tunnel agent says what backend and MAC addresses its router has, and what its kernel holds.

        Returns what has changed of that, but for the revision. Failures of home addresses that have no binding are
        passed over: they are gone by now. Of many new ones not all are told.
        """
        failures = {address: reason for address, reason in failures.items() if self.bindings.get(address) is not None}
        router = self.routers.heard_of(dpid, now)
        former, announced = router.tunnels.failures, router.tunnels.announced
        was_alive = router.tunnels.agent_alive(now)
        router.hear_agent(now)
        self.activations.recheck(router.acknowledge(revision, endpoints, flow, macs, failures, now))
        moved = announced != router.tunnels.announced
        if was_alive and any(announced) and moved:
            self._event("agent-changed", router=f"{dpid:016x}")
        news = ((address, reason) for address, reason in failures.items() if former.get(address) != reason)
        for home_address, reason in islice(news, MOST_EVENTS):
            self._event("tunnel-failed", home_address=home_address, router=f"{dpid:016x}", reason=reason)
        self.review(router, now)
        if not was_alive:
            return Change.ADDED
        return Change.CHANGED if moved or former != failures else Change.REFRESHED

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
        return self.routers.known(dpid)

    # From the operator.

    def drain(self, dpid: int, draining: bool, now: float) -> Router:
        """Take a router out of service, all its traffic going back to the home agents, or back into service.

        Idempotent. Raises UnknownRouter.
        """
        router = self.router(dpid)
        if router.gates.drain(draining, now):
            self._event("router-drained" if draining else "router-undrained", router=f"{dpid:016x}")
            router.flows.recheck_adopted()
            self.review(router, now)
        return router

    # From the switches.

    def begin_reading(self, dpid: int, now: float) -> Reading:
        """A switch is about to be asked for its flows, which the caller adds; ``connect`` follows."""
        return self.routers.heard_of(dpid, now).flows.begin_reading()

    def connect(self, dpid: int, ports: Mapping[str, int], now: float) -> Router:
        """A switch is connected, with these ports, and its flows have been read; or they have been read again."""
        router = self.routers.heard_of(dpid, now)
        news = not router.connected
        router.connect(ports, now)
        self.review(router, now)
        if news:
            self._event("router-connected", router=f"{dpid:016x}")
        return router

    def disconnect(self, dpid: int, now: float) -> None:
        """A switch's connection is gone. A router of which no agent has ever told anything is not remembered: anybody
        who reaches the OpenFlow port can make one."""
        router = self.router(dpid)
        if router.connected:
            self._event("router-disconnected", router=f"{dpid:016x}")
        router.disconnect(now)
        if not self.routers.is_vouched_for(dpid):
            del self.routers[dpid]

    def turned_away(self, dpid: int) -> None:
        """A switch was disconnected, as too many are connected that nobody knows."""
        self._event("switch-turned-away", router=f"{dpid:016x}")

    def set_ports(self, dpid: int, ports: Mapping[str, int], now: float) -> None:
        """A switch's ports changed."""
        router = self.router(dpid)
        router.set_ports(ports, now)
        self.review(router, now)

    def confirm(self, router: Router, batch: Batch, now: float, sent: float | None = None) -> None:
        """A switch has carried a batch out, which was sent at ``sent``."""
        repaired = router.flows.confirm(batch, now)
        if repaired:
            router.messages.repaired += repaired
            self._event("drift-repaired", router=f"{router.dpid:016x}", flows=repaired)
        self._landed(router, batch, now, sent)

    def refuse(
        self,
        router: Router,
        batch: Batch,
        reasons: Mapping[int, str],
        rest_done: bool,
        now: float,
        unsent: Collection[int] = (),
    ) -> None:
        """A switch has refused changes of a batch (see ``Reconciliation.refuse``)."""
        router.flows.refuse(batch, reasons, rest_done, now, unsent)
        router.messages.refused += len(reasons)
        for position, reason in reasons.items():
            flow = batch.changes[position].flow
            self.activations.lose(router.served_by(flow, now))
            self._event("flow-rejected", router=f"{router.dpid:016x}", flow=flow, serves=flow.serves, reason=reason)
        self._landed(router, batch, now, None)

    def removed(self, router: Router, key: FlowKey, counted: Counters, now: float, evicted: bool = False) -> None:
        """A switch says that a flow is gone, ``evicted`` for want of room or otherwise, and what it had counted."""
        self.activations.lose(router.removed(key, counted, evicted, now))
        if router.flows.requires(key):
            self.review(router, now)

    def review(self, router: Router, now: float, home_agents: Iterable[HomeAgent] | None = None) -> None:
        """Bring a router's gates in line with what is, after anything that may open or close one. ``home_agents``:
        those whose gates may be concerned, None for all."""
        if router.review(now, home_agents):
            self.activations.recheck_all()

    # From the clock.

    def tick(self, now: float) -> None:
        """Time has passed: end lifetimes, leases and waits. What is too much at once is left for the next call."""
        self._updates.tick(now)
        lapsed = [each for each in self.home_agents if each.synced and not each.lease_holds(now)]
        for home_agent in lapsed:
            home_agent.synced = False
            self._event("lease-lapsed", home_agent=home_agent.address)
            held = self.registrations.of_home_agent(home_agent.address)
            ended = (each for each in held if each.expires_at is None or each.withheld is not None)
            self._updates.schedule_removal(ended, "lease-lapsed")
        for router in self.routers.values():
            due = router.next_deadline()
            if due is None or due > now:
                continue
            if router.tick(now):
                self._event("agent-lost", router=f"{router.dpid:016x}")
            self.review(router, now)
        if self._forget_lost(now):
            self._review(now)
        elif lapsed:
            self._review(now, lapsed)
        for home_address in self.activations.take_rechecks(BINDINGS_AT_ONCE):
            self.activation_news.look_at(home_address, now, None)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has to be called next, in the past if that is overdue; None for not at all."""
        if self.activations.has_rechecks:
            return -math.inf
        moments = [self._updates.next_deadline(), self.home_agents.next_lapse(), self._next_forgetting()]
        moments += [router.next_deadline() for router in self.routers.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    # What is.

    def take_events(self) -> list[Event]:
        """Return what has happened since this was asked last."""
        events = list(self._events)
        self._events.clear()
        return events

    def state_of(self, binding: Binding, now: float) -> BindingState:
        """Return how a binding stands (see ``BindingStates``)."""
        return self._states.of(binding, now)

    def state_of_confirmed(self, home_agent: HomeAgent, now: float) -> State:
        """Return how those bindings of a home agent stand all of whose flows stand."""
        return self._states.of_confirmed(home_agent, now)

    def binding(self, home_address: Prefix) -> Binding | None:
        """Return what is known of a home address, be it offloaded or withheld."""
        return self.registrations.get(home_address)

    def why_suppressed(self, home_address: Prefix) -> Reason | None:
        """Say why a binding that its home agent may have offloaded is not, None if nothing speaks against it."""
        return self.registrations.why_suppressed(home_address)

    # How.

    def _landed(self, router: Router, batch: Batch, now: float, sent: float | None) -> None:
        """A switch has answered: what does that open, and what has become active, or is not any more?"""
        for table, has_room in router.flows.take_room_news():
            self._event("table-has-room" if has_room else "table-full", router=f"{router.dpid:016x}", table=table)
        self.activations.lose(each for each in batch.withdrawn if self.bindings.get(each) is not None)
        served = {change.flow.serves for change in batch.changes if change.flow.kind in (Kind.GUARD, Kind.GATE)}
        if served:
            owners = [None if each is None else self.home_agents.owner(each) for each in served]
            concerned = {owner.address: owner for owner in owners if owner is not None}
            # A guard that serves nobody in particular is needed by all.
            self.review(router, now, None if None in owners else concerned.values())
        self.activation_news.look_at_all(batch.subjects, now, sent)

    def _synced(self, home_agent: HomeAgent, bindings: int, now: float) -> None:
        """The first snapshot under a lease has been taken in."""
        home_agent.synced = True
        self.registrations.tunnel_list.demand_full()
        for router in self.routers.values():
            router.flows.recheck_adopted()
        self._event("home-agent-synced", home_agent=home_agent.address, bindings=bindings)
        self._review(now, [home_agent])

    def _forget(self, home_agent: HomeAgent, now: float) -> None:
        self._updates.schedule_removal(self.registrations.of_home_agent(home_agent.address), "home-agent-replaced")
        self.home_agents.forget(home_agent.address)
        self.registrations.refused.outdated(home_agent.address, math.inf)
        self._event("home-agent-forgotten", home_agent=home_agent.address)

    def _next_forgetting(self) -> float | None:
        lost = (agent.lease_ends + self._timing.forget_after for agent in self._without_bindings())
        return min((moment for moment in (*lost, self.routers.next_forgetting()) if moment is not None), default=None)

    def _forget_lost(self, now: float) -> bool:
        """Forget home agents without bridge and bindings, and routers without switch and agent, after a while. Tell
        whether there was such a home agent."""
        lost = [each for each in self._without_bindings() if each.lease_ends + self._timing.forget_after <= now]
        for agent in lost:
            self._forget(agent, now)
        for router in self.routers.forget_lost(now):
            self._event("router-forgotten", router=f"{router.dpid:016x}")
        return bool(lost)

    def _without_bindings(self) -> list[HomeAgent]:
        return [agent for agent in self.home_agents if not self.bindings.count(agent.address)]

    def _review(self, now: float, home_agents: Collection[HomeAgent] | None = None) -> None:
        for router in self.routers.values():
            self.review(router, now, home_agents)

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
