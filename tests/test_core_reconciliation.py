# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed: whatever happens, the switch ends with what is desired, and nothing is sent twice."""

import copy
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core import pipeline
from controller.core.addresses import Prefix, parse_address, parse_prefix
from controller.core.backends import RouteBackend
from controller.core.flows import Flow, FlowKey
from controller.core.reconciliation import LONGEST_TIMEOUT, Entry, FlowChange, Reconciliation, hard_timeout

HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESSES = [parse_prefix(f"2001:db8:99::{number:x}") for number in range(1, 6)]
BACKENDS = [RouteBackend(3, "02:00:00:00:00:0a"), RouteBackend(4, "02:00:00:00:00:0b")]
LIFETIMES = st.one_of(st.none(), st.integers(2, 200_000))


def downlink(home_address: Prefix = HOME_ADDRESSES[0], backend: int = 0) -> Flow:
    """A binding's flow."""
    return pipeline.downlink_flow(home_address, BACKENDS[backend].uplink())


def changes(flows: Reconciliation, now: float) -> list[FlowChange]:
    """What is due, with deletions allowed."""
    return flows.changes(now, lambda flow: True)


def apply(flows: Reconciliation, now: float) -> list[FlowChange]:
    """Sends what is due to a switch that takes everything."""
    sent = changes(flows, now)
    flows.confirm(sent)
    return sent


class Reconciled(RuleBasedStateMachine):
    """A switch that sometimes refuses, forgets, is changed behind our back or goes away, and time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = Reconciliation()
        self.flows.load([], [], 0.0)
        self.now = 0.0
        self.switch: dict[FlowKey, Entry] = {}
        self.desired: dict[FlowKey, tuple[Flow, float | None]] = {}
        self.foreign: set[FlowKey] = set()

    @rule(home_address=st.sampled_from(HOME_ADDRESSES), backend=st.integers(0, 1), lifetime=LIFETIMES)
    def want(self, home_address: Prefix, backend: int, lifetime: int | None) -> None:
        flow, ends = downlink(home_address, backend), None if lifetime is None else self.now + lifetime
        self.flows.want(flow, ends)
        self.desired[flow.key] = (flow, ends)

    @rule(home_address=st.sampled_from(HOME_ADDRESSES))
    def unwant(self, home_address: Prefix) -> None:
        key = downlink(home_address).key
        self.flows.unwant(key)
        self.desired.pop(key, None)

    @rule(seconds=st.floats(0.1, 100_000.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for key, (_, ends) in list(self.desired.items()):
            if ends is not None and ends <= self.now:  # the controller ends lifetimes, too
                self.flows.unwant(key)
                del self.desired[key]
        self.switch = {
            key: entry for key, entry in self.switch.items() if entry.expires_at is None or entry.expires_at > self.now
        }

    @rule(refuse=st.sets(st.integers(0, 4)))
    def send(self, refuse: set[int]) -> None:
        for position, change in enumerate(changes(self.flows, self.now)):
            assert change.flow.key not in self.foreign
            if position in refuse:
                self.flows.reject(change, "refused", self.now)
            else:
                self._carry_out(change)
                self.flows.confirm([change])

    @rule(taken=st.sets(st.sampled_from(HOME_ADDRESSES), max_size=2))
    def reconnect(self, taken: set[Prefix]) -> None:
        self.foreign = {downlink(home_address).key for home_address in taken}
        for key in self.foreign:
            self.switch.pop(key, None)
        self.flows.load(self.switch.values(), self.foreign, self.now)

    @precondition(lambda self: self.switch)
    @rule(data=st.data())
    def somebody_deletes(self, data: st.DataObject) -> None:
        self.switch.pop(data.draw(st.sampled_from(sorted(self.switch))))
        self.flows.load(self.switch.values(), self.foreign, self.now)  # as the regular read-back does

    @invariant()
    def settles(self) -> None:
        """Once the switch takes everything, it has what is desired, no longer than desired, and peace returns."""
        flows, switch = copy.deepcopy(self.flows), dict(self.switch)
        for _ in range(3):
            for change in changes(flows, self.now):
                if change.add:
                    switch[change.flow.key] = Entry(change.flow, change.expires_at)
                else:
                    switch.pop(change.flow.key, None)
                flows.confirm([change])
        assert changes(flows, self.now) == []
        for key, (flow, ends) in self.desired.items():
            if key in self.foreign or flows.rejection(key) or (ends is not None and ends - self.now < 1):
                continue
            assert switch[key].flow == flow
            if ends is None:
                assert switch[key].expires_at is None
            else:
                installed_until = switch[key].expires_at
                assert installed_until is not None
                assert installed_until <= ends + 2.1
                left = min(ends - self.now, LONGEST_TIMEOUT)
                assert installed_until - self.now >= left / 2 - 3
        extra = set(switch) - set(self.desired) - self.foreign
        assert all(flows.rejection(key) for key in extra), "flows that nobody desires stay"

    def _carry_out(self, change: FlowChange) -> None:
        if change.add:
            assert 0 <= change.hard_timeout <= LONGEST_TIMEOUT
            self.switch[change.flow.key] = Entry(change.flow, change.expires_at)
        else:
            self.switch.pop(change.flow.key, None)


Reconciled.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestReconciled = Reconciled.TestCase


@given(st.floats(1.0, 1e6), st.floats(0, 1e6))
def test_a_timeout_never_outlives_the_lifetime_by_more_than_a_moment(lifetime: float, now: float) -> None:
    assert hard_timeout(now + lifetime, now) <= lifetime + 0.11


def test_frequent_refreshes_cost_a_rewrite_at_half_of_what_is_left() -> None:
    flows, sent = Reconciliation(), 0
    flows.load([], [], 0.0)
    for second in range(0, 600, 3):
        flows.want(downlink(), second + 60.0)
        sent += len(apply(flows, float(second)))
    assert 15 <= sent <= 30
    assert flows.is_active(downlink().key, 600.0)


def test_gates_are_renewed_each_time() -> None:
    flows, gate = Reconciliation(), pipeline.downlink_gate(HOME_PREFIX)
    flows.load([], [], 0.0)
    for second in range(0, 30, 3):
        flows.want(gate, second + 10.0)
        assert [change.hard_timeout for change in apply(flows, float(second))] == [10]


def test_lifetimes_longer_than_openflow_can_count_are_kept_alive() -> None:
    flows, now = Reconciliation(), 0.0
    flows.load([], [], 0.0)
    flows.want(downlink(), 262_140.0)
    apply(flows, now)
    apply(flows, now)
    while now < 190_000:
        due = flows.next_due()
        assert due is not None
        assert due > now
        now = due
        apply(flows, now)
        assert apply(flows, now) == []
        assert flows.is_active(downlink().key, now)


def test_gates_close_first_and_open_last() -> None:
    flows, gate = Reconciliation(), pipeline.downlink_gate(HOME_PREFIX)
    old, new = pipeline.uplink_gate(parse_address("2001:db8:99::1"), pipeline.IPPROTO_IPV6), downlink()
    flows.load([Entry(old, 10.0), Entry(downlink(HOME_ADDRESSES[1]), None)], [], 0.0)
    flows.want(gate, 10.0)
    flows.want(new)
    sent = [(change.flow, change.add) for change in changes(flows, 0.0)]
    assert sent == [(old, False), (new, True), (downlink(HOME_ADDRESSES[1]), False), (gate, True)]


def test_a_refused_flow_is_tried_again_later_each_time() -> None:
    flows, now, tries = Reconciliation(), 0.0, []
    flows.load([], [], 0.0)
    flows.want(downlink())
    for _ in range(6):
        (change,) = changes(flows, now)
        flows.reject(change, "table full", now)
        tries.append(now)
        assert changes(flows, now) == []
        due = flows.next_due()
        assert due is not None
        now = due
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]
    rejection = flows.rejection(downlink().key)
    assert rejection is not None
    assert rejection.reason == "table full"
    apply(flows, now)
    assert flows.rejection(downlink().key) is None
