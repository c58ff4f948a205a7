# SPDX-License-Identifier: Apache-2.0
"""Bring the installed flows of a switch in line with the desired ones, one subject at a time.

The flows of a home address stand together or not at all: if one is refused, evicted or in another application's place,
the others go, and with them those of all home addresses that share its uplink flow. A verifying flow comes before the
uplink flow that leads to it and goes after it; guards come before gates and go after them.
"""

import math
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

from controller.core.batches import Batch
from controller.core.flow_changes import FlowChange, in_order
from controller.core.flow_keys import home_end, keeps_safe, uplink_source
from controller.core.flow_transitions import Transition, transition
from controller.core.flow_units import DesiredModel, FlowUnit, SharedUplink
from controller.core.flows import Flow, FlowKey, Kind, table_of
from controller.core.full_tables import NO_ROOM, FullTables
from controller.core.installed import FlowEntry, InstalledFlow
from controller.core.pending_epochs import Since
from controller.core.pipeline import DOWNLINK, VERIFY
from controller.core.subject_queue import Subject
from controller.core.switch_state import SwitchState
from controller.core.timeouts import span_until
from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix

# After how many seconds adopted flows are compared again that may not be deleted yet.
ADOPTED_REVIEW = 5.0
# The epoch of a gate that this controller has opened and renews: nothing is pending that it has to wait for.
NOTHING_PENDING = -1


class Attempt(NamedTuple):
    """One attempt to reconcile a subject: when, for which batch, how urgent, and pending since which epoch."""

    now: float
    batch: Batch
    urgency: Urgency
    since: Since


class SubjectReconciler:
    """Puts the difference between desired and installed flows of one subject, a home address or a flow, in a batch."""

    def __init__(self, desired: DesiredModel, switch: SwitchState) -> None:
        self._desired = desired
        self._installed = switch.installed
        self._refused = switch.refused
        self._work = switch.work
        self._required = switch.required
        # Gates to open, each with the epoch of which all has to be done before.
        self.opening: dict[FlowKey, int] = {}
        # Shared uplink flows that must not stand, as one of their users would lose packets.
        self.barred: set[FlowKey] = set()
        # Those of them that are being deleted: the flows that they lead to go once they are gone, whoever deletes them.
        self._going: set[FlowKey] = set()
        # What is desired of shared uplink flows, as far as it was asked for one batch: meanwhile nothing comes in.
        self._uplinks: dict[FlowKey, SharedUplink | None] = {}
        self._uplinks_of: Batch | None = None
        self.full = FullTables()
        # Home addresses for which nothing was to be done, since they were taken off.
        self.unchanged: list[Prefix] = []
        # When to compare adopted flows again that may not be deleted yet.
        self.sweep_at: float | None = None
        self._kept: dict[FlowKey, None] = {}  # guards that are not desired any more, but that gates still need

    def clear(self) -> None:
        """Forget everything, as the switch went away."""
        self.opening.clear()
        self.barred.clear()
        self._uplinks.clear()
        self._uplinks_of = None
        self._going.clear()
        self.full.clear()
        self.unchanged.clear()
        self._kept.clear()
        self.sweep_at = None

    def deletable_after(self, gone: FlowKey, kind: Kind, now: float) -> list[Subject]:
        """Return what may be deleted now that the controller has deleted a flow.

        Guards wait for gates, and verifying flows for uplink flows.
        """
        if kind is Kind.GATE:
            return list(self._kept)
        return list(self._desired.users(gone, now)) if gone in self.barred else []

    def orphaned_uplinks(self, gone: FlowKey) -> list[FlowKey]:
        """Return the keys of uplink flows that may have to go because a flow is gone, whoever deleted it."""
        table = table_of(gone)
        if table == DOWNLINK:
            return [key for key in self._desired.uplinks_beside(gone) if key in self._installed]
        if table == VERIFY and self._installed.has_adopted:
            return [key for key in self._desired.uplinks_beside(gone) if self._installed.is_adopted(key)]
        return []

    def reconcile(self, subject: Subject, leaving: tuple[FlowKey, ...], attempt: Attempt) -> None:
        """Add to the batch the changes that a subject needs, or have it wait for what is under way."""
        under_way = self._work.under_way(subject)
        if under_way is not None:
            under_way.requeue(attempt.since, leaving)
            return
        unit = None
        if isinstance(subject, Prefix):
            unit = self._desired.unit_of(subject, attempt.now)
            if self._reconcile_whole(subject, unit, leaving, attempt):
                return
            former = self._installed.unit(subject)
            if former is not None:
                leaving = tuple(dict.fromkeys((*leaving, *(flow.key for flow in former.flows))))
        keys = [subject] if not isinstance(subject, Prefix) else [flow.key for flow in unit.flows] if unit else []
        if self._work.wait_for_changes(subject, leaving, keys, attempt.since):
            return
        changes: list[FlowChange] = []
        if isinstance(subject, Prefix) and unit is not None:
            self._reconcile_unit(subject, unit, attempt, changes)
        elif not isinstance(subject, Prefix) and self._reconcile_flow(subject, attempt, changes):
            return
        if changes:
            self._work.start(subject, in_order(changes), attempt.batch, attempt.since)
        else:
            self._done(subject)
        for key in leaving:
            if unit is None or key not in keys:
                self.reconcile(key, (), attempt)  # by itself, as other home addresses may need it, too

    def _reconcile_whole(
        self, home_address: Prefix, unit: FlowUnit | None, leaving: tuple[FlowKey, ...], attempt: Attempt
    ) -> bool:
        """Put one unit in the place of another, by changes that are the same on all routers.

        Tells whether that could be done: nothing is refused or in another application's place, and no other home
        address is concerned.
        """
        former = self._installed.unit(home_address)
        if (unit is None and former is None) or self._has_obstacles or self.full:
            return False
        if self.barred and unit is not None and unit.shared in self.barred:
            return False
        if unit is not None and former is None and self._installed.may_have(unit):
            # After a reading nearly all stand as desired: no transition is worked out for these, so that gates are
            # renewed sooner.
            if self._work.wait_for_changes(home_address, leaving, unit.keys, attempt.since):
                return True
            if not self._installed.claim_unit(unit, unit.flows):
                return False
            step = None
        else:
            # What is urgent goes to all routers at once: they share the transition, and the messages made of it.
            step = (transition if attempt.urgency is Urgency.URGENT else Transition)(former, unit)
            if self._work.wait_for_step(step, home_address, leaving, attempt.since):
                return True
        if step is None or not step.size:
            self._installed.claim_home_address(home_address)
            self._done(home_address)
        elif not self._may_take(step, attempt.now):
            return False
        else:
            self._work.start_step(home_address, step, attempt.batch, attempt.since)
        if unit is not None and not unit.sole and (shared := unit.shared) is not None:
            self._work.queue(shared, urgency=attempt.urgency, since=attempt.since)
        if leaving:
            keys = (() if unit is None else unit.keys) if step is None else step.keys
            for key in leaving:
                if key not in keys:
                    self.reconcile(key, (), attempt)
        return True

    def _done(self, subject: Subject) -> None:
        """Record that nothing was to be done for a subject."""
        self._work.pending.done(subject)
        if isinstance(subject, Prefix):
            self.unchanged.append(subject)

    def _may_take(self, step: Transition, now: float) -> bool:
        """Tell whether all flows of a unit may come, and those of the former one go, without a look at any other."""
        former, unit = step.former, step.unit
        if not self._installed.is_free_for(step):
            return False
        if former is None:
            return True
        if self._installed.is_unit_adopted(former.home_address) or former.shared is not None:
            return False
        uplink = former.uplink_key
        kept = uplink is None or (unit is not None and unit.sole and unit.uplink_key == uplink)
        return kept or uplink is None or self._desired.uplink_at(uplink, now) is None

    def _reconcile_unit(
        self,
        home_address: Prefix,
        unit: FlowUnit,
        attempt: Attempt,
        changes: list[FlowChange],
    ) -> None:
        """Install all flows of a home address one by one, or withdraw them all."""
        if self._may_stand(unit, attempt.now):
            for flow in unit.flows:
                self._install(flow, attempt.now, changes)
        else:
            attempt.batch.withdrawn.append(home_address)
            exposed = unit.shared is not None and self._may_have(unit.shared)  # it goes first
            for flow in unit.flows:
                if not (exposed and flow.kind is Kind.VERIFY):
                    self._withdraw(flow.key, attempt.now, changes)
        if unit.shared is not None:
            self._work.queue(unit.shared, urgency=attempt.urgency, since=attempt.since)

    def _may_have(self, key: FlowKey) -> bool:
        """Tell whether the switch has a flow with a key, or one is on its way."""
        return key in self._installed or self._work.changes_of(key) is not None

    def _may_stand(self, unit: FlowUnit, now: float) -> bool:
        """Tell whether all flows of a unit can stand."""
        if unit.shared in self.barred or (self.full and not self._has_room(unit.flows, now)):
            return False
        return not self._has_obstacles or not any(self._is_obstructed(flow.key, now) for flow in unit.flows)

    def _has_room(self, flows: Iterable[Flow], now: float) -> bool:
        """Tell whether the switch may have room for the new ones of some flows.

        One for which it has none counts as refused, without being sent.
        """
        for flow in flows:
            key = flow.key
            if key in self._installed or self._refused.blocks(key, now) or not self.full.blocks(flow.table, now):
                continue
            self._work.later.plan(key, self._refused.put(key, NO_ROOM, now).retry_at)
            return False
        return True

    @property
    def _has_obstacles(self) -> bool:
        return bool(self._refused or self._installed.foreign)

    def _is_obstructed(self, key: FlowKey, now: float) -> bool:
        return self._refused.blocks(key, now) or self._installed.is_foreign(key)

    def _reconcile_flow(self, key: FlowKey, attempt: Attempt, changes: list[FlowChange]) -> bool:
        """Bring the flow with one key in line with what is desired; tell whether that waits for something else."""
        required = self._required.get(key)
        if required is not None:
            if required.flow.kind is Kind.GATE:
                self._open(required, attempt.now, changes)
            else:
                self._install(required.flow, attempt.now, changes)
            return False
        if uplink_source(key) is not None:
            uplink = self._uplink_at(key, attempt)
            if uplink is not None and uplink.sole is None:
                return self._reconcile_shared_uplink(key, uplink, attempt, changes)
            self.barred.discard(key)
            self._going.discard(key)
            users = [] if uplink is None or uplink.sole is None else [uplink.sole]
        else:
            users = self._desired.users(key, attempt.now)
        for home_address in users:
            self._work.queue(home_address, urgency=attempt.urgency, since=attempt.since)
        return not users and self._delete(key, attempt, changes)

    def _reconcile_shared_uplink(
        self, key: FlowKey, uplink: SharedUplink, attempt: Attempt, changes: list[FlowChange]
    ) -> bool:
        """Install a shared uplink flow if none of its users loses packets by it; else withdraw it, then their flows.

        Tells whether that waits for something else.
        """
        barred = self._is_obstructed(key, attempt.now) or uplink.left_out is not None
        barred = barred or (bool(self.full) and not self._has_room([uplink.flow], attempt.now))
        barred = barred or (self._has_obstacles and self._obstructs_user(key, attempt.now))
        news = barred != (key in self.barred)
        (self.barred.add if barred else self.barred.discard)(key)
        if barred:
            self._withdraw(key, attempt.now, changes)
        if changes:
            self._going.add(key)  # what it leads to goes after it
        elif news or key in self._going:
            self._going.discard(key)
            for user in self._desired.users(key, attempt.now):
                self._work.queue(user, urgency=attempt.urgency, since=attempt.since)
        if barred:
            return False
        if self._installed.standing(key, attempt.now) is None:
            for user in self._desired.users(key, attempt.now):
                unit = self._desired.unit_of(user, attempt.now)
                verify = None if unit is None else unit.verify
                if verify is not None and not self._precedes(verify, attempt):
                    return self._work.wait_for_changes(key, (), [verify.key], attempt.since)
        self._install(uplink.flow, attempt.now, changes)
        return False

    def _uplink_at(self, key: FlowKey, attempt: Attempt) -> SharedUplink | None:
        """Return the desired uplink flow with a key, which thousands of home addresses may ask for in one batch."""
        if self._uplinks_of is not attempt.batch:
            self._uplinks.clear()
            self._uplinks_of = attempt.batch
        if key not in self._uplinks:
            self._uplinks[key] = self._desired.uplink_at(key, attempt.now)
        return self._uplinks[key]

    def _obstructs_user(self, uplink: FlowKey, now: float) -> bool:
        """Tell whether a flow of one of a shared uplink flow's users can't be installed now.

        There may be thousands of users, so it is the obstacles that are gone through.
        """
        for key in chain(self._refused.all(), self._installed.foreign):
            home_address = home_end(key)
            if home_address is None or not self._is_obstructed(key, now):
                continue
            unit = self._desired.unit_of(home_address, now)
            if unit is not None and unit.shared == uplink and unit.has_own(key):
                return True
        return False

    def _precedes(self, flow: Flow, attempt: Attempt) -> bool:
        """Tell whether a flow stands once this batch is carried out."""
        if self._work.changes_of(flow.key) is not None:
            return self._work.is_added_by(flow.key, attempt.batch)
        return self._installed.has(flow, attempt.now)

    def _delete(self, key: FlowKey, attempt: Attempt, changes: list[FlowChange]) -> bool:
        """Delete a flow that is not desired, as soon as that is safe; tell whether that waits for something else."""
        installed = self._installed.get(key)
        if installed is None:
            self._refused.remove(key)
            return False
        if installed.shape.kind is Kind.GUARD and self._is_needed(key, attempt.now):
            return False
        if self._installed.is_adopted(key) and not self._desired.may_delete(key, attempt.now):
            self.sweep_at = attempt.now + ADOPTED_REVIEW
            return False
        for uplink in self._desired.uplinks_before(key) if installed.shape.kind is Kind.VERIFY else ():
            if not self._may_have(uplink) or self._work.is_deleted_by(uplink, attempt.batch):
                continue
            self.reconcile(uplink, (), attempt)
            if self._work.is_deleted_by(uplink, attempt.batch):
                continue
            if uplink in self.barred or self._uplink_at(uplink, attempt) is None:
                self.sweep_at = attempt.now + ADOPTED_REVIEW
                return self._work.wait_for_changes(key, (), [uplink], attempt.since)
        self._withdraw(key, attempt.now, changes)
        return False

    def _withdraw(self, key: FlowKey, now: float, changes: list[FlowChange]) -> None:
        installed = self._installed.get(key)
        if installed is not None and not self._refused.blocks_deletion(key, now):
            changes.append(FlowChange(installed.flow(key), add=False))

    def _is_needed(self, guard: FlowKey, now: float) -> bool:
        """Tell whether a gate that stands needs a guard, and plan to compare the guard when the gate is gone."""
        gates = [gate for gate in self._installed.gates(now) if keeps_safe(guard, gate)]
        self._kept.pop(guard, None)
        if gates:
            self._kept[guard] = None
            ends = max(self._installed.ends(gate, now) for gate in gates)
            if ends < math.inf:
                self._work.later.plan(guard, ends)
        return bool(gates)

    def _install(self, flow: Flow, now: float, changes: list[FlowChange]) -> None:
        """Install a desired flow other than a gate, unless it is installed; it does not end by itself."""
        key = flow.key
        self._installed.claim(key)
        installed = self._installed.standing(key, now)
        if self._must_wait(flow, installed, now, changes):
            return
        if installed is not None and installed.equals(flow) and installed.expires_at is None:
            self._refused.remove(key)  # whoever had it refused
        else:
            changes.append(FlowChange(flow, add=True))

    def _open(self, gate: FlowEntry, now: float, changes: list[FlowChange]) -> None:
        """Have a gate opened or renewed.

        An adopted gate is renewed as if it were to open, as it is not known yet what it leads to.
        """
        key, installed = gate.flow.key, self._installed.standing(gate.flow.key, now)
        if self._must_wait(gate.flow, installed, now, changes) or span_until(gate.expires_at, now).is_too_short:
            return
        if installed is None or self._installed.is_adopted(key):
            if key not in self.opening:
                self.opening[key] = self._work.pending.mark()
            return
        if installed.equals(gate.flow):
            self._refused.remove(key)  # whoever had it refused
        if self._installed.lasts(gate, now):
            return
        self.opening.setdefault(key, NOTHING_PENDING)  # with those that open: no other flow's refusal holds it up

    def _must_wait(self, flow: Flow, installed: InstalledFlow | None, now: float, changes: list[FlowChange]) -> bool:
        """Tell whether a desired flow can't be sent now; a flow of ours in its place is withdrawn then."""
        if self._installed.is_foreign(flow.key):
            return True
        if not self._refused.blocks(flow.key, now):
            return False
        if installed is not None and not installed.equals(flow):
            self._withdraw(flow.key, now, changes)  # better none than an outdated one
        return True
