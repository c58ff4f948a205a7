# SPDX-License-Identifier: Apache-2.0
"""Take in what bridges, agents, switches, operators and the clock say: the front of the core.

Each call is all or nothing: one that raises has changed nothing, but for what ``Offload.report`` says of itself. After
any call, routers whose ``flows.dirty`` is true have something to send (``Session.next_batch``).
"""

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import islice

from controller.core.activation_events import ActivationEvents
from controller.core.admission import Refused, check_home_agent, is_deregistration
from controller.core.binding_states import BindingStates
from controller.core.bindings import Binding, Change, StaleUpdate
from controller.core.connections import Connections
from controller.core.demand import Install
from controller.core.events import Event
from controller.core.flows import Action
from controller.core.home_agents import HomeAgent, Status
from controller.core.owners import Owner, check_report
from controller.core.packet_reports import PacketReports
from controller.core.protocols import Protocol
from controller.core.reasons import Reason
from controller.core.registrations import Registrations
from controller.core.router import Router, Timing
from controller.core.routers import Routers
from controller.core.snapshots import Snapshot, Snapshots
from controller.core.switches import Switches
from controller.core.tunnels import EndpointName, FlowTunnels
from controller.core.updates import BINDINGS_AT_ONCE, Updates
from controller.core.urgency import MOST_EVENTS, Urgency
from hoaflow.addresses import Prefix, host
from hoaflow.deadlines import earliest


class Offload:
    """The whole of the controller's logic in one object: bindings, home agents, routers, and the rules between them."""

    def __init__(
        self,
        timing: Timing,
        classify_miss: tuple[Action, ...] | None,
        first_revision: int,
        install: Install = Install.EVERYTHING,
    ) -> None:
        """Start without any; ``install``: which bindings' flows a router has unless its agent says."""
        self.registrations = Registrations(first_revision, timing.acknowledge_within, timing.changes_a_second)
        self.bindings = self.registrations.bindings
        self.withheld = self.registrations.withheld  # left to their home agents: nothing is installed for them
        self.covered = self.registrations.covered  # another protocol's binding of the same home address comes first
        self.home_agents = self.registrations.home_agents
        self.routers = Routers(self.registrations, timing, classify_miss, install)
        self._timing = timing
        self._events: list[Event] = []
        self.connections = Connections(self.routers, self._events)
        self._updates = Updates(self.registrations, self.routers, self._events)
        self.history = self._updates.history  # the last updates of each home address
        self.activations = self._updates.activations
        self.packet_reports = PacketReports(self.bindings, self.activations, self._events, self.review)
        self.states = BindingStates(self.registrations, self.routers)
        self.activation_events = ActivationEvents(self.bindings, self.states, self.activations, self._events)
        self._snapshots = Snapshots(self._updates, self._synced)
        shared = self.activations, self.activation_events, self.packet_reports, self._events
        self.switches = Switches(self.registrations, self.routers, *shared, self.review)

    # From the bridges.

    def announce(
        self,
        address: bytes,
        home_prefixes: tuple[Prefix, ...],
        lease: int,
        status: Status,
        now: float,
        last_change: int | None = None,
        protocols: Collection[Protocol] = (Protocol.MIPV6,),
        group: str | None = None,
        owner: Owner | None = None,
    ) -> tuple[HomeAgent, Change]:
        """Announce a home agent or renew its bridge's lease of ``lease`` seconds. Idempotent.

        ``last_change``: the number of the last change that the bridge has seen, None if it gives none. ``protocols``:
        those of its bindings. ``group``: with whom it may share home prefixes. ``owner``: which pod the bridge follows,
        with ``last_change``, without which nothing would tell when the new owner's bindings are known. Returns the home
        agent, and what has changed. Raises Refused for addresses that can't be a home agent's, PrefixesOverlap for
        another's home prefix, AnotherOwner when a newer owner has been announced.
        """
        check_home_agent(address, home_prefixes)
        if owner is not None and last_change is None:
            raise Refused("last_change", "expected the number of the last change with `owner`, got none")
        before = self.home_agents.get(address)
        moved = before is None or (before.home_prefixes, before.group) != (home_prefixes, group)
        replaced = self.home_agents.overlapping(address, home_prefixes, group) if moved else []
        home_agent, change = self.home_agents.announce(
            address, home_prefixes, lease, status, now, last_change, frozenset(protocols), group, owner
        )
        for each in replaced:
            self._forget(each, now)
        if change is Change.ADDED or before is None or before.status is not status:
            self._event("home-agent-announced", home_agent=address, status=status.value, lease=lease)
        if owner is not None and (before is None or before.owner != owner):
            self._event("home-agent-owned", home_agent=address, owner=owner.name, revision=owner.revision)
        if before is not None and before.home_prefixes != home_prefixes:
            held = self.registrations.of_home_agent(address)
            self._updates.schedule_removal(
                (each for each in held if not home_agent.covers(each.home_address)), "prefix-gone"
            )
        if before is not None and before.protocols != home_agent.protocols:
            held = self.registrations.of_home_agent(address)
            self._updates.schedule_removal(
                (each for each in held if each.protocol not in home_agent.protocols), "protocol-gone"
            )
        if before is None:
            # What is tunnelled to a home agent, and its signalling, never goes into anybody's tunnel; nor is a home
            # agent a mobile node's care-of address.
            self._updates.schedule_removal(list(self.bindings.all_covering(host(address))), "home-agent-address")
            self._updates.schedule_removal(self.bindings.bound_to(address), "home-agent-address")
        self._review(now, None if replaced else [home_agent])
        return home_agent, change

    def report(self, binding: Binding, now: float, urgency: Urgency = Urgency.URGENT, ordered: bool = True) -> Change:
        """Apply a bridge's report of one binding. Idempotent.

        ``ordered``: whether it has a number of its own. Otherwise it is an update of the binding held, whose number it
        keeps, so that what is older than that stays older.

        Raises StaleUpdate for an update older than the binding held, or just removed: nothing changes. Raises Refused
        for a value that can't be taken: the home agent's binding for the home address is withdrawn then, as the home
        agent has accepted the update.
        """
        change = self._updates.refresh(binding, "post", now, ordered)
        if change is not None:
            self._snapshots.note_update(binding)
            return change
        gone = is_deregistration(binding)
        try:
            if ordered:
                self._updates.check_order(binding, gone, now)
            self._updates.check(binding, gone)
        except StaleUpdate as stale:
            self._updates.record_refusal(binding, f"stale-{stale.field}", "post", now)
            raise
        except Refused as refused:
            if self._updates.refuse(binding, str(refused), "post", now, urgency):
                self._snapshots.note_removal(binding, binding.number)
            raise
        if not gone:
            self._snapshots.note_update(binding)
            return self._updates.put(binding, "post", now, urgency)
        held = self.registrations.at(binding.key)
        if held is not None and held.home_agent != binding.home_agent:
            self._updates.recheck_path(self.registrations.refused.remove(binding))
            return Change.UNCHANGED  # another anchor of its group has it now
        self._snapshots.note_removal(binding, binding.number)
        self._updates.remember_number(binding, held, now)
        self._updates.recheck_path(self.registrations.refused.remove(binding))
        if held is not None:
            self._updates.drop(held, now, "deregistered", "post", urgency, binding)
        return Change.REMOVED if held is not None else Change.UNCHANGED

    def report_entry(self, bindings: Sequence[Binding], now: float, urgency: Urgency = Urgency.URGENT) -> list[Change]:
        """Apply a bridge's report of one entry with several prefixes (RFC 5213 section 5.1): all or none of them.

        Raises StaleUpdate if one is older than the binding held: nothing changes. Raises Refused for a value of one
        that can't be taken: the home agent's bindings for all of them are withdrawn then.
        """
        for binding in bindings:
            self._updates.check_order(binding, is_deregistration(binding), now)
        try:
            return [self.report(binding, now, urgency) for binding in bindings]
        except Refused as refused:
            for binding in bindings:
                if self._updates.refuse(binding, f"with others of its entry: {refused}", "post", now, urgency):
                    self._snapshots.note_removal(binding, binding.number)
            raise

    def snapshot(self, home_agent: bytes, now: float) -> AbstractContextManager[Snapshot]:
        """Begin to take in a bridge's whole binding cache, slice by slice.

        Raises NotAnnounced when entered.
        """
        return self._snapshots.begin(home_agent, now)

    def check_owner(self, home_agent: bytes, owner: Owner | None) -> None:
        """Raise AnotherOwner if reports are of another owner than the one announced; None: they name none."""
        if (agent := self.home_agents.get(home_agent)) is not None:
            check_report(home_agent, agent.owner, owner)

    def reported(
        self, home_agent: bytes, last_change: int, whole: bool, now: float, owner: Owner | None = None
    ) -> None:
        """Record that a bridge has reported everything up to a change of its home agent, ``whole``: by a snapshot.

        Raises AnotherOwner (see ``check_owner``).
        """
        self.check_owner(home_agent, owner)
        if (agent := self.home_agents.report(home_agent, last_change, whole)) is not None:
            self._review(now, [agent])

    def updated(self, changes: int) -> None:
        """Record that a batch of reports with so many changes was applied."""
        if changes > MOST_EVENTS:
            self._event("bindings-updated", source="batch", changes=changes)

    def remove(self, home_address: Prefix, now: float) -> bool:
        """Remove the bindings of a home address for an operator; tell whether there was one.

        The next snapshot brings them back if their home agents still hold them.
        """
        held = self.registrations.all_at(home_address)
        for each in reversed(held):  # what is covered first, or it would take the other's place
            self._snapshots.note_removal(each)
            self._updates.drop(each, now, "deleted", "delete")
        return bool(held)

    # From the tunnel agents.

    def acknowledge(
        self,
        dpid: int,
        revision: int,
        endpoints: dict[bytes, EndpointName],
        flow: FlowTunnels,
        failures: dict[Prefix, str],
        now: float,
        macs: tuple[str, ...] | None = None,
        install: Install | None = None,
    ) -> Change:
        """Take in which backend and MAC addresses a router has, and which tunnels its kernel has.

        ``install``: which bindings' flows it is to have, None if the agent does not say. Returns what has changed of
        that, the revision aside. Failures of home addresses without a binding are ignored, as that has gone by now. Of
        many new ones only the first have events.
        """
        failures = {address: reason for address, reason in failures.items() if self.bindings.get(address) is not None}
        router = self.routers.get_or_add(dpid, now)
        former, announced = router.tunnels.failures, router.tunnels.announced
        was_alive = router.tunnels.agent_alive(now)
        router.renew_agent_lease(now)
        self.packet_reports.announce(router, install)
        applied = router.acknowledge(revision, endpoints, flow, macs, failures, now)
        moved = announced != router.tunnels.announced
        if moved:
            self.activations.recheck_all()
        else:
            self.activations.recheck(applied)
        if was_alive and any(announced) and moved:
            self._event("agent-changed", router=f"{dpid:016x}")
        news = ((address, reason) for address, reason in failures.items() if former.get(address) != reason)
        for home_address, reason in islice(news, MOST_EVENTS):
            self._event("tunnel-failed", home_address=home_address, router=f"{dpid:016x}", reason=reason)
        self.review(router, now)
        if not was_alive:
            return Change.ADDED
        return Change.CHANGED if moved or former != failures else Change.REFRESHED

    def renew_agent_lease(self, dpid: int, now: float) -> Router:
        """Record a sign of life of a tunnel agent, and return its router. Raises UnknownRouter."""
        router = self.router(dpid)
        was_alive = router.tunnels.agent_alive(now)
        router.renew_agent_lease(now)
        if not was_alive:
            self.review(router, now)
        return router

    def router(self, dpid: int) -> Router:
        """Return a router. Raises UnknownRouter."""
        return self.routers.known(dpid)

    # From the operator.

    def drain(self, dpid: int, draining: bool, now: float) -> Router:
        """Take a router out of service, so that its traffic returns to the home agents, or put it back. Idempotent.

        Raises UnknownRouter.
        """
        router = self.router(dpid)
        if router.gates.drain(draining, now):
            self._event("router-drained" if draining else "router-undrained", router=f"{dpid:016x}")
            router.flows.recheck_adopted()
            self.review(router, now)
        return router

    def review(self, router: Router, now: float, home_agents: Iterable[HomeAgent] | None = None) -> None:
        """Review a router's gates, after anything that may open or close one.

        ``home_agents``: those whose gates may be concerned, None for all.
        """
        if router.review(now, home_agents):
            self.activations.recheck_all()

    # From the clock.

    def tick(self, now: float) -> None:
        """End lifetimes, leases and waits that are over. What is too much for one call is left for the next."""
        self._updates.tick(now)
        lapsed = [each for each in self.home_agents if each.synced and not each.lease_holds(now)]
        for home_agent in lapsed:
            home_agent.synced = False
            self._event("lease-lapsed", home_agent=home_agent.address)
            held = self.registrations.of_home_agent(home_agent.address)
            ended = (each for each in held if each.expires_at is None or each.withheld is not None)
            self._updates.schedule_removal(ended, "lease-lapsed")
        for router in self.routers.take_due(now):
            if self.routers.is_lost(router, now):
                self.routers.forget(router)
                self._event("router-forgotten", router=f"{router.dpid:016x}")
            elif (due := router.next_deadline()) is not None and due <= now:
                if router.tick(now):
                    self._event("agent-lost", router=f"{router.dpid:016x}")
                self.review(router, now)
        if self._forget_lost(now):
            self._review(now)
        elif lapsed:
            self._review(now, lapsed)
        for home_address in self.activations.take_rechecks(BINDINGS_AT_ONCE):
            self.activation_events.check(home_address, now, None)

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has to be called next: in the past if overdue, None for not at all."""
        if self.activations.has_rechecks:
            return -math.inf
        moments = self._updates.next_deadline(), self.home_agents.next_lapse(), self._next_forgetting()
        return earliest(*moments, self.routers.next_due())

    # What is.

    def take_events(self) -> list[Event]:
        """Take off and return the events since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def binding(self, home_address: Prefix) -> Binding | None:
        """Return the binding of a home address, whether it is to be offloaded or withheld."""
        return self.registrations.get(home_address)

    def is_covered(self, binding: Binding) -> bool:
        """Tell whether another protocol's binding of the same home address takes the packets."""
        return self.registrations.is_covered(binding)

    def why_suppressed(self, home_address: Prefix) -> Reason | None:
        """Say that a home address changes too often to be followed; None if it does not."""
        return self.registrations.why_suppressed(home_address)

    # How.

    def _synced(self, home_agent: HomeAgent, bindings: int, now: float) -> None:
        """Let a home agent's bindings be offloaded: the first snapshot under its lease has been taken in."""
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
        return earliest(*lost)

    def _forget_lost(self, now: float) -> bool:
        """Forget home agents without bridge and bindings after a while; tell whether there were any."""
        lost = [each for each in self._without_bindings() if each.lease_ends + self._timing.forget_after <= now]
        for agent in lost:
            self._forget(agent, now)
        return bool(lost)

    def _without_bindings(self) -> list[HomeAgent]:
        return [agent for agent in self.home_agents if not self.bindings.count(agent.address)]

    def _review(self, now: float, home_agents: Collection[HomeAgent] | None = None) -> None:
        for router in self.routers.values():
            self.review(router, now, home_agents)

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
