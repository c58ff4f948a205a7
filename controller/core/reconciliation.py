# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed flows of one router; the difference is what is sent.

Posting, deleting, handover, reconnect, restart and drift repair all come down to this one structure. What is installed
is remembered; what is desired is asked for, as a binding's flows follow from the binding. Input says what is to be
looked at, ``take`` turns that into messages, batch by batch, and ``confirm`` and ``refuse`` record what the switch made
of them. What failed is tried again, later each time.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from controller.core.addresses import Prefix
from controller.core.agenda import Agenda
from controller.core.batches import Batch, Batches, FlowChange, UnderWay
from controller.core.flow_sets import keeps_safe
from controller.core.flows import Flow, FlowKey, Kind
from controller.core.installed import Entry, InstalledFlows, Reading
from controller.core.queues import LookQueue, Subject
from controller.core.rejections import Rejections
from controller.core.timeouts import Span, gate_renewal, renewal, span_until

# Flows of an earlier life that may not be deleted yet are looked at again after this many seconds.
ADOPTED_REVIEW = 5.0
# How many subjects `take` looks at for one batch, most of which may need nothing: others wait meanwhile.
LOOKED_AT_ONCE = 300


class Demand(Protocol):
    """Which flows there should be for bindings."""

    def home_addresses(self) -> list[Prefix]:
        """Return all home addresses that may have flows."""

    def shared_keys(self) -> list[FlowKey]:
        """Return the keys of all flows that home addresses share."""

    def flows_of(self, home_address: Prefix, now: float) -> Sequence[tuple[Flow, float | None]]:
        """Return the flows of a home address and their ends, but for those that it shares with others."""

    def flow_at(self, key: FlowKey, now: float) -> Entry | None:
        """Return the flow with this key, whosever it is."""

    def all_flows(self, now: float) -> Iterator[Entry]:
        """Iterate over the flows of all home addresses."""

    def may_delete(self, key: FlowKey, now: float) -> bool:
        """Decide on a flow of an earlier life that nobody desires."""


class Reconciliation:
    """The flows that a router should have, those it has, and what is to be done about the difference."""

    def __init__(self, demand: Demand) -> None:
        self.installed = InstalledFlows()
        self.rejections = Rejections()
        self._demand = demand
        # Desired for no binding in particular: a few.
        self._wanted: dict[FlowKey, Entry] = {}
        # Whether the switch's flows have been read, and the keys under which it then had something else than believed.
        self._known = False
        self._drifted: set[FlowKey] = set()
        self._urgent = LookQueue()
        self._bulk = LookQueue()
        self._to_sweep: list[FlowKey] = []  # flows of an earlier life that are due for a look
        self._sweep_at: float | None = None
        self._opening: set[FlowKey] = set()  # gates that are to open
        self._kept: set[FlowKey] = set()  # guards that nobody desires any more, but that gates still need
        self._in_flight: dict[Subject, UnderWay] = {}
        self._batches = Batches()
        self._later: Agenda[Subject] = Agenda()
        self._reading: Reading | None = None

    # What should be.

    def want(self, flow: Flow, expires_at: float | None = None) -> None:
        """Desire a flow that is there for no binding in particular, until ``expires_at``. Idempotent."""
        key, entry = flow.key, Entry(flow, expires_at)
        held = self._wanted.get(key)
        if held == entry:
            return
        self._wanted[key] = entry
        if held is None or held.flow != flow:
            self.rejections.remove(key)
        self.touch(key)

    def unwant(self, key: FlowKey) -> None:
        """Take back what ``want`` said. Idempotent."""
        if self._wanted.pop(key, None) is not None:
            self.rejections.remove(key)
            self.touch(key)

    def desired(self, now: float) -> Iterator[Entry]:
        """Iterate over all flows that there should be."""
        yield from list(self._wanted.values())
        yield from self._demand.all_flows(now)

    def is_active(self, key: FlowKey, now: float) -> bool:
        """Tell whether the flow that was wanted with this key stands."""
        wanted = self._wanted.get(key)
        return wanted is not None and self.installed.has(wanted.flow, now)

    def touch(self, subject: Subject, leaving: tuple[FlowKey, ...] = (), urgent: bool = True) -> None:
        """Have a home address, or one key, looked at with the next batches, and with it the keys in ``leaving``, of
        which it may have no use any more. What is not urgent goes after all that is."""
        if not self._known:
            return  # everything will be looked at
        under_way = self._in_flight.get(subject)
        if under_way is not None:
            under_way.touch(key for key in leaving if key in under_way.keys or self._is_known(key))
            return
        if leaving:
            leaving = tuple(key for key in leaving if self._is_known(key))
            for key in leaving:
                self.rejections.remove(key)  # another flow deserves another try at once
        if urgent or subject in self._urgent:
            self._urgent.add(subject, leaving + self._bulk.take_out(subject))
        else:
            self._bulk.add(subject, leaving)

    def _is_known(self, key: FlowKey) -> bool:
        """Tell whether the switch has or may get a flow with a key that is left, or has refused it: only then is there
        something to look at. What came and went while the switch was busy leaves no trace."""
        return key in self.installed or key in self._in_flight or self.rejections.get(key) is not None

    # What is.

    def begin_reading(self) -> Reading:
        """The switch is about to be asked for its flows, which the caller adds part by part. ``end_reading`` follows,
        unless the switch goes away."""
        if not self._known:
            self.forget_installed()
        self._reading = Reading(self.installed, first=not self._known)
        return self._reading

    def end_reading(self, now: float) -> None:
        """All has been read: take it in place of what was believed, and put right what is not as it was left.

        A flow of ours with the key of another application's would replace that, so it is never sent.
        """
        reading, self._reading = self._reading, None
        if reading is None:
            raise ValueError("begin_reading has to come before")
        reading.pass_by(self._batches.keys())
        changed, drifted = reading.end(now)
        if not self._known:
            self._known = True
            self.recheck()
            return
        self._drifted.update(drifted)
        for key in changed:
            self.installed.adopt(key)
            self.touch(key, urgent=False)

    def forget_installed(self) -> None:
        """Know nothing of the switch any more: it went away."""
        self._known = False
        self._reading = None
        self._sweep_at = None
        for memory in (self.installed, self.rejections, self._urgent, self._bulk, self._later, self._batches):
            memory.clear()
        for things in (self._to_sweep, self._opening, self._kept, self._in_flight, self._drifted):
            things.clear()

    def recheck(self) -> None:
        """Look at everything again: what stands, and what bindings' flows do now."""
        if not self._known:
            return
        self.installed.adopt_all()
        for key in self._wanted:
            self.touch(key)
        for subject in self._in_flight:
            self.touch(subject)
        self._bulk.add_all(self._demand.home_addresses())
        self._bulk.add_all(self._demand.shared_keys())
        self.recheck_adopted()

    def recheck_adopted(self) -> None:
        """Look again at the flows of an earlier life: deleting them may have become allowed."""
        self._to_sweep = self.installed.adopted()

    def removed(self, key: FlowKey, now: float) -> Entry | None:
        """Record that the switch says a flow is gone. If it is desired, it is sent anew, and returned."""
        if self._reading is not None:
            self._reading.pass_by((key,))
        desired = self._desired_at(key, now) if self.installed.remove(key) else None
        if desired is not None:
            self.touch(key)
        return desired

    @property
    def count(self) -> int:
        """How many flows of ours the switch is known to have."""
        return len(self.installed)

    # The difference.

    def take_urgent(self, now: float, limit: int) -> Batch | None:
        """Return the next changes to be sent at once (see ``take``)."""
        batch = self._batches.new()
        self._look_through(self._urgent, now, limit, batch)
        return self._batches.start(batch)

    def take(self, now: float, limit: int) -> Batch | None:
        """Return the next changes to be sent, but for urgent ones: about ``limit``; None if there are none now.

        Every batch has to come back through ``confirm`` or ``refuse``, unless the switch goes away
        (``forget_installed``). Of one subject one change at a time is under way: what comes meanwhile waits, and only
        the newest of it is ever sent. A call looks at so many things only: as long as ``dirty``, call again.
        """
        batch = self._batches.new()
        for subject in self._later.due(now, LOOKED_AT_ONCE):
            self.touch(subject, urgent=False)
        self._look_through(self._bulk, now, limit, batch)
        if not self._urgent and not self._bulk:
            self._sweep(now, limit, batch)
            if not batch.changes and self._may_open:
                self._open(now, batch)
        return self._batches.start(batch)

    def next_due(self) -> float | None:
        """Return the next moment at which ``take`` may have something although nothing new came in."""
        moments = (self._later.next(), self._sweep_at)
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def has_urgent(self) -> bool:
        """Tell whether ``take_urgent`` has anything to look at."""
        return bool(self._urgent)

    @property
    def has_bulk(self) -> bool:
        """Tell whether ``take`` has anything to look at."""
        return bool(self._bulk or (self._to_sweep and not self._urgent)) or self._may_open

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything to look at."""
        return bool(self._urgent or self._bulk or self._to_sweep) or self._may_open

    @property
    def settled(self) -> bool:
        """Tell whether the switch has confirmed all that there is to do, or refused it."""
        return not (self.dirty or self._in_flight)

    def is_opening(self, gate: FlowKey) -> bool:
        """Tell whether a gate waits for everything else to be done."""
        return gate in self._opening

    def confirm(self, batch: Batch, now: float) -> int:
        """Record that the switch carried a batch out. Returns how many changes repaired what somebody else had done."""
        drifted = len(self._drifted)
        for change in batch.changes:
            self._carry_out(change, now)
        self._land(batch)
        return drifted - len(self._drifted)

    def refuse(self, batch: Batch, reasons: Mapping[int, str], rest_done: bool, now: float) -> None:
        """Record that the switch refused changes of a batch: ``reasons`` by their position. They stay undone and are
        tried again, later each time. ``rest_done`` tells whether it carried out the others."""
        for position, change in enumerate(batch.changes):
            if position in reasons:
                rejection = self.rejections.put(change.flow.key, reasons[position], now)
                self._later.plan(change.flow.key, rejection.retry_at)
            elif rest_done:
                self._carry_out(change, now)
        self._land(batch)
        if not rest_done:
            for change in batch.changes:
                self.touch(change.flow.key)

    # How.

    def _look_through(self, queue: LookQueue, now: float, limit: int, batch: Batch) -> None:
        looks = LOOKED_AT_ONCE
        while queue and looks and len(batch.changes) < limit:
            looks -= 1
            self._look(*queue.pop(), now, batch)

    def _look(self, subject: Subject, leaving: tuple[FlowKey, ...], now: float, batch: Batch) -> None:
        """Add to a batch what is to be done about a subject, and plan when to look at it again."""
        if subject in self._in_flight:
            self._in_flight[subject].touch(leaving)
            return
        before = len(batch.changes)
        if isinstance(subject, Prefix):
            entries, span = self._demand.flows_of(subject, now), None
            for flow, ends in entries:
                if span is None or span.ends is not ends:
                    span = span_until(ends, now)
                self._bring(flow, span, subject, now, batch)
            staying = {flow.key for flow, _ in entries} if leaving else ()
            for key in leaving:
                if key not in staying:
                    self._look(key, (), now, batch)  # by itself, as it may be somebody else's as well
        else:
            self._settle(subject, now, batch)
        if len(batch.changes) > before:
            self._in_flight[subject] = UnderWay([change.flow.key for change in batch.changes[before:]])
            batch.subjects.append(subject)

    def _settle(self, key: FlowKey, now: float, batch: Batch) -> None:
        """Bring what stands under one key in line with what should."""
        desired = self._desired_at(key, now)
        if desired is not None:
            self._bring(desired.flow, span_until(desired.expires_at, now), key, now, batch)
            return
        held = self.installed.get(key)
        if held is None:
            return
        if held.shape.kind is Kind.GUARD and self._is_needed(key, now):
            return
        if self.installed.is_adopted(key) and not self._demand.may_delete(key, now):
            self._sweep_at = now + ADOPTED_REVIEW
        elif not self.rejections.forbids(key, now):
            batch.changes.append(FlowChange(held.flow(key), add=False))

    def _is_needed(self, guard: FlowKey, now: float) -> bool:
        """Tell whether a gate stands that needs a guard, which is then looked at again when that gate is gone."""
        gates = [gate for gate in self.installed.gates(now) if keeps_safe(guard, gate)]
        self._kept.discard(guard)
        if gates:
            self._kept.add(guard)
            ends = max(self.installed.ends(gate, now) for gate in gates)
            if ends < math.inf:
                self._later.plan(guard, ends)
        return bool(gates)

    def _bring(self, flow: Flow, span: Span, subject: Subject, now: float, batch: Batch) -> None:
        """Have a desired flow stand for a span of time, and plan when to look at its subject again."""
        key = flow.key
        self.installed.claim(key)
        if self.installed.is_foreign(key):
            return
        held = self.installed.standing(key, now)
        if self.rejections.forbids(key, now):
            if held is not None and not held.does(flow):
                # Better none than one that leads to where the mobile node is not any more.
                batch.changes.append(FlowChange(held.flow(key), add=False))
            return
        if span.ends is not None and span.timeout < 1:
            return  # ends before a switch could count it; whoever desired it ends it, too
        if flow.kind is Kind.GATE and held is None:
            self._opening.add(key)
            return
        if held is not None and held.does(flow):
            renew = gate_renewal if flow.kind is Kind.GATE else renewal
            due, again = renew(span.ends, held.expires_at, now)
            if not due:
                if again is not None:
                    self._later.plan(subject, again)
                return
        batch.changes.append(FlowChange(flow, True, span.expires_at, span.timeout))
        if span.expires_at is not None:
            self._later.plan(subject, (now + span.expires_at) / 2)

    def _sweep(self, now: float, limit: int, batch: Batch) -> None:
        """Look at flows of an earlier life."""
        if self._sweep_at is not None and self._sweep_at <= now:
            self._sweep_at = None
            self.recheck_adopted()
        looks = LOOKED_AT_ONCE
        while self._to_sweep and looks and len(batch.changes) < limit:
            looks -= 1
            key = self._to_sweep.pop()
            if self.installed.is_adopted(key):
                self._look(key, (), now, batch)

    @property
    def _may_open(self) -> bool:
        """Gates open last: when all else is done and confirmed, so that none leads to what is out of date."""
        return bool(self._opening) and not (self._in_flight or self._urgent or self._bulk or self._to_sweep)

    def _open(self, now: float, batch: Batch) -> None:
        for key in self._opening:
            gate = self._wanted.get(key)
            span = span_until(gate.expires_at, now) if gate else None
            if gate and span and (span.ends is None or span.timeout >= 1):
                batch.changes.append(FlowChange(gate.flow, True, span.expires_at, span.timeout))
                batch.subjects.append(key)
                self._in_flight[key] = UnderWay([key])
        self._opening.clear()

    def _desired_at(self, key: FlowKey, now: float) -> Entry | None:
        return self._wanted.get(key) or self._demand.flow_at(key, now)

    def _carry_out(self, change: FlowChange, now: float) -> None:
        key = change.flow.key
        if self._reading is not None:
            self._reading.pass_by((key,))
        # What was deleted because its replacement was refused, is still refused.
        if self.rejections.get(key) is not None and (change.add or self._desired_at(key, now) is None):
            self.rejections.remove(key)
        if self._drifted:
            self._drifted.discard(key)
        if change.add:
            self.installed.put(change.flow, change.expires_at)
        else:
            self.installed.remove(key)
            if change.flow.kind is Kind.GATE:
                for guard in self._kept:
                    self.touch(guard)

    def _land(self, batch: Batch) -> None:
        """Those that somebody touched while they were under way are looked at again."""
        self._batches.land(batch)
        for subject in batch.subjects:
            under_way = self._in_flight.pop(subject)
            if under_way.touched:
                self.touch(subject, tuple(under_way.leaving))
