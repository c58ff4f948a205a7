# SPDX-License-Identifier: Apache-2.0
"""A master that reads a switch back sends what differs and nothing else, whatever happens while it compares."""

from collections.abc import Iterator

import pytest

from controller.core.flows import Kind
from controller.core.sessions import Session
from controller.core.traffic import Counters
from hoaflow.addresses import Prefix
from tests.support.mastership_core import (
    CARE_OF_ADDRESSES,
    HOME_ADDRESSES,
    PORTS,
    Core,
    SwitchFlows,
    desired,
    read,
)
from tests.support.told_flows import as_told

BEFORE, NOW = 95.0, 100.0
BOUND = dict(zip(HOME_ADDRESSES, CARE_OF_ADDRESSES, strict=False))
MOVED = {**BOUND, HOME_ADDRESSES[1]: CARE_OF_ADDRESSES[2]}


@pytest.fixture(autouse=True)
def one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.core.first_reading.AT_ONCE", 1)


@pytest.fixture
def switch() -> SwitchFlows:
    """Return a switch whose former master has carried the bindings in `BOUND`."""
    core, found = Core([1], BOUND, BEFORE), SwitchFlows()
    session = core.open(1, BEFORE)
    read(session, [], BEFORE)
    send(session, found, BEFORE)
    assert found.of_bindings() == desired(core.router(1), BOUND)
    assert found.has_gates(NOW)
    return found


def send(session: Session, switch: SwitchFlows, now: float = NOW) -> list[Kind]:
    """Have a switch carry out all that is due, and return the kinds of the flows that this was about."""
    kinds: list[Kind] = []
    while True:
        batches = [session.next_batch(urgent, now, 100) for urgent in (True, False)]
        if not any(batches) and not (session.has_urgent or session.has_bulk):
            return kinds
        for batch in batches:
            if batch is not None:
                kinds += [change.flow.kind for change in batch.changes]
                switch.take(batch, session)
                session.confirm(batch, now, now)


def steps(core: Core, switch: SwitchFlows) -> Iterator[Session]:
    """Read a switch back, and yield after each step of the comparison."""
    session = core.open(1, NOW)
    session.take_over(1, False, NOW)
    session.begin_reading(NOW)
    session.read(as_told(switch.entries(NOW)))
    while session.compare_read(PORTS, NOW):
        yield session
    yield session
    session.end_reading(PORTS, NOW)
    yield session


def test_of_flows_that_stand_as_desired_none_is_sent_again(switch: SwitchFlows) -> None:
    *_, session = steps(Core([1], BOUND, NOW), switch)
    assert not {Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY} & set(send(session, switch))


@pytest.mark.parametrize("at_once", [1, 300])
def test_what_has_gone_stale_is_put_right_before_a_gate_is_renewed(
    switch: SwitchFlows, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("controller.core.first_reading.AT_ONCE", at_once)
    core = Core([1], MOVED, NOW)
    *_, session = steps(core, switch)
    assert core.router(1).flows.installed.units().keys() == {HOME_ADDRESSES[0]}, "it is found though another differs"
    kinds = send(session, switch)
    assert Kind.GATE in kinds
    of_bindings = [at for at, kind in enumerate(kinds) if kind in (Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)]
    assert kinds.count(Kind.DOWNLINK) == 1, "only one has moved"
    assert max(of_bindings) < kinds.index(Kind.GATE)
    assert switch.of_bindings() == desired(core.router(1), MOVED)


@pytest.mark.parametrize("after", [1, 2], ids=["during", "at the end of"])
@pytest.mark.parametrize("home_address", HOME_ADDRESSES)
@pytest.mark.parametrize("place", [None, *CARE_OF_ADDRESSES], ids=["home", "2", "3", "4"])
def test_what_changes_while_flows_are_compared_is_followed(
    switch: SwitchFlows, after: int, home_address: Prefix, place: bytes | None
) -> None:
    core = Core([1], BOUND, NOW)
    comparing = steps(core, switch)
    for _ in range(after):
        session = next(comparing)
    core.report(home_address, place, NOW)
    assert list(comparing), "that was before the end"
    bound = {each: there for each, there in {**BOUND, home_address: place}.items() if there is not None}
    send(session, switch)
    assert switch.of_bindings() == desired(core.router(1), bound)


def test_after_many_changes_all_is_compared_again(switch: SwitchFlows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.core.first_reading.MOST_CHANGES", 0)
    core = Core([1], BOUND, NOW)
    comparing = steps(core, switch)
    session = next(comparing)
    core.report(HOME_ADDRESSES[0], CARE_OF_ADDRESSES[2], NOW)
    assert list(comparing), "that was before the end"
    send(session, switch)
    assert switch.of_bindings() == desired(core.router(1), {**BOUND, HOME_ADDRESSES[0]: CARE_OF_ADDRESSES[2]})


@pytest.mark.parametrize("gone", ["downlink", "uplink", "verify"])
@pytest.mark.parametrize("after", [1, 2], ids=["during", "at the end of"])
def test_what_goes_while_flows_are_compared_is_sent_again(switch: SwitchFlows, gone: str, after: int) -> None:
    core = Core([1], BOUND, NOW)
    comparing = steps(core, switch)
    for _ in range(after):
        session = next(comparing)
    keys = [entry.flow.key for entry in switch.entries(NOW) if entry.flow.kind is Kind[gone.upper()]]
    for key in keys:
        switch.lose(key)
        session.flow_removed(key, Counters(0, 0), False, NOW)
    assert list(comparing), "that was before the end"
    send(session, switch)
    assert switch.of_bindings() == desired(core.router(1), BOUND)


def test_what_has_gone_before_the_switch_is_read_is_not_missed_when_it_is_there_again(switch: SwitchFlows) -> None:
    core = Core([1], {}, NOW)
    session = core.open(1, NOW)
    session.take_over(1, False, NOW)
    session.begin_reading(NOW)
    for entry in switch.entries(NOW):
        session.flow_removed(entry.flow.key, Counters(0, 0), False, NOW)
    session.read(as_told(switch.entries(NOW)))
    session.end_reading(PORTS, NOW)
    send(session, switch)
    assert not switch.of_bindings(), "it was not known that it was there"


def test_one_that_is_back_before_a_switch_has_followed_is_active_again(switch: SwitchFlows) -> None:
    core = Core([1], BOUND, NOW)
    *_, session = steps(core, switch)
    send(session, switch)
    core.offload.tick(NOW)
    core.offload.take_events()
    core.report(HOME_ADDRESSES[0], CARE_OF_ADDRESSES[2], NOW)
    core.report(HOME_ADDRESSES[0], BOUND[HOME_ADDRESSES[0]], NOW)
    assert not send(session, switch), "nothing is to be changed"
    names = [event.name for event in core.offload.take_events()]
    assert names == ["binding-changed", "binding-changed", "binding-active"]
