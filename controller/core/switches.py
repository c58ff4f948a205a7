# SPDX-License-Identifier: Apache-2.0
"""Take in what switches say of their flows and ports, and work out what they are to be sent."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Protocol

from controller.core.activation import Activations
from controller.core.activation_events import ActivationEvents
from controller.core.batches import Batch
from controller.core.events import Event
from controller.core.first_reading import FirstReading
from controller.core.flow_reading import FlowReading
from controller.core.flows import FlowKey, Kind
from controller.core.full_tables import NO_ROOM
from controller.core.home_agents import HomeAgent
from controller.core.packet_reports import PacketReports
from controller.core.registrations import Registrations
from controller.core.router import Router
from controller.core.routers import Routers
from controller.core.traffic import Counters
from hoaflow.addresses import Prefix


class Review(Protocol):
    """Reviews a router's gates, after anything that may open or close one (`Offload.review`)."""

    def __call__(self, router: Router, now: float, home_agents: Iterable[HomeAgent] | None = None) -> None:
        """Review the gates of some home agents, None for those of all."""


class Switches:
    """Every switch's side of the exchange: its flows and ports, the next changes for it, and its answers to these."""

    def __init__(
        self,
        registrations: Registrations,
        routers: Routers,
        activations: Activations,
        activation_events: ActivationEvents,
        packet_reports: PacketReports,
        events: list[Event],
        review: Review,
    ) -> None:
        self._bindings = registrations.bindings
        self._home_agents = registrations.home_agents
        self._routers = routers
        self._activations = activations
        self._activation_events = activation_events
        self._packet_reports = packet_reports
        self._events = events
        self._review = review

    def begin_reading(self, dpid: int, now: float) -> FirstReading | FlowReading:
        """Begin to read a switch's flows, which the caller adds; ``connect`` follows."""
        return self._routers.get_or_add(dpid, now).flows.begin_reading()

    def connect(self, dpid: int, ports: Mapping[str, int], now: float) -> Router:
        """Record that a switch is connected, has these ports, and that its flows have been read, or read again."""
        router = self._routers.get_or_add(dpid, now)
        news = not router.switch.connected
        router.connect(ports, now)
        self._review(router, now)
        if news:
            self._event("router-connected", router=f"{dpid:016x}")
        return router

    def set_ports(self, dpid: int, ports: Mapping[str, int], now: float) -> None:
        """Take in a switch's ports (numbers by name), which have changed."""
        router = self._routers.known(dpid)
        router.set_ports(ports, now)
        self._review(router, now)

    def next_batch(self, router: Router, urgent: bool, now: float, limit: int) -> Batch | None:
        """Return the next changes for a switch (see ``Reconciliation.next_batch``), None if there are none now."""
        flows = router.flows
        batch = flows.next_urgent_batch(now, limit) if urgent else flows.next_batch(now, limit)
        self._activation_events.check_all(flows.take_unchanged(), now, None)  # one may be back where it was active
        if batch is None:
            self._review(router, now, router.gates.renewable())
        return batch

    def confirm(self, router: Router, batch: Batch, now: float, sent: float | None = None) -> None:
        """Record that a switch has carried out a batch; ``sent``: when it was sent, None if that is not known."""
        repaired = router.flows.confirm(batch, now)
        if repaired:
            router.messages.repaired += repaired
            self._event("drift-repaired", router=f"{router.dpid:016x}", flows=repaired)
        self._answered(router, batch, now, sent)

    def refuse(
        self,
        router: Router,
        batch: Batch,
        reasons: Mapping[int, str],
        rest_done: bool,
        now: float,
        unsent: Collection[int] = (),
    ) -> None:
        """Record that a switch has refused changes of a batch (see ``Reconciliation.refuse``)."""
        router.flows.refuse(batch, reasons, rest_done, now, unsent)
        changes = batch.changes
        for position, reason in reasons.items():
            change = changes[position]
            if change.add and change.flow.kind is Kind.PACKET_IN and reason != NO_ROOM:
                self._packet_reports.refuse(router, reason, now)
        router.messages.refused += len(reasons)
        for position, reason in reasons.items():
            flow = changes[position].flow
            self._activations.mark_incomplete(router.served_by(flow, now))
            self._event("flow-rejected", router=f"{router.dpid:016x}", flow=flow, serves=flow.serves, reason=reason)
        self._answered(router, batch, now, None)

    def flow_removed(self, router: Router, key: FlowKey, counted: Counters, now: float, evicted: bool = False) -> None:
        """Record that a flow is gone, and what it had counted; ``evicted``: for want of room."""
        self._activations.mark_incomplete(router.flow_removed(key, counted, evicted, now))
        if router.flows.requires(key):
            self._review(router, now)

    def _answered(self, router: Router, batch: Batch, now: float, sent: float | None) -> None:
        """Follow up a switch's answer: open gates, and notice bindings that are active, or no longer."""
        for table, has_room in router.flows.take_room_changes():
            self._event("table-has-room" if has_room else "table-full", router=f"{router.dpid:016x}", table=table)
        gone: list[Prefix | None] = []
        served: set[Prefix | None] = set()
        for change in batch.single:
            kind = change.flow.shape.kind
            if kind is Kind.GUARD or kind is Kind.GATE:
                served.add(change.flow.serves)
            elif kind is Kind.DOWNLINK and not change.add and change.flow.key not in router.flows.installed:
                gone.append(change.flow.serves)
        for step in batch.steps:
            if step.unit is None and step.former is not None and step.former.downlink_key not in router.flows.installed:
                gone.append(step.former.home_address)
        self._activations.mark_incomplete(
            held.home_address
            for each in (*batch.withdrawn, *gone)
            if each is not None and (held := self._bindings.get(each)) and router.prepared_for(held.home_agent)
        )
        self._review(router, now, router.gates.renewable())
        if served:
            owners = [[] if each is None else self._home_agents.owners(each) for each in served]
            concerned = {owner.address: owner for each in owners for owner in each}
            # A guard that serves nobody in particular is needed by all.
            self._review(router, now, None if [] in owners else concerned.values())
        self._activation_events.check_all(chain(batch.subjects, self._joined(batch)), now, sent)

    def _joined(self, batch: Batch) -> Iterator[FlowKey]:
        """Iterate over a batch's uplink flows of one home address that others have come to share since it was made."""
        for step in batch.steps:
            unit = step.unit
            if unit is None or not unit.sole or (uplink := unit.uplink_key) is None:
                continue
            if len(self._bindings.behind(unit.care_of_address)) > 1:
                yield uplink

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
