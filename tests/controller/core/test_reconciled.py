# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed, with everything that may happen to a switch, in any order."""

import copy
import math
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.batches import Batch
from controller.core.flows import FlowKey
from controller.core.installed import FlowEntry
from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix
from tests.support.reconciliation import (
    CARE_OF_ADDRESSES,
    HOME_ADDRESSES,
    carry_out,
    downlink,
    load,
    reconciliation,
    take,
    uplink,
)
from tests.support.told_flows import tell

LIFETIMES = st.one_of(st.none(), st.integers(2, 200_000))


class Reconciled(RuleBasedStateMachine):
    """A switch that answers late and sometimes refuses, that forgets, is changed behind our back or goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.flows, self.bindings = reconciliation()
        self.now = 0.0
        self.switch: dict[FlowKey, FlowEntry] = {}
        self.foreign: set[FlowKey] = set()
        self.under_way: deque[Batch] = deque()
        self.ends: dict[Prefix, float] = {}  # of lifetimes

    @rule(
        home_address=st.sampled_from(HOME_ADDRESSES),
        care_of_address=st.sampled_from(CARE_OF_ADDRESSES),
        lifetime=LIFETIMES,
        urgency=st.sampled_from(Urgency),
    )
    def put(self, home_address: Prefix, care_of_address: bytes, lifetime: int | None, urgency: Urgency) -> None:
        self.ends[home_address] = math.inf if lifetime is None else self.now + lifetime
        before = self.bindings.held.get(home_address)
        backend = before[1] if before else 0
        self.bindings.held[home_address] = (care_of_address, backend)
        if before is None or before[0] != care_of_address:
            leaving = () if before is None else (downlink(home_address).key, uplink(before[0]).key)
            self.flows.queue(home_address, leaving, urgency)
            self.flows.queue(uplink(care_of_address).key, urgency=urgency)

    @rule(home_address=st.sampled_from(HOME_ADDRESSES))
    def remove(self, home_address: Prefix) -> None:
        held = self.bindings.held.pop(home_address, None)
        if held is not None:
            self.flows.queue(home_address, (downlink(home_address).key, uplink(held[0]).key))

    @rule(backend=st.integers(0, 1))
    def move_backend(self, backend: int) -> None:
        for home_address, (care_of_address, _) in self.bindings.held.items():
            self.bindings.held[home_address] = (care_of_address, backend)
        self.flows.recheck()

    @rule(seconds=st.floats(0.1, 100_000.0))
    def pass_time(self, seconds: float) -> None:
        """Let the controller look whenever it said that it would: flows of a live binding have no gap."""
        end = self.now + seconds
        while (due := self.flows.next_due()) is not None and due <= end and not self.under_way:
            self.now = max(self.now, due)
            self._end_lifetimes()
            self.send()
            while self.under_way:
                self.answer(set(), False)
        self.now = end
        self._end_lifetimes()

    @rule()
    def send(self) -> None:
        batch = take(self.flows, self.now)
        if batch is not None:
            assert not {change.flow.key for change in batch.changes} & self.foreign
            self.under_way.append(batch)

    @precondition(lambda self: self.under_way)
    @rule(refuse=st.sets(st.integers(0, 4)), bundles=st.booleans())
    def answer(self, refuse: set[int], bundles: bool) -> None:
        batch = self.under_way.popleft()
        reasons = {position: "refused" for position in refuse if position < len(batch.changes)}
        if reasons:
            self.flows.refuse(batch, reasons, not bundles, self.now)
        else:
            self.flows.confirm(batch, self.now)
        for position, change in enumerate(batch.changes):
            if not (position in reasons or (reasons and bundles)):
                carry_out(self.switch, change)

    @rule(taken=st.sets(st.sampled_from(HOME_ADDRESSES), max_size=2))
    def reconnect(self, taken: set[Prefix]) -> None:
        self.foreign = {downlink(home_address).key for home_address in taken}
        for key in self.foreign:
            self.switch.pop(key, None)
        self.under_way.clear()
        self.flows.forget_installed()
        load(self.flows, self.switch.values(), self.foreign, self.now)

    @rule(before=st.integers(0, 2), after=st.integers(0, 2), done=st.booleans())
    def read_again(self, before: int, after: int, done: bool) -> None:
        """All goes on while the switch tells its flows, of which it may have just changed some unconfirmed."""
        reading = self.flows.begin_reading()
        for turn in range(before):
            self.send() if turn else self._answer_next()
        told = dict(self.switch)
        for batch in self.under_way if done else ():
            for change in batch.changes:
                carry_out(told, change)
        tell(reading, told.values())
        for turn in range(after):
            self._answer_next() if turn else self.send()
        for key in self.foreign:
            reading.add_foreign(key)
        self.flows.end_reading(self.now)

    def _answer_next(self) -> None:
        if self.under_way:
            self.answer(set(), True)

    @precondition(lambda self: self.switch and not self.under_way)
    @rule(data=st.data(), tells=st.booleans())
    def somebody_deletes(self, data: st.DataObject, tells: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.switch)))
        del self.switch[key]
        if tells:
            self.flows.flow_removed(key, self.now)
        else:
            load(self.flows, self.switch.values(), self.foreign, self.now)  # as it is when the switch comes back

    @invariant()
    def settles(self) -> None:
        """Once the switch takes everything, it has what is desired and nothing else, and peace returns."""
        flows, switch = copy.deepcopy(self.flows), dict(self.switch)
        batches = copy.deepcopy(self.under_way)
        while (batch := batches.popleft() if batches else take(flows, self.now)) is not None:
            flows.confirm(batch, self.now)
            for change in batch.changes:
                carry_out(switch, change)
        assert flows.settled
        desired = {flow.key: flow for flow in self.bindings.all_flows(self.now)}
        not_yet: set[FlowKey] = set()
        for care_of_address in CARE_OF_ADDRESSES:  # of who shares a care-of address, all flows stand or none
            users = self.bindings.at(care_of_address)
            together = {uplink(care_of_address).key, *(downlink(home_address).key for home_address in users)}
            if users and any(key in self.foreign or flows.refused.blocks(key, self.now) for key in together):
                for key in together:
                    del desired[key]
                if flows.refused.blocks_deletion(uplink(care_of_address).key, self.now):
                    not_yet |= together  # the uplink flow goes first
        for key, flow in desired.items():
            assert switch[key] == FlowEntry(flow, None)
        extra = set(switch) - set(desired) - self.foreign - not_yet
        assert all(flows.refused.blocks_deletion(key, self.now) for key in extra), "flows that nobody desires stay"

    def _end_lifetimes(self) -> None:
        """Nothing ends by itself in the switch: the flows of a binding go when it is removed."""
        for home_address in list(self.bindings.held):
            if self.ends[home_address] <= self.now:
                self.remove(home_address)


Reconciled.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestReconciled = Reconciled.TestCase
