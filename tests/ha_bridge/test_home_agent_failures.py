# SPDX-License-Identifier: Apache-2.0
"""What the bridge does when the home agent is down, or its terminal hangs."""

from ha_bridge.commands import Send, Snapshot
from ha_bridge.frozen_bindings import WITHOUT_LIFETIME
from ha_bridge.home_agent import UNCONFIRMED
from ha_bridge.model import ReadingFailed
from tests.support.bridge import HOA, LINK_1, LINK_2, OTHER
from tests.support.bridge_world import Registration, World, at_link_1, down, hung


def test_home_agent_down_freezes_bindings_until_it_answers() -> None:
    world = at_link_1()
    world.unreadable = down
    world.run(50)
    assert world.status == "ha-down"
    assert world.now - world.renewed[-1][0] < 3.1, "the lease goes on"
    assert world.care_of() == {HOA: LINK_1}
    sends, snapshots = world.count(Send), world.count(Snapshot)
    world.unreadable = lambda: None
    world.cache = {OTHER: Registration(LINK_2)}
    world.run(1.5)
    assert world.status == "up"
    assert world.care_of() == {OTHER: LINK_2}
    assert (world.count(Send), world.count(Snapshot)) == (sends, snapshots + 1)


def test_home_agent_down_from_the_start_is_announced() -> None:
    world = World(unreadable=down)
    world.run(5)
    assert world.status == "ha-down"
    assert world.count(Snapshot) == 0


def test_frozen_bindings_without_lifetimes_do_not_live_for_ever() -> None:
    world = at_link_1(lifetimes=False, kernel=True)
    world.unreadable = down
    world.run(WITHOUT_LIFETIME + 60)
    assert world.renewed[-1][0] < world.now - 50
    assert len(world.events("lease-suspended")) == 1


def test_hung_terminal_without_the_kernel_is_believed_for_one_lease() -> None:
    world = at_link_1()
    hang = world.now
    world.unreadable = hung
    world.run(60)
    assert 6 < world.renewed[-1][0] - hang <= 1 + 10
    assert world.status == "up", "it is not down"
    world.unreadable = lambda: None
    world.cache[HOA] = Registration(LINK_2)
    world.run(1.5)
    assert world.care_of() == {HOA: LINK_2}
    assert world.now - world.renewed[-1][0] < 1.5
    assert world.turns < 70 * 20, "no busy loop"


def test_looks_that_are_rare_by_choice_are_no_reason_for_doubt() -> None:
    world = at_link_1(poll=30.0)
    world.run(300)
    assert not world.events("lease-suspended")


def test_hung_terminal_with_a_quiet_kernel_is_no_reason_for_doubt() -> None:
    world = at_link_1(kernel=True, lifetimes=False)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.run(600)
    assert world.now - world.renewed[-1][0] < 3.1
    assert world.care_of() == {HOA: LINK_1}


def test_what_ends_while_the_terminal_hangs_stays_ended() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = hung
    world.run(62)
    for _ in range(300):
        assert world.care_of() == {}
        world.run(0.5)
    assert world.count(Snapshot) > 2


def test_hung_terminal_and_a_change_leaves_what_the_kernel_confirms() -> None:
    world = World(kernel=True)
    world.cache = {HOA: Registration(LINK_1), OTHER: Registration(LINK_1)}
    world.run(1)
    confirmed = {HOA: LINK_2, OTHER: LINK_1}
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed=confirmed)
    world.change()
    world.run(60)
    assert world.care_of() == {OTHER: LINK_1}
    assert world.withheld == {HOA: UNCONFIRMED}, "registered all the same"
    assert world.now - world.renewed[-1][0] < 3.1
    world.unreadable = lambda: None
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.run(2)
    assert (world.care_of(), world.withheld) == ({HOA: LINK_2, OTHER: LINK_1}, {})


def test_what_was_doubted_for_nothing_goes_direct_again() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.change()
    world.run(5)
    assert world.withheld == {HOA: UNCONFIRMED}
    world.unreadable = lambda: None
    world.run(2)
    assert (world.care_of(), world.withheld) == ({HOA: LINK_1}, {})


def test_what_the_home_agent_forgot_is_not_doubted_for_lack_of_a_tunnel() -> None:
    world = at_link_1(kernel=True)
    world.frozen = {HOA}
    world.run(4)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.change()
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={HOA: LINK_2})
    world.change()
    world.run(5)
    assert world.withheld == {HOA: UNCONFIRMED}, "it is known to be elsewhere"


def test_hung_terminal_and_a_change_nobody_can_read_lets_the_lease_go() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = hung
    world.run(30)
    world.change()
    changed = world.now
    world.run(60)
    assert world.renewed[-1][0] <= changed + 10
