# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed flows of one router; the difference is what is sent.

Posting, deleting, handover, reconnect, restart and drift repair all come down to this one structure. What is installed
is remembered; what is desired is asked for, as a binding's flows follow from the binding. Input says what is to be
looked at, ``take`` turns that into messages, batch by batch, and ``confirm`` and ``refuse`` record what the switch made
of them. What failed is tried again, later each time.

The flows of a home address stand together or not at all: a flow that is refused, evicted or in another's place takes
the others away, and with them those of all home addresses that share its uplink flow. A verifying flow comes before the
uplink flow that leads to it and goes after that; guards come before gates and go after them.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from controller.core.batches import Batch, Batches, FlowChange
from controller.core.flow_sets import uplink_source
from controller.core.flows import Flow, FlowKey, table_of
from controller.core.full_tables import NO_ROOM, RoomNews
from controller.core.installed import Entry, Reading
from controller.core.queues import LookQueue, Subject
from controller.core.rejections import EVICTED
from controller.core.settlement import NOTHING, Look, Settlement
from controller.core.switch_state import SwitchState
from controller.core.timeouts import span_until
from controller.core.units import Desired
from controller.core.urgency import Urgency
from controller.core.withdrawals import Withdrawals
from controller.core.worklist import SWEEP
from hoaflow.addresses import Prefix

# How many subjects `take` looks at for one batch, most of which may need nothing: others wait meanwhile.
LOOKS_AT_ONCE = 300


class Reconciliation:
    """The flows that a router should have, those it has, and what is to be done about the difference."""

    def __init__(self, desired: Desired, switch: SwitchState) -> None:
        self.installed = switch.installed
        self.rejections = switch.rejections
        self._switch = switch
        self._required = switch.required
        self._work = switch.work
        self._desired = desired
        # Whether the switch's flows have been read, and the keys under which it then had something else than believed.
        self._known = False
        self._drifted: set[FlowKey] = set()
        self._settlement = Settlement(desired, switch)
        self._to_sweep: list[FlowKey] = []  # flows of an earlier life that are due for a look
        self._lost: set[FlowKey] = set()  # flows that were gone before the switch had confirmed them
        self._room_news: list[RoomNews] = []
        self._batches = Batches()
        self._reading: Reading | None = None
        self.withdrawals = Withdrawals(self.installed, desired)

    # What should be.

    def require(self, flow: Flow, expires_at: float | None = None) -> None:
        """Desire a flow that is there for no binding in particular, until ``expires_at``. Idempotent."""
        key, entry = flow.key, Entry(flow, expires_at)
        held = self._required.get(key)
        if held == entry:
            return
        self._required[key] = entry
        if held is None or held.flow != flow:
            self.rejections.remove(key)
        self.touch(key)

    def release(self, key: FlowKey) -> None:
        """Take back what ``require`` said. Idempotent."""
        if self._required.pop(key, None) is not None:
            self.rejections.remove(key)
            self._settlement.opening.pop(key, None)
            self.touch(key)

    def requires(self, key: FlowKey) -> bool:
        """Tell whether a flow with this key is wanted for no binding in particular."""
        return key in self._required

    def desired(self, now: float) -> Iterator[Entry]:
        """Iterate over all flows that there should be."""
        yield from list(self._required.values())
        yield from (Entry(flow, None) for flow in self._desired.all_flows(now))

    def is_active(self, key: FlowKey, now: float) -> bool:
        """Tell whether the flow that was wanted with this key stands, and is not about to go."""
        return self._switch.is_active(key, now)

    def touch(self, subject: Subject, leaving: tuple[FlowKey, ...] = (), urgency: Urgency = Urgency.URGENT) -> None:
        """Have a home address, or one key, looked at with the next batches, and with it the keys in ``leaving``, of
        which it may have no use any more."""
        if not self._known:
            return  # everything will be looked at
        leaving = tuple(key for key in leaving if self._is_known(key))
        for key in leaving:
            self.withdrawals.add(key)
            if uplink_source(key) is None:  # others may have been withdrawn for the same uplink flow
                self.rejections.remove(key)  # another flow deserves another try at once
        self._work.touch(subject, leaving, urgency)

    def _is_known(self, key: FlowKey) -> bool:
        """Tell whether the switch has or may get a flow with a key that is left, or has refused it, or others wait for
        it: only then is there something to look at. What came and went while the switch was busy leaves no trace."""
        if key in self.installed or self._work.busy(key) is not None or self.is_barred(key):
            return True
        return self.rejections.get(key) is not None

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
        found = reading.end(now)
        if not self._known:
            self._known = True
            self.recheck()
            return
        self._drifted.update(found.drifted)
        for key in found.changed:
            self.installed.adopt(key)
            self.touch(key, urgency=Urgency.ROUTINE)
            if key not in self.installed:
                self._touch_deserted(key)

    def forget_installed(self) -> None:
        """Know nothing of the switch any more: it went away."""
        self._known = False
        self._reading = None
        for memory in (self._switch, self._settlement, self._batches):
            memory.clear()
        for things in (self._to_sweep, self._lost, self._drifted, self.withdrawals):
            things.clear()

    def recheck(self) -> None:
        """Look at everything again: what stands, and what bindings' flows do now."""
        if not self._known:
            return
        self.installed.adopt_all()
        for subject in (*self._required, *self._work.subjects_under_way()):
            self.touch(subject)
        self._work.touch_all(self._desired.home_addresses())
        self.recheck_adopted()

    def recheck_adopted(self) -> None:
        """Look again at the flows of an earlier life: deleting them may have become allowed."""
        self._to_sweep = self.installed.adopted()
        if self._to_sweep:
            self._work.pending.add(SWEEP)

    def removed(self, key: FlowKey, now: float, evicted: bool = False) -> list[Prefix]:
        """Record that the switch says a flow is gone. If it is desired, it is sent anew; if it was ``evicted``, for
        want of room, that counts as a refusal. Returns the home addresses that should have it still."""
        if self._reading is not None:
            self._reading.pass_by((key,))
        stood, under_way = self.installed.remove(key), self._work.busy(key)
        if under_way is not None and under_way.adds(key):
            self._lost.add(key)
        elif not stood:
            return []
        users = self._desired.users(key, now)
        if evicted and (users or key in self._required):
            self._reject(key, EVICTED, now)
        self.touch(key)
        self._touch_deserted(key)
        return users

    @property
    def count(self) -> int:
        """How many flows of ours the switch is known to have."""
        return len(self.installed)

    def is_barred(self, uplink: FlowKey) -> bool:
        """Tell whether a shared uplink flow stays away, and all flows of its users, for one that lacks something."""
        return uplink in self._settlement.barred

    # The difference.

    def take_urgent(self, now: float, limit: int) -> Batch | None:
        """Return the next changes to be sent at once (see ``take``). Gates that open have a batch of their own."""
        self.withdrawals.tick(now)
        batch = self._batches.new()
        if self._may_open:
            self._open(now, batch)
        else:
            self._look_through(self._work.urgent, now, limit, batch)
        return self._batches.start(batch)

    def take(self, now: float, limit: int) -> Batch | None:
        """Return the next changes to be sent, but for urgent ones: about ``limit``; None if there are none now.

        Every batch has to come back through ``confirm`` or ``refuse``, unless the switch goes away
        (``forget_installed``). Of one subject one change at a time is under way: what comes meanwhile waits, and only
        the newest of it is ever sent. A call looks at so many things only: as long as ``dirty``, call again.
        """
        self.withdrawals.tick(now)
        batch = self._batches.new()
        for key in self._work.later.due(now, LOOKS_AT_ONCE):
            rejection = self.rejections.get(key)
            if rejection is not None and rejection.retry_at > now:
                self._work.later.plan(key, rejection.retry_at)  # refused again since this was planned
            else:
                self._work.touch(key, urgency=Urgency.ROUTINE)
        self._look_through(self._work.bulk, now, limit, batch)
        if not self._work.bulk:
            self._sweep(now, limit, batch)
        return self._batches.start(batch)

    def next_due(self) -> float | None:
        """Return the next moment at which ``take`` may have something although nothing new came in."""
        moments = (self._work.later.next(), self._settlement.sweep_at)
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def has_urgent(self) -> bool:
        """Tell whether ``take_urgent`` has anything to look at."""
        return bool(self._work.urgent) or self._may_open

    @property
    def has_bulk(self) -> bool:
        """Tell whether ``take`` has anything to look at."""
        return bool(self._work.bulk or self._to_sweep)

    @property
    def dirty(self) -> bool:
        """Tell whether there is anything to look at."""
        return self.has_urgent or self.has_bulk

    @property
    def settled(self) -> bool:
        """Tell whether the switch has confirmed all that there is to do, or refused it."""
        return not self.dirty and self._work.idle

    def mark(self) -> int:
        """Return what to ask ``is_done`` for later: whether all is done that there is to do now."""
        return self._work.pending.mark()

    def is_done(self, mark: int) -> bool:
        """Tell whether the switch has confirmed all that there was to do when ``mark`` was called, or refused it."""
        return self._work.pending.passed(mark)

    def is_opening(self, gate: FlowKey) -> bool:
        """Tell whether a gate waits for what has to be done before."""
        return gate in self._settlement.opening

    def confirm(self, batch: Batch, now: float) -> int:
        """Record that the switch carried a batch out. Returns how many changes repaired what somebody else had done."""
        drifted = len(self._drifted)
        for change in batch.changes:
            self._carry_out(change, now)
        self._batches.land(batch)
        self._work.land(batch)
        return drifted - len(self._drifted)

    def refuse(
        self, batch: Batch, reasons: Mapping[int, str], rest_done: bool, now: float, unsent: Collection[int] = ()
    ) -> None:
        """Record that the switch refused changes of a batch: ``reasons`` by their position. They stay undone and are
        tried again, later each time. ``rest_done`` tells whether it carried out the others, but for those at positions
        in ``unsent``, which it has not been given."""
        for position, change in enumerate(batch.changes):
            if position in reasons:
                # Of several at once the switch names the first that finds no room: there may be some for fewer.
                alone = rest_done or len(batch.subjects) == 1
                if alone and reasons[position] == NO_ROOM and change.flow.key not in self.installed:
                    self._note_full(change.flow.table, now)
                self._reject(change.flow.key, reasons[position], now, deleting=not change.add)
            elif rest_done and position not in unsent:
                self._carry_out(change, now)
            self._lost.discard(change.flow.key)
        self._batches.land(batch)
        self._work.land(batch, undone=True)

    def take_room_news(self) -> list[RoomNews]:
        """Return which tables have become full, and which have room again, since this was asked last."""
        news, self._room_news = self._room_news, []
        return news

    def left_out(self) -> Counter[str]:
        """Return how many flows are left out of each table that has no room for them."""
        return Counter(table_of(key) for key, each in self.rejections.all().items() if each.reason == NO_ROOM)

    # How.

    def _look_through(self, queue: LookQueue, now: float, limit: int, batch: Batch) -> None:
        looks = LOOKS_AT_ONCE
        urgency = Urgency.URGENT if queue is self._work.urgent else Urgency.ROUTINE
        while queue and looks and len(batch.changes) < limit:
            looks -= 1
            subject, leaving = queue.pop()
            since = self._work.pending.since(subject)
            self._settlement.look(subject, leaving, Look(now, batch, urgency, since))

    def _sweep(self, now: float, limit: int, batch: Batch) -> None:
        """Look at flows of an earlier life."""
        if self._settlement.sweep_at is not None and self._settlement.sweep_at <= now:
            self._settlement.sweep_at = None
            self.recheck_adopted()
        looks, at = LOOKS_AT_ONCE, Look(now, batch, Urgency.ROUTINE, self._work.pending.since(SWEEP))
        while self._to_sweep and looks and len(batch.changes) < limit:
            looks -= 1
            key = self._to_sweep.pop()
            if self.installed.is_adopted(key):
                self._settlement.look(key, (), at)
        if not self._to_sweep:
            self._work.pending.done(SWEEP)

    @property
    def _may_open(self) -> bool:
        """Gates open last: when all is done and confirmed that had to be done when they were asked for, so that none
        leads to what is out of date."""
        opening = self._settlement.opening
        return bool(opening) and any(map(self.is_done, opening.values()))

    def _open(self, now: float, batch: Batch) -> None:
        opening = self._settlement.opening
        for key, mark in [(key, mark) for key, mark in opening.items() if self.is_done(mark)]:
            del opening[key]
            if self.withdrawals.overdue(key, now) or (mark != NOTHING and self.withdrawals.are_put_off(key)):
                continue  # the next renewal of the lease asks again
            if self._work.wait(key, (), [key], self._work.pending.epoch):
                continue  # it is just being closed
            self.installed.claim(key)
            gate = self._required[key]
            span = span_until(gate.expires_at, now)
            if not (span.is_too_short or self.installed.lasts(gate, now)):
                change = FlowChange(gate.flow, True, span.expires_at, span.timeout)
                self._work.start(key, [change], batch, self._work.pending.epoch)

    def _touch_deserted(self, gone: FlowKey) -> None:
        for uplink in self._settlement.deserted(gone):
            self.touch(uplink)

    def _note_full(self, table: str, now: float) -> None:
        if self._settlement.full.refused(table, now):
            self._room_news.append(RoomNews(table, has_room=False))

    def _reject(self, key: FlowKey, reason: str, now: float, deleting: bool = False) -> None:
        rejection = self.rejections.put(key, reason, now, deleting)
        self._work.later.plan(key, rejection.retry_at)
        if deleting:
            self.withdrawals.refuse(key)

    def _carry_out(self, change: FlowChange, now: float) -> None:
        key = change.flow.key
        if self._reading is not None:
            self._reading.pass_by((key,))
        self.withdrawals.done(key)
        if self._drifted:
            self._drifted.discard(key)
        if not change.add:
            self.installed.remove(key)
            if self.rejections.forbids_deletion(key, -math.inf):
                self.rejections.remove(key)
            for other in self._settlement.follow(key, change.flow.kind, now):
                self._work.touch(other)
            self._touch_deserted(key)
        elif key in self._lost:
            # Was it this one that is gone, or the one before? It may stand, but nobody relies on it.
            self._lost.discard(key)
            self.installed.put(change.flow, now)
        else:
            if key not in self.installed and self._settlement.full.took(change.flow.table):
                self._room_news.append(RoomNews(change.flow.table, has_room=True))
            self.installed.put(change.flow, change.expires_at)
            self.rejections.overcome(key, now)
