# SPDX-License-Identifier: Apache-2.0
"""Bindings that flap are held back and say so; when they have calmed down, their newest care-of address is applied."""

import pytest

from controller.core.explanation import explain
from controller.core.flap_damping import PERIOD, FlapDamping
from controller.core.flows import Kind
from hoaflow.addresses import parse_address, parse_prefix
from tests.support.world import FIRST, HOME_ADDRESS, HOME_ADDRESSES, SECOND, TIMING, World, binding, established

LIMIT = TIMING.changes_a_second


@pytest.fixture
def world() -> World:
    """HOME_ADDRESS is bound to FIRST, and its traffic goes direct."""
    world = established()
    world.pass_time(PERIOD)
    world.event_names()
    return world


def settle(world: World) -> None:
    """Agent and switch catch up."""
    world.agent_follows()
    world.deliver()


def flap(world: World, times: int, first_sequence: int = 2) -> None:
    """Let the mobile node change its link so often, at once."""
    for number in range(times):
        world.post(care_of_address=(SECOND, FIRST)[number % 2], sequence=first_sequence + number)
        settle(world)


def test_as_many_changes_as_allowed_are_followed(world: World) -> None:
    flap(world, LIMIT)
    assert world.state() == "active"
    assert world.next_hop() == "2001:db8:2::2"
    assert "binding-held" not in world.event_names()


def test_one_more_is_held_back_and_the_newest_applied_when_it_has_calmed_down(world: World) -> None:
    flap(world, LIMIT + 1)
    assert world.state() == "held"
    assert world.next_hop() == "home agent"
    assert world.event_names().count("binding-held") == 1
    assert "changes more than 10 times a second" in explain(world.offload, HOME_ADDRESS, world.now).reason
    world.sent = 0
    flap(world, 8, first_sequence=100)
    assert world.sent == 0, "what is held back costs the switch nothing"
    assert world.event_names().count("binding-held") == 0
    world.pass_time(PERIOD)
    settle(world)
    assert world.state() == "active"
    assert world.next_hop() == "2001:db8:2::2"
    assert world.event_names().count("binding-active") == 1


def test_who_goes_on_flapping_stays_held(world: World) -> None:
    flap(world, LIMIT + 1)
    for round_ in range(4 * LIMIT):
        world.pass_time(PERIOD / LIMIT / 2)
        world.post(care_of_address=(SECOND, FIRST)[round_ % 2], sequence=1000 + round_)
        settle(world)
        assert world.state() == "held"
    for round_ in range(3):  # half as often as the limit
        world.pass_time(PERIOD / LIMIT * 2)
        world.announce()
        world.post(care_of_address=(SECOND, FIRST)[round_ % 2], sequence=2000 + round_)
    world.pass_time(PERIOD)
    settle(world)
    assert world.state() == "active"


def test_to_register_and_deregister_in_turn_is_flapping_too(world: World) -> None:
    for number in range(LIMIT + 1):
        world.post(sequence=2 + number, lifetime=(0, 60)[number % 2])
        settle(world)
    world.post(care_of_address=SECOND, sequence=100)
    settle(world)
    assert world.state() == "held"


def test_what_shares_the_care_of_address_of_one_that_is_held_takes_the_home_agents_path_with_it(world: World) -> None:
    world.post(HOME_ADDRESSES[1], SECOND)
    settle(world)
    assert world.state(HOME_ADDRESSES[1]) == "active"
    flap(world, LIMIT + 1)
    assert world.state(HOME_ADDRESSES[1]) == "pending"
    assert str(HOME_ADDRESS) in explain(world.offload, HOME_ADDRESSES[1], world.now).reason
    assert world.flows(Kind.UPLINK) == world.flows(Kind.DOWNLINK) == []
    assert HOME_ADDRESSES[1] in world.offload.activations.unconfirmed
    world.pass_time(PERIOD)
    settle(world)
    assert world.state() == world.state(HOME_ADDRESSES[1]) == "active"


def test_others_and_refreshes_are_not_held(world: World) -> None:
    flap(world, LIMIT + 1)
    elsewhere = parse_address("2001:db8:4::2")
    world.post(HOME_ADDRESSES[1], elsewhere)
    settle(world)
    assert world.state(HOME_ADDRESSES[1]) == "active"
    for number in range(2 * LIMIT):
        world.post(HOME_ADDRESSES[1], elsewhere, sequence=number, lifetime=60 + 5 * number)
    settle(world)
    assert world.state(HOME_ADDRESSES[1]) == "active"


def test_a_binding_that_is_held_goes_when_it_ends(world: World) -> None:
    flap(world, LIMIT + 1)
    world.offload.remove(HOME_ADDRESS, world.now)
    settle(world)
    assert world.state() == "none"
    world.pass_time(2 * PERIOD)
    assert world.next_hop() == "home agent"
    world.snapshot(binding(now=world.now))
    settle(world)
    assert world.state() == "active"


def test_nothing_is_remembered_of_those_that_have_calmed_down() -> None:
    flap_damping, now = FlapDamping(3), 0.0
    addresses = [parse_prefix(f"2001:db8:99::{number:x}") for number in range(100)]
    for _ in range(50):
        for address in addresses:
            flap_damping.count_change(address, now)
        now += 0.02
    assert all(flap_damping.suppresses(address) for address in addresses)
    while (release := flap_damping.next_release()) is not None:
        now = max(now, release)
        flap_damping.released(now)
    assert not any(flap_damping.suppresses(address) for address in addresses)
    assert len(flap_damping._changes) == 0
