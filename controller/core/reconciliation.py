# SPDX-License-Identifier: Apache-2.0
"""Compare desired and installed flows of one router, and send the difference.

Reports, removals, handovers, reconnects, restarts and drift repair all come down to this one structure. Installed flows
are remembered; desired ones are asked for, as they follow from bindings. Input queues what may differ, ``next_batch``
makes changes of that, and ``confirm`` and ``refuse`` record the switch's answers. What has failed is tried again, later
each time. `SubjectReconciler` compares one subject at a time.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from functools import partial

from controller.core.batches import Batch, Batches
from controller.core.first_reading import FirstReading
from controller.core.flow_changes import FlowChange
from controller.core.flow_keys import uplink_source
from controller.core.flow_reading import FlowReading
from controller.core.flow_transitions import Transition
from controller.core.flow_units import DesiredModel, FlowUnit
from controller.core.flows import Flow, FlowKey, table_of
from controller.core.full_tables import NO_ROOM, RoomChange
from controller.core.installed import FlowEntry
from controller.core.refused_flows import EVICTED
from controller.core.subject_queue import Subject, SubjectQueue
from controller.core.subject_reconciler import NOTHING_PENDING, Attempt, SubjectReconciler
from controller.core.switch_state import SwitchState
from controller.core.switch_work import SWEEP
from controller.core.timeouts import span_until
from controller.core.urgency import Urgency
from controller.core.withdrawals import Withdrawals
from hoaflow.addresses import Prefix
from hoaflow.deadlines import earliest

# How many subjects are compared for one batch, while others wait; most may need nothing.
SUBJECTS_AT_ONCE = 300


class Reconciliation:
    """A router's desired flows, its installed ones, and the difference between them."""

    def __init__(self, desired: DesiredModel, switch: SwitchState) -> None:
        self.installed = switch.installed
        self.refused = switch.refused
        self._switch = switch
        self._required = switch.required
        self._work = switch.work
        self._desired = desired
        # Whether the switch's flows have been read, and the keys whose flows turned out to be changed by somebody else.
        self._known = False
        self._drifted: set[FlowKey] = set()
        self._reconciler = SubjectReconciler(desired, switch)
        self._to_sweep: list[FlowKey] = []  # adopted flows that are due to be compared
        self._lost: set[FlowKey] = set()  # flows that were gone before the switch had confirmed them
        self._room_changes: list[RoomChange] = []
        self._batches = Batches()
        self._first_reading: FirstReading | None = None
        self._reading: FlowReading | None = None  # each after that
        self.withdrawals = Withdrawals(self.installed, desired)

    # Desired.

    def require(self, flow: Flow, expires_at: float | None = None) -> None:
        """Require a flow of no binding in particular, until ``expires_at``. Idempotent."""
        key, entry = flow.key, FlowEntry(flow, expires_at)
        former = self._required.get(key)
        if former == entry:
            return
        self._required[key] = entry
        if former is None or former.flow != flow:
            self.refused.remove(key)
        self.queue(key)

    def release(self, key: FlowKey) -> None:
        """Require a flow no longer. Idempotent."""
        if self._required.pop(key, None) is not None:
            self.refused.remove(key)
            self._reconciler.opening.pop(key, None)
            self.queue(key)

    def requires(self, key: FlowKey) -> bool:
        """Tell whether a flow with a key is required, for no binding in particular."""
        return key in self._required

    def desired(self, now: float) -> Iterator[FlowEntry]:
        """Iterate over all desired flows."""
        yield from list(self._required.values())
        yield from (FlowEntry(flow, None) for flow in self._desired.all_flows(now))

    def is_active(self, key: FlowKey, now: float) -> bool:
        """Tell whether the required flow with a key is installed, and is not about to go."""
        return self._switch.is_active(key, now)

    def queue(
        self,
        subject: Subject,
        leaving: tuple[FlowKey, ...] = (),
        urgency: Urgency = Urgency.URGENT,
        home_agent: bytes | None = None,
        former: FlowUnit | None = None,
    ) -> None:
        """Queue a home address or a key, and with it what it may need no more.

        That are the flows with the keys in ``leaving``; all those of ``former``, if it stands whole.
        """
        if not self._known:  # what differs will be queued once the flows have been read
            if self._first_reading is not None:
                self._first_reading.changed(partial(self.queue, subject, leaving, urgency, home_agent, former))
            return
        if former is not None:
            self.withdrawals.add_unit(former)
            if self.refused:
                for flow in former.own():
                    self.refused.remove(flow.key)  # another flow deserves another try at once
            self._work.queue(subject, leaving, urgency, self._work.pending.now(home_agent))
            return
        if leaving:
            leaving = tuple(key for key in leaving if self._is_known(key))
        for key in leaving:
            self.withdrawals.add(key)
            if uplink_source(key) is None:  # not of an uplink flow, which others may share
                self.refused.remove(key)  # another flow deserves another try at once
        self._work.queue(subject, leaving, urgency, self._work.pending.now(home_agent))

    def _is_known(self, key: FlowKey) -> bool:
        """Tell whether there is anything to compare under a key: installed, under way, refused or waited for.

        A flow that was desired only while the switch was busy leaves no trace.
        """
        if key in self.installed or self._work.changes_of(key) is not None or self.is_barred(key):
            return True
        return self.refused.get(key) is not None

    # Installed.

    def begin_reading(self) -> FirstReading | FlowReading:
        """Begin to read the switch's flows, which the caller adds part by part.

        ``end_reading`` follows, unless the switch goes away.
        """
        if not self._known:
            self.forget_installed()
            self._first_reading = FirstReading(self.installed, self._desired)
            return self._first_reading
        self._reading = FlowReading(self.installed)
        return self._reading

    def end_reading(self, now: float) -> None:
        """Replace what was known by what was read, and queue the differences.

        A flow of ours with the key of another application's would replace that, so it is never sent.
        """
        first, reading = self._first_reading, self._reading
        self._first_reading = self._reading = None
        if first is not None:
            self._end_first(first, now)
            return
        if reading is None:
            raise ValueError("begin_reading has to come before")
        reading.pass_by(self._batches.keys())
        found = reading.end(now)
        self._drifted = {key for key in self._drifted if self._is_to_repair(key, now)}.union(found.drifted)
        for key in found.changed:
            self.installed.adopt(key)
            self.queue(key, urgency=Urgency.ROUTINE)
            if key not in self.installed:
                self._queue_orphaned(key)

    def _end_first(self, reading: FirstReading, now: float) -> None:
        """Queue what is not known to stand as desired."""
        left = reading.end(now)
        self._known = True
        if left is None:
            self.recheck()
        else:
            for key in self._required:
                self.queue(key)
            self._work.queue_all(left.different)
            self.recheck_adopted()
            for compare_again in left.changes:
                compare_again()
        for key, evicted in reading.removed.items():
            self.flow_removed(key, now, evicted)

    def _is_to_repair(self, key: FlowKey, now: float) -> bool:
        """Tell whether there is anything to repair under a key: a flow that is there, or one that is desired."""
        return key in self.installed or key in self._required or bool(self._desired.users(key, now))

    def forget_installed(self) -> None:
        """Forget what was known of the switch, as it went away."""
        self._known = False
        self._first_reading = self._reading = None
        for memory in (self._switch, self._reconciler, self._batches):
            memory.clear()
        for things in (self._to_sweep, self._lost, self._drifted, self.withdrawals):
            things.clear()

    def recheck(self) -> None:
        """Queue everything again, installed and desired."""
        if not self._known:
            if self._first_reading is not None:
                self._first_reading.all_changed()
            return
        self.installed.adopt_all()
        for subject in (*self._required, *self._work.subjects_under_way()):
            self.queue(subject)
        self._work.queue_all(self._desired.home_addresses())
        self.recheck_adopted()

    def recheck_adopted(self) -> None:
        """Queue adopted flows again, as it may have become safe to delete them."""
        self._to_sweep = list(self.installed.adopted())
        if self._to_sweep:
            self._work.pending.add(SWEEP)

    def is_going(self, key: FlowKey) -> bool:
        """Tell whether the deletion of the flow with this key is on its way."""
        return self._switch.is_going(key)

    def flow_removed(self, key: FlowKey, now: float, evicted: bool = False) -> list[Prefix]:
        """Record that a flow is gone, to be sent again if it is desired; ``evicted``: that counts as a refusal.

        Returns the home addresses that still need it.
        """
        if self._first_reading is not None:
            self._first_reading.flow_removed(key, evicted)
            return []
        if self._reading is not None:
            self._reading.pass_by((key,))
        under_way = self._work.changes_of(key)
        if under_way is not None and under_way.transition is not None and key in under_way.transition.leaving:
            under_way.gone += (key,)
            return []  # as it should be: recorded with all changes of the home address
        stood = self.installed.remove(key)
        if under_way is not None and under_way.adds(key):
            self._lost.add(key)
        elif not stood:
            return []
        elif under_way is not None:
            self._queue_orphaned(key)
            return []  # its deletion has been sent: it is looked at again if the switch refuses that
        users = self._desired.users(key, now)
        if evicted and (users or key in self._required):
            self._record_refusal(key, EVICTED, now)
        self.queue(key)
        self._queue_orphaned(key)
        return users

    @property
    def count(self) -> int:
        """Number of flows of ours that are known to be installed."""
        return len(self.installed)

    def is_barred(self, uplink: FlowKey) -> bool:
        """Tell whether a shared uplink flow and all flows of its users stay away, as one user lacks something."""
        return uplink in self._reconciler.barred

    # Difference.

    def next_urgent_batch(self, now: float, limit: int) -> Batch | None:
        """Return the next urgent changes (see ``next_batch``). Gates that open have a batch of their own."""
        self.withdrawals.tick(now)
        batch = self._batches.new()
        if self._may_open:
            self._open(now, batch)
        else:
            self._compare_queued(self._work.urgent, now, limit, batch)
        return self._batches.start(batch)

    def next_batch(self, now: float, limit: int) -> Batch | None:
        """Return about ``limit`` changes that are not urgent, None if there are none now.

        Every batch has to come back through ``confirm`` or ``refuse``, unless the switch goes away
        (``forget_installed``). Of one subject, one change at a time is under way; later input waits, and only the
        newest is sent. One call compares `SUBJECTS_AT_ONCE` subjects at most: call again while ``dirty``.
        """
        self.withdrawals.tick(now)
        batch = self._batches.new()
        for key in self._work.later.due(now, SUBJECTS_AT_ONCE):
            refusal = self.refused.get(key)
            if refusal is not None and refusal.retry_at > now:
                self._work.later.plan(key, refusal.retry_at)  # refused again since this was planned
            else:
                self._work.queue(key, urgency=Urgency.ROUTINE)
        self._compare_queued(self._work.bulk, now, limit, batch)
        if not self._work.bulk:
            self._sweep(now, limit, batch)
        return self._batches.start(batch)

    def take_unchanged(self) -> list[Prefix]:
        """Take off and return the home addresses that were compared since the last call and needed no change."""
        unchanged, self._reconciler.unchanged = self._reconciler.unchanged, []
        return unchanged

    def next_due(self) -> float | None:
        """Return the next moment at which ``next_batch`` may have changes without new input, None for none."""
        return earliest(self._work.later.next(), self._reconciler.sweep_at)

    @property
    def has_urgent(self) -> bool:
        """Whether ``next_urgent_batch`` has anything to compare."""
        return bool(self._work.urgent) or self._may_open

    @property
    def has_bulk(self) -> bool:
        """Whether ``next_batch`` has anything to compare."""
        return bool(self._work.bulk or self._to_sweep)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to compare."""
        return self.has_urgent or self.has_bulk

    @property
    def settled(self) -> bool:
        """Whether the switch has confirmed or refused all that there is to do."""
        return not self.dirty and self._work.idle

    def mark(self) -> int:
        """Return a mark with which ``is_done`` tells whether all is done that there is to do now."""
        return self._work.pending.mark()

    def is_done(self, mark: int, home_agent: bytes | None = None) -> bool:
        """Tell whether all is done that was to do at a mark, or of that what a home agent's bridge had reported."""
        return self._work.pending.passed(mark, home_agent)

    def is_opening(self, gate: FlowKey) -> bool:
        """Tell whether a gate waits for what has to be done before it opens."""
        return gate in self._reconciler.opening

    def confirm(self, batch: Batch, now: float) -> int:
        """Record that the switch has carried out a batch; return how many changes repaired somebody's changes."""
        drifted = len(self._drifted)
        # Whether nothing is remembered of single flows; nor will be, as a confirmation only forgets.
        whole = not (self._lost or self._reconciler.full or self.refused.remembers_any)
        for subject in batch.subjects:
            under_way = self._work.under_way(subject)
            if under_way is None or (
                whole and under_way.transition is not None and self._take_step(subject, under_way.transition)
            ):
                continue
            for change in under_way.changes:
                self._carry_out(change, now)
        self._batches.answered(batch)
        self._work.answered(batch)
        return drifted - len(self._drifted)

    def refuse(
        self, batch: Batch, reasons: Mapping[int, str], rest_done: bool, now: float, unsent: Collection[int] = ()
    ) -> None:
        """Record that the switch has refused changes of a batch, which are tried again, later each time.

        ``reasons``: why, by the change's position. ``rest_done``: it has carried out the others, except those at the
        positions in ``unsent``, which were not sent.
        """
        for subject in batch.subjects:
            under_way = self._work.under_way(subject)
            for key in () if under_way is None else under_way.gone:
                self.installed.remove(key)
                self._queue_orphaned(key)
        for position, change in enumerate(batch.changes):
            if position in reasons:
                # Of a bundle, the switch names the first change that finds no room: for fewer there may be some.
                alone = rest_done or len(batch.subjects) == 1
                if alone and reasons[position] == NO_ROOM and change.flow.key not in self.installed:
                    self._note_full(change.flow.table, now)
                self._record_refusal(change.flow.key, reasons[position], now, deleting=not change.add)
            elif rest_done and position not in unsent:
                self._carry_out(change, now)
            self._lost.discard(change.flow.key)
        self._batches.answered(batch)
        self._work.answered(batch, undone=True)

    def take_room_changes(self) -> list[RoomChange]:
        """Take off and return which tables have become full, or have room again, since the last call."""
        news, self._room_changes = self._room_changes, []
        return news

    def without_room(self) -> Counter[str]:
        """Return, by table, how many flows are left out for want of room."""
        return Counter(table_of(key) for key, each in self.refused.all().items() if each.reason == NO_ROOM)

    # How.

    def _compare_queued(self, queue: SubjectQueue, now: float, limit: int, batch: Batch) -> None:
        left = SUBJECTS_AT_ONCE
        urgency = Urgency.URGENT if queue is self._work.urgent else Urgency.ROUTINE
        attempt = Attempt(now, batch, urgency, self._work.pending.now())
        while left and batch.size < limit and (popped := queue.pop()) is not None:
            left -= 1
            subject, leaving = popped
            since = self._work.pending.since(subject)
            if since is not attempt.since:  # most are pending since the same one
                attempt = Attempt(now, batch, urgency, since)
            self._reconciler.reconcile(subject, leaving, attempt)

    def _sweep(self, now: float, limit: int, batch: Batch) -> None:
        """Compare adopted flows that are due."""
        if self._reconciler.sweep_at is not None and self._reconciler.sweep_at <= now:
            self._reconciler.sweep_at = None
            self.recheck_adopted()
        if len(self._to_sweep) > self.installed.count_adopted:  # most have turned out to be desired since
            self._to_sweep = list(self.installed.adopted())
        left, attempt = SUBJECTS_AT_ONCE, Attempt(now, batch, Urgency.ROUTINE, self._work.pending.since(SWEEP))
        while self._to_sweep and left and batch.size < limit:
            left -= 1
            key = self._to_sweep.pop()
            if self.installed.is_adopted(key):
                self._reconciler.reconcile(key, (), attempt)
        if not self._to_sweep:
            self._work.pending.done(SWEEP)

    @property
    def _may_open(self) -> bool:
        """Whether a gate may open: all is done that there was to do when it was asked for, so nothing is stale."""
        opening = self._reconciler.opening
        return bool(opening) and any(map(self.is_done, opening.values()))

    def _open(self, now: float, batch: Batch) -> None:
        opening = self._reconciler.opening
        for key, mark in [(key, mark) for key, mark in opening.items() if self.is_done(mark)]:
            del opening[key]
            if self.withdrawals.overdue(key, now) or (
                mark != NOTHING_PENDING and self.withdrawals.leads_to_adopted(key)
            ):
                continue  # the next renewal of the lease asks again
            if self._work.wait_for_changes(key, (), [key], self._work.pending.now()):
                continue  # it is just being closed
            self.installed.claim(key)
            gate = self._required[key]
            span = span_until(gate.expires_at, now)
            if not (span.is_too_short or self.installed.lasts(gate, now)):
                change = FlowChange(gate.flow, True, span.expires_at, span.timeout)
                self._work.start(key, [change], batch, self._work.pending.now())

    def _queue_orphaned(self, gone: FlowKey) -> None:
        for uplink in self._reconciler.orphaned_uplinks(gone):
            self.queue(uplink)

    def _note_full(self, table: str, now: float) -> None:
        if self._reconciler.full.mark_full(table, now):
            self._room_changes.append(RoomChange(table, has_room=False))

    def _record_refusal(self, key: FlowKey, reason: str, now: float, deleting: bool = False) -> None:
        refusal = self.refused.put(key, reason, now, deleting)
        self._work.later.plan(key, refusal.retry_at)
        if deleting:
            self.withdrawals.refuse(key)

    def _take_step(self, home_address: Subject, step: Transition) -> bool:
        """Record that one unit has taken the place of another, all at once; tell whether that could be done.

        It can't if something is known of single flows of these.
        """
        barred = self._reconciler.barred
        if self._drifted and not self._drifted.isdisjoint(step.keys):
            return False
        if barred and not barred.isdisjoint(step.leaving):
            return False
        if (step.leaving and self.installed.has_adopted) or not self.installed.is_free_for(step):
            return False
        if self._reading is not None:
            self._reading.pass_by(step.keys)
        self.withdrawals.done(home_address)
        for key in step.leaving:
            self.withdrawals.done(key)
        self.installed.take_step(step)
        if step.unit is None and step.former is not None:
            self._queue_orphaned(step.former.downlink_key)
        return True

    def _carry_out(self, change: FlowChange, now: float) -> None:
        key = change.flow.key
        if self._reading is not None:
            self._reading.pass_by((key,))
        self.withdrawals.done(key)
        if self._drifted:
            self._drifted.discard(key)
        if not change.add:
            self.installed.remove(key)
            if self.refused.blocks_deletion(key, -math.inf):
                self.refused.remove(key)
            for other in self._reconciler.deletable_after(key, change.flow.kind, now):
                self._work.queue(other)
            self._queue_orphaned(key)
        elif key in self._lost:
            # The one that is gone may be this or its predecessor. It may stand, but nothing relies on it.
            self._lost.discard(key)
            self.installed.put(change.flow, now)
        else:
            full = self._reconciler.full
            if full and key not in self.installed and full.mark_accepting(change.flow.table):
                self._room_changes.append(RoomChange(change.flow.table, has_room=True))
            self.installed.put(change.flow, change.expires_at)
            self.refused.accepted(key, now)
