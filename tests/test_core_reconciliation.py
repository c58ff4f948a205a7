# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed: whatever happens, the switch ends with what is desired, and nothing is sent twice."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core import pipeline
from controller.core.backends import RouteBackend
from controller.core.batches import Batch, FlowChange
from controller.core.flow_sets import home_end, uplink_source
from controller.core.flows import Flow, FlowKey, Kind
from controller.core.installed import Entry
from controller.core.reconciliation import Reconciliation
from controller.core.timeouts import LONGEST_TIMEOUT, hard_timeout, refresh_matters
from controller.core.units import SharedUplink, Unit
from hoaflow.addresses import Prefix, parse_address, parse_prefix

HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESSES = [parse_prefix(f"2001:db8:99::{number:x}") for number in range(1, 6)]
CARE_OF_ADDRESSES = [parse_address(f"2001:db8:{link}::2") for link in (2, 3)]
BACKENDS = [RouteBackend(3, "02:00:00:00:00:0a"), RouteBackend(4, "02:00:00:00:00:0b")]
LIFETIMES = st.one_of(st.none(), st.integers(2, 200_000))


def downlink(home_address: Prefix = HOME_ADDRESSES[0], backend: int = 0) -> Flow:
    """A binding's flow."""
    return pipeline.downlink_flow(home_address, BACKENDS[backend].uplink())


def uplink(care_of_address: bytes) -> Flow:
    """A flow that all home addresses behind a care-of address share."""
    return pipeline.uplink_flow(care_of_address, HOME_AGENT, pipeline.IPPROTO_IPV6, BACKENDS[0].uplink())


class Bindings:
    """What is desired: by home address where to, how, and until when."""

    def __init__(self) -> None:
        self.held: dict[Prefix, tuple[bytes, int, float | None]] = {}

    def home_addresses(self) -> list[Prefix]:
        return list(self.held)

    def at(self, care_of_address: bytes) -> list[Prefix]:
        return [home_address for home_address, held in self.held.items() if held[0] == care_of_address]

    def unit_of(self, home_address: Prefix, now: float) -> Unit:
        if home_address not in self.held:
            return Unit((), None, None)
        care_of_address, backend, ends = self.held[home_address]
        own, path = downlink(home_address, backend), uplink(care_of_address)
        shared = len(self.at(care_of_address)) > 1
        return Unit([own], ends, path.key) if shared else Unit([own, path], ends, None)

    def uplink_at(self, key: FlowKey, now: float) -> SharedUplink | None:
        care_of_address = uplink_source(key) or b""
        users = self.at(care_of_address)
        entry = next((entry for entry in self.all_flows(now) if entry.flow.key == key), None)
        return None if entry is None else SharedUplink(entry, users, None, users[0] if len(users) == 1 else None)

    def users(self, key: FlowKey, now: float) -> list[Prefix]:
        care_of_address, home_address = uplink_source(key), home_end(key)
        if care_of_address is not None:
            return self.at(care_of_address)
        return [home_address] if home_address is not None and home_address in self.held else []

    def uplinks_before(self, verify: FlowKey) -> list[FlowKey]:
        return []

    def uplinks_beside(self, key: FlowKey) -> list[FlowKey]:
        held = self.held.get(home_end(key) or HOME_PREFIX)
        return [] if held is None else [uplink(held[0]).key]

    def all_flows(self, now: float) -> Iterator[Entry]:
        for home_address, (_, backend, ends) in self.held.items():
            yield Entry(downlink(home_address, backend), ends)
        for care_of_address in CARE_OF_ADDRESSES:
            users = [self.held[home_address][2] for home_address in self.at(care_of_address)]
            if users:
                last = None if None in users else max(ends for ends in users if ends is not None)
                yield Entry(uplink(care_of_address), last)

    def may_delete(self, key: FlowKey, now: float) -> bool:
        return True


def reconciliation(entries: tuple[Entry, ...] = ()) -> tuple[Reconciliation, Bindings]:
    """One whose switch has been read."""
    bindings = Bindings()
    flows = Reconciliation(bindings)
    load(flows, entries, [], 0.0)
    return flows, bindings


def load(flows: Reconciliation, entries: Iterable[Entry], foreign: Iterable[FlowKey], now: float) -> None:
    """The switch is read."""
    reading = flows.begin_reading()
    for entry in entries:
        reading.add(entry)
    for key in foreign:
        reading.add_foreign(key)
    flows.end_reading(now)


def take(flows: Reconciliation, now: float) -> Batch | None:
    """What is due, after as many looks as it takes."""
    while (batch := flows.take_urgent(now, limit=4) or flows.take(now, limit=4)) is None and flows.dirty:
        pass
    return batch


def apply(flows: Reconciliation, now: float) -> list[FlowChange]:
    """Sends what is due to a switch that takes everything."""
    sent: list[FlowChange] = []
    while (batch := take(flows, now)) is not None:
        sent += batch.changes
        flows.confirm(batch, now)
        assert len(sent) < 100, "it never comes to rest"
    return sent


class Reconciled(RuleBasedStateMachine):
    """A switch that answers late and sometimes refuses, that forgets, is changed behind our back or goes away."""

    def __init__(self) -> None:
        super().__init__()
        self.flows, self.bindings = reconciliation()
        self.now = 0.0
        self.switch: dict[FlowKey, Entry] = {}
        self.foreign: set[FlowKey] = set()
        self.under_way: deque[Batch] = deque()

    @rule(
        home_address=st.sampled_from(HOME_ADDRESSES),
        care_of_address=st.sampled_from(CARE_OF_ADDRESSES),
        lifetime=LIFETIMES,
        urgent=st.booleans(),
    )
    def put(self, home_address: Prefix, care_of_address: bytes, lifetime: int | None, urgent: bool) -> None:
        ends = None if lifetime is None else self.now + lifetime
        before = self.bindings.held.get(home_address)
        backend = before[1] if before else 0
        self.bindings.held[home_address] = (care_of_address, backend, ends)
        if before is None or before[0] != care_of_address or refresh_matters(before[2], ends, self.now):
            leaving = () if before is None else (downlink(home_address).key, uplink(before[0]).key)
            self.flows.touch(home_address, leaving, urgent)
            self.flows.touch(uplink(care_of_address).key, urgent=urgent)

    @rule(home_address=st.sampled_from(HOME_ADDRESSES))
    def remove(self, home_address: Prefix) -> None:
        held = self.bindings.held.pop(home_address, None)
        if held is not None:
            self.flows.touch(home_address, (downlink(home_address).key, uplink(held[0]).key))

    @rule(backend=st.integers(0, 1))
    def move_backend(self, backend: int) -> None:
        for home_address, (care_of_address, _, ends) in self.bindings.held.items():
            self.bindings.held[home_address] = (care_of_address, backend, ends)
        self.flows.recheck()

    @rule(seconds=st.floats(0.1, 100_000.0))
    def pass_time(self, seconds: float) -> None:
        """The controller looks whenever it said that it would: flows of a binding that lives stand without a gap."""
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
        for entry in told.values():
            reading.add(entry)
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
            self.flows.removed(key, self.now)
        else:
            load(self.flows, self.switch.values(), self.foreign, self.now)  # as it is when the switch comes back

    @invariant()
    def settles(self) -> None:
        """Once the switch takes everything, it has what is desired, no longer than desired, and peace returns."""
        flows, switch = copy.deepcopy(self.flows), dict(self.switch)
        batches = copy.deepcopy(self.under_way)
        while (batch := batches.popleft() if batches else take(flows, self.now)) is not None:
            flows.confirm(batch, self.now)
            for change in batch.changes:
                carry_out(switch, change)
        assert flows.settled
        desired = {entry.flow.key: entry for entry in self.bindings.all_flows(self.now)}
        not_yet: set[FlowKey] = set()
        for care_of_address in CARE_OF_ADDRESSES:  # of who shares a care-of address, all flows stand or none
            users = self.bindings.at(care_of_address)
            together = {uplink(care_of_address).key, *(downlink(home_address).key for home_address in users)}
            if users and any(key in self.foreign or flows.rejections.forbids(key, self.now) for key in together):
                for key in together:
                    del desired[key]
                if flows.rejections.forbids_deletion(uplink(care_of_address).key, self.now):
                    not_yet |= together  # the uplink flow goes first
        for key, (flow, ends) in ((key, (entry.flow, entry.expires_at)) for key, entry in desired.items()):
            if ends is not None and ends - self.now < 1:
                continue
            assert switch[key].flow == flow
            if ends is None:
                assert switch[key].expires_at is None
            else:
                installed_until = switch[key].expires_at
                assert installed_until is not None
                # The thousandth of what was left when it was looked at last: half of that is gone at the most.
                assert installed_until <= ends + 2.2 + min(4.0, (ends - self.now) / 500)
                assert installed_until > self.now
        standing = {key for key, entry in switch.items() if entry.expires_at is None or entry.expires_at > self.now}
        extra = standing - set(desired) - self.foreign - not_yet
        assert all(flows.rejections.forbids_deletion(key, self.now) for key in extra), "flows that nobody desires stay"

    def _end_lifetimes(self) -> None:
        for home_address, (_, _, ends) in list(self.bindings.held.items()):
            if ends is not None and ends <= self.now:
                self.remove(home_address)
        self.switch = {
            key: entry for key, entry in self.switch.items() if entry.expires_at is None or entry.expires_at > self.now
        }


def carry_out(switch: dict[FlowKey, Entry], change: FlowChange) -> None:
    """What a switch does."""
    if change.add:
        assert 0 <= change.hard_timeout <= LONGEST_TIMEOUT
        switch[change.flow.key] = Entry(change.flow, change.expires_at)
    else:
        switch.pop(change.flow.key, None)


Reconciled.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestReconciled = Reconciled.TestCase


@given(st.floats(1.0, 1e6), st.floats(0, 1e6))
def test_a_timeout_never_outlives_the_lifetime_by_more_than_a_moment(lifetime: float, now: float) -> None:
    assert hard_timeout(now + lifetime, now) <= lifetime + 0.11


def test_frequent_refreshes_cost_a_rewrite_at_half_of_what_is_left() -> None:
    flows, bindings = reconciliation()
    key, sent = HOME_ADDRESSES[0], 0
    bindings.held[key] = (CARE_OF_ADDRESSES[0], 0, 60.0)
    flows.touch(key)
    for second in range(0, 600, 3):
        bindings.held[key] = (CARE_OF_ADDRESSES[0], 0, second + 60.0)  # nobody is told
        sent += len(apply(flows, float(second)))
        assert flows.installed.has(downlink(), float(second))
    assert 2 * 15 <= sent <= 2 * 30


@pytest.mark.parametrize(("lifetime", "sooner", "sent"), [(3600.0, 5.0, 0), (3600.0, 7.0, 2), (60.0, 3.0, 2)])
def test_an_end_that_moves_as_reports_take_time_costs_no_flow(lifetime: float, sooner: float, sent: int) -> None:
    flows, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0, lifetime)
    flows.touch(HOME_ADDRESSES[0])
    apply(flows, 0.0)
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0, lifetime - sooner)
    assert refresh_matters(lifetime, lifetime - sooner, 0.0) is bool(sent)
    flows.touch(HOME_ADDRESSES[0])
    assert len(apply(flows, 0.0)) == sent


def test_flows_of_a_kind_come_together() -> None:
    flows, bindings = reconciliation()
    for home_address, care_of_address in zip(HOME_ADDRESSES, CARE_OF_ADDRESSES, strict=False):
        bindings.held[home_address] = (care_of_address, 0, 60.0)
        flows.touch(home_address)
    batch = take(flows, 0.0)
    assert batch is not None
    assert [change.flow.kind for change in batch.changes] == [Kind.UPLINK] * 2 + [Kind.DOWNLINK] * 2


@given(st.integers(6, 900), st.data())
def test_a_flow_stands_as_long_as_its_binding_is_refreshed_in_time(lifetime: int, data: st.DataObject) -> None:
    flows, bindings = reconciliation()
    key, now, ends = HOME_ADDRESSES[0], 0.0, 0.0
    for _ in range(10):
        before, ends = ends, now + lifetime
        bindings.held[key] = (CARE_OF_ADDRESSES[0], 0, ends)
        if before == 0.0 or refresh_matters(before, ends, now):
            flows.touch(key)
        apply(flows, now)
        until = now + data.draw(st.floats(0.5, lifetime - 3.0))
        while (due := flows.next_due()) is not None and due < until:
            now = due
            assert flows.installed.has(downlink(), now - 0.01)
            apply(flows, now)
        now = until
        assert flows.installed.has(downlink(), now)


def test_gates_are_renewed_each_time() -> None:
    flows, _ = reconciliation()
    gate = pipeline.downlink_gate(HOME_PREFIX)
    for second in range(0, 30, 3):
        flows.want(gate, second + 10.0)
        assert [change.hard_timeout for change in apply(flows, float(second))] == [10]


def test_lifetimes_longer_than_openflow_can_count_are_kept_alive() -> None:
    flows, now = reconciliation()[0], 0.0
    flows.want(downlink(), 262_140.0)
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
    old, new = pipeline.uplink_gate(HOME_AGENT, pipeline.IPPROTO_IPV6), downlink()
    flows, _ = reconciliation((Entry(old, 10.0), Entry(downlink(HOME_ADDRESSES[1]), None)))
    gate = pipeline.downlink_gate(HOME_PREFIX)
    flows.want(gate, 10.0)
    flows.want(new)
    sent = [(change.flow, change.add) for change in apply(flows, 0.0)]
    closing, opening = sent.index((old, False)), sent.index((gate, True))
    assert set(sent) == {(old, False), (new, True), (downlink(HOME_ADDRESSES[1]), False), (gate, True)}
    assert opening == len(sent) - 1
    assert closing < sent.index((downlink(HOME_ADDRESSES[1]), False))


def test_no_gate_opens_before_everything_else_is_confirmed() -> None:
    flows, bindings = reconciliation()
    gate = pipeline.downlink_gate(HOME_PREFIX)
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0, None)
    flows.touch(HOME_ADDRESSES[0])
    flows.want(gate, 10.0)
    batch = take(flows, 0.0)
    assert batch is not None
    assert gate not in [change.flow for change in batch.changes]
    assert take(flows, 0.0) is None
    flows.refuse(batch, {0: "table full"}, False, 0.0)
    assert [change.flow for change in apply(flows, 0.0)] == [gate], "the binding's other flow stays away, too"


def test_a_gate_opens_although_there_is_always_something_to_do() -> None:
    flows, bindings = reconciliation()
    gate = pipeline.downlink_gate(HOME_PREFIX)

    def move(number: int) -> Batch:
        home_address = HOME_ADDRESSES[number % 5]
        bindings.held[home_address] = (parse_address(f"2001:db8:{number:x}::2"), 0, None)
        flows.touch(home_address)
        batch = flows.take_urgent(0.0, 4)
        assert batch is not None
        return batch

    under_way = [move(2)]
    flows.want(gate, 10.0)
    opened = []
    for number in range(3, 10):
        under_way.append(move(number))  # before the one before is answered
        flows.confirm(under_way.pop(0), 0.0)
        opened += [change.flow for change in under_way[-1].changes if change.flow == gate]
        assert not flows.settled
    assert opened
    assert flows.installed.has(gate, 0.0)


def test_what_comes_while_the_switch_is_busy_collapses_into_the_newest() -> None:
    flows, bindings = reconciliation()
    home_address = HOME_ADDRESSES[0]

    def move(care_of_address: bytes) -> None:
        former = bindings.held.get(home_address)
        bindings.held[home_address] = (care_of_address, 0, None)
        flows.touch(home_address, () if former is None else (uplink(former[0]).key,))

    first, *others = [parse_address(f"2001:db8:{link:x}::2") for link in range(2, 100)]
    move(first)
    batch = take(flows, 0.0)
    assert batch is not None
    for care_of_address in others:
        move(care_of_address)
        assert take(flows, 0.0) is None, "one change at a time is under way for a home address"
    flows.confirm(batch, 0.0)
    sent = apply(flows, 0.0)
    assert {(change.flow, change.add) for change in sent} == {(uplink(others[-1]), True), (uplink(first), False)}


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("answered", [False, True])
def test_what_changes_while_the_switch_is_read_is_no_drift(carried_out: bool, answered: bool) -> None:
    flows, bindings = reconciliation()
    leaving, coming = (downlink(home_address) for home_address in HOME_ADDRESSES[:2])
    care_of_address = parse_address("2001:db8:2::2")
    bindings.held[HOME_ADDRESSES[0]] = (care_of_address, 0, None)
    flows.touch(HOME_ADDRESSES[0])
    switch: dict[FlowKey, Entry] = {}
    for change in apply(flows, 0.0):
        carry_out(switch, change)
    del bindings.held[HOME_ADDRESSES[0]]
    bindings.held[HOME_ADDRESSES[1]] = (care_of_address, 0, None)
    flows.touch(HOME_ADDRESSES[0], (leaving.key,))
    flows.touch(HOME_ADDRESSES[1])
    batch = take(flows, 0.0)
    assert batch is not None
    reading = flows.begin_reading()
    after = dict(switch)
    for change in batch.changes:
        carry_out(after, change)
    assert coming.key in after
    assert leaving.key not in after
    for entry in (after if carried_out else switch).values():
        reading.add(entry)
    if answered:
        flows.confirm(batch, 0.0)
    flows.end_reading(0.0)
    assert answered or flows.confirm(batch, 0.0) == 0, "nothing was repaired"
    assert apply(flows, 0.0) == []
    assert flows.installed.keys() == after.keys()


def test_what_somebody_changed_is_put_right_when_the_switch_is_read_again() -> None:
    flows, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (parse_address("2001:db8:2::2"), 0, None)
    flows.touch(HOME_ADDRESSES[0])
    sent = apply(flows, 0.0)
    load(flows, [Entry(downlink(HOME_ADDRESSES[1]), None)], [], 0.0)
    batch = take(flows, 0.0)
    assert batch is not None
    assert flows.confirm(batch, 0.0) == len(sent) + 1
    assert {change.flow for change in batch.changes if change.add} == {change.flow for change in sent}
    assert [change.flow for change in batch.changes if not change.add] == [downlink(HOME_ADDRESSES[1])]


def test_urgent_changes_overtake_the_others() -> None:
    flows, bindings = reconciliation()
    for number, home_address in enumerate(HOME_ADDRESSES):
        bindings.held[home_address] = (parse_address(f"2001:db8:2::{number:x}"), 0, None)
        flows.touch(home_address, urgent=False)
    flows.touch(HOME_ADDRESSES[-1])
    batch = flows.take_urgent(0.0, limit=1)
    assert batch is not None
    assert batch.subjects == [HOME_ADDRESSES[-1]]
    assert flows.take_urgent(0.0, limit=1) is None
    assert len(apply(flows, 0.0)) == 2 * (len(HOME_ADDRESSES) - 1)


def test_a_refused_flow_is_tried_again_later_each_time() -> None:
    flows, now, tries = reconciliation()[0], 0.0, []
    flows.want(downlink())
    for _ in range(6):
        batch = take(flows, now)
        assert batch is not None
        flows.refuse(batch, {0: "table full"}, False, now)
        tries.append(now)
        assert take(flows, now) is None
        due = flows.next_due()
        assert due is not None
        now = due
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]
    rejection = flows.rejections.get(downlink().key)
    assert rejection is not None
    assert rejection.reason == "table full"
    apply(flows, now)
    assert flows.rejections.get(downlink().key) is None


def test_who_waited_for_another_at_its_care_of_address_is_brought_when_that_is_gone() -> None:
    flows, bindings = reconciliation()
    other, home_address = HOME_ADDRESSES[:2]
    load(flows, (), [downlink(other).key], 0.0)  # somebody else has a flow there
    for each in (other, home_address):
        bindings.held[each] = (CARE_OF_ADDRESSES[0], 0, None)
        flows.touch(each)
    path = uplink(CARE_OF_ADDRESSES[0])
    apply(flows, 0.0)
    assert flows.is_barred(path.key)
    assert flows.count == 0
    del bindings.held[other]
    flows.touch(other, (downlink(other).key, path.key))
    assert {change.flow for change in apply(flows, 0.0)} == {downlink(home_address), path}


def test_a_refused_replacement_leaves_no_flow_of_the_binding() -> None:
    flows, bindings = reconciliation()
    home_address = HOME_ADDRESSES[0]
    bindings.held[home_address] = (CARE_OF_ADDRESSES[0], 0, None)
    flows.touch(home_address)
    apply(flows, 0.0)
    bindings.held[home_address] = (CARE_OF_ADDRESSES[0], 1, None)
    flows.touch(home_address)
    batch = take(flows, 0.0)
    assert batch is not None
    flows.refuse(batch, {0: "bad port"}, False, 0.0)
    gone = {(change.flow, change.add) for change in apply(flows, 0.0)}
    assert gone == {(downlink(), False), (uplink(CARE_OF_ADDRESSES[0]), False)}
