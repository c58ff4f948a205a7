# SPDX-License-Identifier: Apache-2.0
"""The bridge with several controllers: each is kept in step by itself, and what certifies freshness is right."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_bridge import member
from ha_bridge.commands import Announce, Failed, Send, Snapshot
from hoaflow.client.directory import FORGET, ClusterView
from tests.support.bridge import HOA, LINK_1, LINK_2, OTHER
from tests.support.bridge_world import UNREACHABLE, URL, ModelController, Registration, World, at_link_1, down

SECOND, THIRD = "http://192.0.2.2:8080", "http://192.0.2.3:8080"


def with_others(**changes: object) -> tuple[World, ModelController, ModelController]:
    """Return a world with three controllers that know of the one mobile node."""
    second, third = ModelController(), ModelController()
    world = at_link_1(others={SECOND: second, THIRD: third}, **changes)
    assert second.care_of() == third.care_of() == {HOA: LINK_1}
    return world, second, third


def test_each_controller_gets_everything_and_the_home_agent_is_read_once() -> None:
    world, second, third = with_others(kernel=True, poll=3.0)
    readings = world.home_agent.readings.total()
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.change()
    world.run(0.02)
    assert world.care_of() == second.care_of() == third.care_of() == {HOA: LINK_2}
    assert world.home_agent.readings.total() == readings + 1
    assert [each.count(Send) for each in (world, second, third)] == [1, 1, 1]


@pytest.mark.parametrize("failure", [UNREACHABLE, Failed("500", reached=True), "slow"], ids=["dead", "500", "slow"])
def test_a_failing_controller_delays_no_other(failure: Failed | str) -> None:
    world, second, third = with_others(kernel=True, poll=3.0)
    if isinstance(failure, Failed):
        second.fail = lambda command: failure
    else:
        second.delay = 60.0
    renewed = len(third.renewed)
    for turn in range(20):
        care_of = LINK_2 if turn % 2 == 0 else LINK_1
        world.cache[HOA] = Registration(care_of, sequence=turn + 2)
        world.change()
        world.run(0.02)
        assert world.care_of() == third.care_of() == {HOA: care_of}
        world.run(1.98)
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(third.renewed[renewed:])]
    assert max(gaps) < 2.1
    assert third.count(Snapshot) == 1
    second.fail, second.delay = lambda command: None, 0.0
    world.run(65 if failure == "slow" else 6)
    assert second.care_of() == world.care_of()


def test_several_controllers_are_renewed_more_often_than_one() -> None:
    alone, (world, second, _) = at_link_1(), with_others()
    for each in (alone, world):
        each.run(60)
    assert 19 <= len(alone.renewed) <= 22
    assert 29 <= len(second.renewed) <= 32


def test_a_restarted_controller_gets_a_snapshot_and_the_others_none() -> None:
    world, second, third = with_others()
    second.restart()
    world.run(3)
    assert second.care_of() == {HOA: LINK_1}
    assert [each.count(Snapshot) for each in (world, second, third)] == [1, 2, 1]


def test_members_are_found_by_one_address_and_dropped_when_they_have_vanished() -> None:
    second = ModelController()
    world = World(others={SECOND: second}, configured=(URL,))
    world.cluster = ClusterView("hoaflow", "a", {"a": URL, "b": SECOND})
    second.cluster = ClusterView("hoaflow", "b", {"a": URL, "b": SECOND})
    world.cache[HOA] = Registration(LINK_1)
    world.run(1)
    assert second.care_of() == {HOA: LINK_1}
    second.fail = lambda command: UNREACHABLE
    world.run(FORGET)
    world.cluster = ClusterView("hoaflow", "a", {"a": URL})
    world.run(FORGET + 30)
    attempts = second.count(Announce)
    world.run(60)
    assert second.count(Announce) == attempts
    assert len(world.events("member-dropped")) == 1


def test_a_name_with_several_addresses_is_several_controllers() -> None:
    name, second = "http://controllers:8080", ModelController()
    world = World(others={SECOND: second}, configured=(name,), names={name: ("192.0.2.1", "192.0.2.2")})
    world.cache[HOA] = Registration(LINK_1)
    world.run(1)
    assert world.care_of() == second.care_of() == {HOA: LINK_1}


def test_home_agents_death_and_suspension_are_told_to_all() -> None:
    world, second, third = with_others()
    world.unreadable = down
    world.run(3)
    assert {each.status for each in (world, second, third)} == {"ha-down"}
    world.unreadable = lambda: None
    world.run(3)
    assert {each.status for each in (world, second, third)} == {"up"}
    assert len(world.events("ha-down")) == 1


def test_a_controller_that_restarts_while_the_home_agent_is_down_gets_what_is_known() -> None:
    world, second, third = with_others()
    world.unreadable = down
    world.run(3)
    second.restart()
    world.run(6)
    assert second.care_of() == {HOA: LINK_1}
    assert second.certified[-1] > world.now - 2.1
    assert third.count(Snapshot) == 1, "what the others have is frozen"


def test_a_bridge_that_starts_while_the_home_agent_is_down_certifies_what_its_former_self_has_told() -> None:
    world = World(unreadable=down)
    world.held[HOA] = (LINK_1, 2000.0, None)
    world.run(20)
    assert (world.status, world.care_of()) == ("ha-down", {HOA: LINK_1})
    assert world.certified[-1] > world.now - 3.1


def test_a_renewal_is_certified_only_by_a_controller_that_knows_everything() -> None:
    world, second, third = with_others()
    second.fail = lambda command: Failed("500", reached=True) if isinstance(command, Send | Snapshot) else None
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.run(3)
    before = [len(each.certified) for each in (world, second, third)]
    world.run(10)
    certified = [len(each.certified) - former for each, former in zip((world, second, third), before, strict=True)]
    assert certified == [5, 0, 5]
    assert len(second.renewed) > len(second.certified) + 4, "its lease goes on"
    second.fail = lambda command: None
    world.run(10)
    assert second.certified[-1] > world.now - 2.1


def test_changes_that_cancel_out_are_certified_without_being_told() -> None:
    world = at_link_1(kernel=True, poll=3.0, lifetimes=False)
    world.delay = 2.0
    for home, care_of in ((OTHER, LINK_1), (HOA, LINK_2), (HOA, LINK_1)):  # the last two while the first is reported
        world.cache[home] = Registration(care_of)
        world.change()
        world.run(0.1)
    world.delay = 0.0
    world.run(15)
    assert world.certified[-1] > world.now - 3.1
    assert (world.count(Send), world.count(Snapshot)) == (1, 1)


def test_part_of_the_changes_certifies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "BATCH", 2)
    world = at_link_1()
    world.cache |= {f"2001:db8:99::{n:x}": Registration(LINK_2) for n in range(0x200, 0x205)}
    world.run(1.2)
    assert len(world.care_of()) == 6
    numbers = [command.last_change for command in world.commands if isinstance(command, Send)]
    assert numbers == [None, None, world.last_change]


@given(st.data())
def test_no_controller_that_is_behind_ever_certifies(data: st.DataObject) -> None:
    world = World(others={SECOND: ModelController()}, poll=1.0)
    controllers = [world, world.others[SECOND]]
    homes = [HOA, OTHER]
    for _ in range(data.draw(st.integers(3, 15))):
        what = data.draw(st.sampled_from(["move", "leave", "fail", "mend", "slow", "restart"]))
        which = data.draw(st.sampled_from(controllers))
        home = data.draw(st.sampled_from(homes))
        if what == "move":
            world.cache[home] = Registration(data.draw(st.sampled_from([LINK_1, LINK_2])), world.now + 1000, 1000)
        elif what == "leave":
            world.cache.pop(home, None)
        elif what == "fail":
            which.fail = lambda command: UNREACHABLE if isinstance(command, Send | Snapshot) else None
        elif what == "mend":
            which.fail, which.delay = lambda command: None, 0.0
        elif what == "slow":
            which.delay = 1.5
        else:
            which.restart()
        shown = {home: it.care_of for home, it in world.cache.items()}
        world.run(data.draw(st.floats(1.1, 8)))
        for each in controllers:
            # A reading every second: what has been shown for longer must be known to whoever certifies.
            if each.certified and each.certified[-1] > world.now - 0.05 and each.delay == 0.0:
                assert each.care_of() == shown
    for each in controllers:
        each.fail, each.delay = lambda command: None, 0.0
    world.run(20)
    for each in controllers:
        assert each.care_of() == {home: it.care_of for home, it in world.cache.items()}
        assert each.certified[-1] > world.now - 3.1
