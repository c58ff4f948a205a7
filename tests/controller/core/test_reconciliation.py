# SPDX-License-Identifier: Apache-2.0
"""Desired versus installed: whatever happens, the switch ends with what is desired, and nothing is sent twice."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.core import pipeline
from controller.core.batches import Batch
from controller.core.flow_reading import FlowReading
from controller.core.flows import Flow, FlowKey, Kind
from controller.core.installed import FlowEntry, InstalledFlows
from controller.core.reconciliation import Reconciliation
from controller.core.subject_reconciler import ADOPTED_REVIEW
from controller.core.timeouts import hard_timeout
from controller.core.urgency import Urgency
from controller.core.withdrawals import ANSWERED_WITHIN
from hoaflow.addresses import parse_address, parse_prefix
from tests.support.reconciliation import (
    CARE_OF_ADDRESSES,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    Bindings,
    apply,
    carry_out,
    downlink,
    load,
    reconciliation,
    take,
    uplink,
)

GATE = pipeline.downlink_gate(HOME_PREFIX)


def bound(*gates: Flow) -> tuple[Reconciliation, Bindings]:
    """Return one to which HOME_ADDRESSES[0] at CARE_OF_ADDRESSES[0] is new, and which requires gates until 10.0."""
    flows, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0)
    flows.queue(HOME_ADDRESSES[0])
    for gate in gates:
        flows.require(gate, 10.0)
    return flows, bindings


def due(flows: Reconciliation, now: float) -> Batch:
    """Return the next batch, which there has to be."""
    batch = take(flows, now)
    assert batch is not None
    return batch


@given(st.floats(1.0, 1e6), st.floats(0, 1e6))
def test_a_timeout_never_outlives_the_lifetime_by_more_than_a_moment(lifetime: float, now: float) -> None:
    assert hard_timeout(now + lifetime, now) <= lifetime + 0.11


def test_a_bindings_flow_has_no_timeout_and_is_never_sent_again() -> None:
    flows, _ = bound()
    assert [(change.hard_timeout, change.expires_at) for change in apply(flows, 0.0)] == [(0, None)] * 2
    assert flows.next_due() is None
    flows.queue(HOME_ADDRESSES[0])
    assert apply(flows, 1e6) == []
    assert flows.installed.has(downlink(), 1e6)


def test_a_flow_of_an_earlier_version_that_ends_by_itself_is_replaced_in_place() -> None:
    flows, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0)
    flows.forget_installed()
    load(flows, [FlowEntry(downlink(), 60.0), FlowEntry(uplink(CARE_OF_ADDRESSES[0]), None)], [], 0.0)
    assert [(change.flow, change.add, change.hard_timeout) for change in apply(flows, 0.0)] == [(downlink(), True, 0)]
    assert apply(flows, 0.0) == []
    assert flows.installed.has(downlink(), 61.0)


def test_flows_of_a_kind_come_together() -> None:
    flows, bindings = reconciliation()
    for home_address, care_of_address in zip(HOME_ADDRESSES, CARE_OF_ADDRESSES, strict=False):
        bindings.held[home_address] = (care_of_address, 0)
        flows.queue(home_address)
    batch = due(flows, 0.0)
    assert [change.flow.kind for change in batch.changes] == [Kind.UPLINK] * 2 + [Kind.DOWNLINK] * 2


def test_gates_are_renewed_each_time() -> None:
    flows, _ = reconciliation()
    for second in range(0, 30, 3):
        flows.require(GATE, second + 10.0)
        assert [change.hard_timeout for change in apply(flows, float(second))] == [10]


def test_a_gate_is_not_renewed_while_the_switch_refuses_to_delete_what_it_leads_to() -> None:
    other = pipeline.downlink_gate(parse_prefix("2001:db8:98::/64"))
    flows, bindings = bound(GATE, other)
    apply(flows, 0.0)
    del bindings.held[HOME_ADDRESSES[0]]
    flows.queue(HOME_ADDRESSES[0], (downlink().key, uplink(CARE_OF_ADDRESSES[0]).key))
    batch = due(flows, 1.0)
    refused = {place: "refused" for place, change in enumerate(batch.changes) if change.flow == downlink()}
    flows.refuse(batch, refused, True, 1.0)
    flows.require(GATE, 11.5)
    flows.require(other, 11.5)
    assert [change.flow for change in apply(flows, 1.5)] == [other]
    assert [change.flow for change in apply(flows, 3.0)] == [downlink()], "the deletion is tried again, and done"
    flows.require(GATE, 13.0)
    assert [change.flow for change in apply(flows, 3.0)] == [GATE]


def test_a_gate_is_not_renewed_while_a_deletion_is_unanswered_for_long() -> None:
    flows, bindings = bound(GATE)
    apply(flows, 0.0)
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[1], 0)  # a handover replaces its flow
    flows.queue(HOME_ADDRESSES[0], (downlink().key, uplink(CARE_OF_ADDRESSES[0]).key))
    handover = due(flows, 1.0)
    for second in (2.0, 3.0):
        flows.require(GATE, second + 10)
        assert [change.flow for change in apply(flows, second)] == [GATE]
    for second in (1.0 + ANSWERED_WITHIN, 9.0):
        flows.require(GATE, second + 10)
        assert apply(flows, second) == []
    flows.confirm(handover, 9.5)
    flows.require(GATE, 19.5)
    assert [change.flow for change in apply(flows, 9.5)] == [GATE]


def test_a_flow_that_is_desired_again_holds_up_no_gate() -> None:
    flows, bindings = bound(GATE)
    apply(flows, 0.0)
    for care_of_address in reversed(CARE_OF_ADDRESSES):  # away and back before anything is sent
        (former, _), present = bindings.held[HOME_ADDRESSES[0]], (care_of_address, 0)
        bindings.held[HOME_ADDRESSES[0]] = present
        flows.queue(HOME_ADDRESSES[0], (downlink().key, uplink(former).key))
    assert apply(flows, 1.0) == []
    flows.require(GATE, 19.0)
    assert [change.flow for change in apply(flows, 9.0)] == [GATE]


def test_a_gate_of_an_earlier_life_is_renewed_only_after_what_has_ended_meanwhile_is_gone() -> None:
    ended = downlink(HOME_ADDRESSES[1])
    flows, bindings = reconciliation()
    flows.require(GATE, 12.0)
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0)
    standing = [downlink(), uplink(CARE_OF_ADDRESSES[0]), ended]
    flows.forget_installed()
    load(flows, [FlowEntry(GATE, 5.0), *(FlowEntry(flow, None) for flow in standing)], [], 2.0)
    batch = due(flows, 2.0)
    assert [(change.flow, change.add) for change in batch.changes] == [(ended, False)]
    assert take(flows, 2.0) is None
    flows.confirm(batch, 2.0)
    assert [(change.flow, change.expires_at) for change in apply(flows, 2.0)] == [(GATE, 12.0)]


def test_gates_close_first_and_open_last() -> None:
    old, new = pipeline.uplink_gate(HOME_AGENT, pipeline.IPPROTO_IPV6), downlink()
    flows, _ = reconciliation((FlowEntry(old, 10.0), FlowEntry(downlink(HOME_ADDRESSES[1]), None)))
    flows.require(GATE, 10.0)
    flows.require(new)
    sent = [(change.flow, change.add) for change in apply(flows, 0.0)]
    closing, opening = sent.index((old, False)), sent.index((GATE, True))
    assert set(sent) == {(old, False), (new, True), (downlink(HOME_ADDRESSES[1]), False), (GATE, True)}
    assert opening == len(sent) - 1
    assert closing < sent.index((downlink(HOME_ADDRESSES[1]), False))


def test_no_gate_opens_before_everything_else_is_confirmed() -> None:
    flows, _ = bound(GATE)
    batch = due(flows, 0.0)
    assert GATE not in [change.flow for change in batch.changes]
    assert take(flows, 0.0) is None
    flows.refuse(batch, {0: "table full"}, False, 0.0)
    assert [change.flow for change in apply(flows, 0.0)] == [GATE], "the binding's other flow stays away, too"


def test_a_gate_opens_although_there_is_always_something_to_do() -> None:
    flows, bindings = reconciliation()

    def move(number: int) -> Batch:
        home_address = HOME_ADDRESSES[number % 5]
        bindings.held[home_address] = (parse_address(f"2001:db8:{number:x}::2"), 0)
        flows.queue(home_address)
        batch = flows.next_urgent_batch(0.0, 4)
        assert batch is not None
        return batch

    under_way = [move(2)]
    flows.require(GATE, 10.0)
    opened = []
    for number in range(3, 10):
        under_way.append(move(number))  # before the one before is answered
        flows.confirm(under_way.pop(0), 0.0)
        opened += [change.flow for change in under_way[-1].changes if change.flow == GATE]
        assert not flows.settled
    assert opened
    assert flows.installed.has(GATE, 0.0)


def test_what_comes_while_the_switch_is_busy_collapses_into_the_newest() -> None:
    flows, bindings = reconciliation()
    home_address = HOME_ADDRESSES[0]

    def move(care_of_address: bytes) -> None:
        former = bindings.held.get(home_address)
        bindings.held[home_address] = (care_of_address, 0)
        flows.queue(home_address, () if former is None else (uplink(former[0]).key,))

    first, *others = [parse_address(f"2001:db8:{link:x}::2") for link in range(2, 100)]
    move(first)
    batch = due(flows, 0.0)
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
    bindings.held[HOME_ADDRESSES[0]] = (care_of_address, 0)
    flows.queue(HOME_ADDRESSES[0])
    switch: dict[FlowKey, FlowEntry] = {}
    for change in apply(flows, 0.0):
        carry_out(switch, change)
    del bindings.held[HOME_ADDRESSES[0]]
    bindings.held[HOME_ADDRESSES[1]] = (care_of_address, 0)
    flows.queue(HOME_ADDRESSES[0], (leaving.key,))
    flows.queue(HOME_ADDRESSES[1])
    batch = due(flows, 0.0)
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
    assert flows.installed.all().keys() == after.keys()


def test_what_somebody_changed_is_put_right_when_the_switch_is_read_again() -> None:
    flows, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (parse_address("2001:db8:2::2"), 0)
    flows.queue(HOME_ADDRESSES[0])
    sent = apply(flows, 0.0)
    load(flows, [FlowEntry(downlink(HOME_ADDRESSES[1]), None)], [], 0.0)
    batch = due(flows, 0.0)
    assert flows.confirm(batch, 0.0) == len(sent) + 1
    assert {change.flow for change in batch.changes if change.add} == {change.flow for change in sent}
    assert [change.flow for change in batch.changes if not change.add] == [downlink(HOME_ADDRESSES[1])]


def test_what_nobody_needs_any_more_is_never_repaired() -> None:
    flows, bindings = bound()
    apply(flows, 0.0)
    held = bindings.held.copy()
    bindings.held.clear()
    for _ in range(2):
        load(flows, [], [], 0.0)  # somebody has deleted it just before it had to go
        assert apply(flows, 0.0) == []
    bindings.held.update(held)
    flows.queue(HOME_ADDRESSES[0])
    assert flows.confirm(due(flows, 0.0), 0.0) == 0


def test_what_others_lack_has_no_unit_recorded_flow_by_flow() -> None:
    flows, bindings = bound()
    apply(flows, 0.0)
    load(flows, [], [], 0.0)
    bindings.held[HOME_ADDRESSES[1]] = (CARE_OF_ADDRESSES[1], 0)
    flows.queue(HOME_ADDRESSES[1])
    assert flows.confirm(due(flows, 0.0), 0.0) == 0
    assert flows.installed.unit(HOME_ADDRESSES[1]) is not None


def test_a_flow_that_is_gone_is_noticed_although_its_unit_has_changed_while_the_switch_was_read() -> None:
    """Another mobile node arrives at the care-of address, and the downlink flow is repaired meanwhile."""
    _, bindings = reconciliation()
    bindings.held[HOME_ADDRESSES[0]] = (CARE_OF_ADDRESSES[0], 0)
    alone = bindings.unit_of(HOME_ADDRESSES[0], 0.0)
    assert alone is not None
    sharing, installed = replace(alone, sole=False), InstalledFlows()
    for flow in alone.flows:
        installed.put(flow, None)
    assert installed.claim_unit(alone, alone.flows)
    reading = FlowReading(installed)
    installed.remove(alone.downlink_key)
    installed.put(alone.downlink, None)
    reading.pass_by([alone.downlink_key])
    assert installed.claim_unit(sharing, sharing.flows)
    reading.add(FlowEntry(alone.downlink, None))
    assert reading.end(0.0).drifted == [alone.uplink_key]


def test_urgent_changes_overtake_the_others() -> None:
    flows, bindings = reconciliation()
    for number, home_address in enumerate(HOME_ADDRESSES):
        bindings.held[home_address] = (parse_address(f"2001:db8:2::{number:x}"), 0)
        flows.queue(home_address, urgency=Urgency.ROUTINE)
    flows.queue(HOME_ADDRESSES[-1])
    batch = flows.next_urgent_batch(0.0, limit=1)
    assert batch is not None
    assert batch.subjects == [HOME_ADDRESSES[-1]]
    assert flows.next_urgent_batch(0.0, limit=1) is None
    assert len(apply(flows, 0.0)) == 2 * (len(HOME_ADDRESSES) - 1)


def test_a_refused_flow_is_tried_again_later_each_time() -> None:
    flows, now, tries = reconciliation()[0], 0.0, []
    flows.require(downlink())
    for _ in range(6):
        batch = due(flows, now)
        flows.refuse(batch, {0: "table full"}, False, now)
        tries.append(now)
        assert take(flows, now) is None
        retry_at = flows.next_due()
        assert retry_at is not None
        now = retry_at
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]
    refusal = flows.refused.get(downlink().key)
    assert refusal is not None
    assert refusal.reason == "table full"
    apply(flows, now)
    assert flows.refused.get(downlink().key) is None


def test_who_waited_for_another_at_its_care_of_address_is_brought_when_that_is_gone() -> None:
    flows, bindings = reconciliation()
    other, home_address = HOME_ADDRESSES[:2]
    load(flows, (), [downlink(other).key], 0.0)  # somebody else has a flow there
    for each in (other, home_address):
        bindings.held[each] = (CARE_OF_ADDRESSES[0], 0)
        flows.queue(each)
    path = uplink(CARE_OF_ADDRESSES[0])
    apply(flows, 0.0)
    assert flows.is_barred(path.key)
    assert flows.count == 0
    del bindings.held[other]
    flows.queue(other, (downlink(other).key, path.key))
    assert {change.flow for change in apply(flows, 0.0)} == {downlink(home_address), path}


def test_a_refused_replacement_leaves_no_flow_of_the_binding() -> None:
    flows, bindings = reconciliation()
    home_address = HOME_ADDRESSES[0]
    bindings.held[home_address] = (CARE_OF_ADDRESSES[0], 0)
    flows.queue(home_address)
    apply(flows, 0.0)
    bindings.held[home_address] = (CARE_OF_ADDRESSES[0], 1)
    flows.queue(home_address)
    batch = due(flows, 0.0)
    flows.refuse(batch, {0: "bad port"}, False, 0.0)
    gone = {(change.flow, change.add) for change in apply(flows, 0.0)}
    assert gone == {(downlink(), False), (uplink(CARE_OF_ADDRESSES[0]), False)}


def test_flows_that_may_not_be_deleted_yet_are_looked_at_once_and_then_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unit that is not desired any more has more flows than each of the others."""
    monkeypatch.setattr("controller.core.reconciliation.SUBJECTS_AT_ONCE", 1)
    monkeypatch.setattr(Bindings, "may_delete", lambda *_: False)
    flows, bindings = reconciliation()
    alone, shared, other = *CARE_OF_ADDRESSES, parse_address("2001:db8:4::2")
    for home_address, care_of_address in zip(HOME_ADDRESSES, (alone, other, *[shared] * 3), strict=True):
        bindings.held[home_address] = (care_of_address, 0)
    for home_address in HOME_ADDRESSES:
        flows.queue(home_address)
    apply(flows, 0.0)
    for home_address in HOME_ADDRESSES[:2]:
        del bindings.held[home_address]
    flows.recheck()
    for _ in range(100):
        assert flows.next_urgent_batch(0.0, limit=4) is flows.next_batch(0.0, limit=4) is None
    assert not flows.dirty
    assert flows.next_due() == ADOPTED_REVIEW
