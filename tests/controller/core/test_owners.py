# SPDX-License-Identifier: Apache-2.0
"""Bridges beside several pods of one home agent address: the newest owner's counts, whoever else speaks and when."""

import random
from contextlib import suppress

import pytest

from controller.core.admission import Refused
from controller.core.bindings import Binding
from controller.core.flows import Kind
from controller.core.home_agents import Status
from controller.core.owners import AnotherOwner, Owner
from tests.support.world import (
    CARE_OF_ADDRESSES,
    FIRST,
    HOME_ADDRESS,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    SECOND,
    World,
    binding,
)

FORMER, NEWEST = Owner("ha", 7), Owner("hb", 12)


def announce(world: World, owner: Owner | None, last_change: int | None = 5) -> None:
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, last_change, owner=owner)


def send_cache(world: World, owner: Owner | None, last_change: int, *bindings: Binding) -> None:
    """Send the whole cache, as the bridge of an owner does, and let router and switch follow."""
    with world.offload.snapshot(HOME_AGENT, world.now) as snapshot:
        snapshot.owner = owner
        snapshot.take_in(enumerate(bindings), world.now)
        while not snapshot.complete(world.now):
            world.offload.tick(world.now)
    world.offload.reported(HOME_AGENT, last_change, True, world.now, owner)
    follow(world)


def follow(world: World) -> None:
    world.offload.tick(world.now)
    world.agent_follows()
    world.deliver()


def gates_end(world: World) -> float:
    """Return when the last gate in the switch ends."""
    ends = [each.expires_at for each in world.switch.values() if each.flow.kind is Kind.GATE]
    return max((end for end in ends if end is not None), default=world.now)


def care_of(world: World) -> bytes | None:
    held = world.offload.bindings.get(HOME_ADDRESS)
    return None if held is None else held.care_of_address


@pytest.fixture
def world() -> World:
    """Provide a home agent whose former owner's bridge has reported a binding; its traffic goes direct."""
    world = World()
    announce(world, FORMER)
    world.agent_starts()
    send_cache(world, FORMER, 5, binding(now=world.now))
    assert gates_end(world) == world.now + LEASE
    return world


def test_a_new_owner_keeps_gates_and_bindings_and_renews_gates_by_its_own_cache(world: World) -> None:
    ends = gates_end(world)
    world.now += 4
    announce(world, NEWEST)
    follow(world)
    assert care_of(world) == FIRST
    assert gates_end(world) == ends, "what the former owner had reported certifies nothing of the new one"
    send_cache(world, NEWEST, 5, binding(HOME_ADDRESS, SECOND, now=world.now))
    assert care_of(world) == SECOND
    assert gates_end(world) == world.now + LEASE


def test_without_the_new_owners_cache_gates_end_with_the_former_ones_lease(world: World) -> None:
    ends = gates_end(world)
    for _ in range(3):
        world.now += 3
        announce(world, NEWEST, last_change=4)
        follow(world)
        assert gates_end(world) == ends
    world.now = ends
    announce(world, NEWEST, last_change=4)
    follow(world)
    assert gates_end(world) <= world.now
    assert care_of(world) == FIRST, "bindings end by their lifetimes, not by a takeover"


def test_what_a_former_owners_bridge_says_changes_nothing(world: World) -> None:
    under_way = world.offload.snapshot(HOME_AGENT, world.now)
    with under_way as stale:
        stale.owner = FORMER
        announce(world, NEWEST)
        send_cache(world, NEWEST, 5, binding(HOME_ADDRESS, SECOND, now=world.now))
        with pytest.raises(AnotherOwner, match=r"is owned by pod hb \(revision 12\): .* got pod ha \(revision 7\)"):
            stale.take_in([(0, binding(now=world.now))], world.now)
        with pytest.raises(AnotherOwner):
            stale.complete(world.now)
    ends = gates_end(world)
    world.now += 5
    with pytest.raises(AnotherOwner):
        announce(world, FORMER, last_change=6)
    with pytest.raises(AnotherOwner):
        send_cache(world, FORMER, 6, binding(now=world.now))
    with pytest.raises(AnotherOwner):
        world.offload.reported(HOME_AGENT, 6, False, world.now, FORMER)
    with pytest.raises(AnotherOwner):
        world.offload.check_owner(HOME_AGENT, FORMER)
    follow(world)
    assert (care_of(world), gates_end(world)) == (SECOND, ends)
    announced = world.offload.home_agents.get(HOME_AGENT)
    assert announced is not None
    assert announced.owner == NEWEST


def test_a_stale_snapshot_that_began_later_does_not_replace_the_newest_owners(world: World) -> None:
    announce(world, NEWEST)
    with world.offload.snapshot(HOME_AGENT, world.now) as right, world.offload.snapshot(HOME_AGENT, world.now) as stale:
        right.owner, stale.owner = NEWEST, FORMER
        with pytest.raises(AnotherOwner):
            stale.take_in([], world.now)
        right.take_in([(0, binding(HOME_ADDRESS, SECOND, now=world.now))], world.now)
        assert right.complete(world.now)
    assert care_of(world) == SECOND


def test_a_lapsed_lease_lets_in_no_former_owner_but_one_who_names_none(world: World) -> None:
    world.now += LEASE
    with pytest.raises(AnotherOwner):
        announce(world, Owner("hb", 6))
    with pytest.raises(AnotherOwner, match="got pod hb"):
        announce(world, Owner("hb", FORMER.revision))
    announce(world, None, last_change=None)
    with pytest.raises(AnotherOwner, match="is announced without owner"):
        world.offload.check_owner(HOME_AGENT, FORMER)
    announce(world, FORMER)


def test_while_an_owners_lease_holds_nobody_may_name_none(world: World) -> None:
    with pytest.raises(AnotherOwner, match="got none"):
        announce(world, None)


def test_an_owner_says_how_far_it_has_seen(world: World) -> None:
    with pytest.raises(Refused, match="last_change"):
        announce(world, NEWEST, last_change=None)


def test_a_restarted_controller_learns_the_newest_owner_though_a_former_one_comes_first(world: World) -> None:
    world.start_controller()
    world.agent_starts()
    announce(world, FORMER)
    send_cache(world, FORMER, 5, binding(now=world.now))
    announce(world, NEWEST)
    send_cache(world, NEWEST, 5, binding(HOME_ADDRESS, SECOND, now=world.now))
    with pytest.raises(AnotherOwner):
        announce(world, FORMER)
    assert care_of(world) == SECOND


@pytest.mark.parametrize("seed", range(40))
def test_gates_stand_only_by_what_the_newest_owner_has_reported(seed: int) -> None:
    """Bridges of up to four owners speak at random, late ones as well; a takeover is told at random, too."""
    chance, world = random.Random(seed), World()
    world.agent_starts()
    certified, newest, whole = world.now, 0, False
    for step in range(120):
        world.now += chance.choice((0.0, 0.5, 2.0))
        owner = Owner(chance.choice("ab"), chance.randint(1, 1 + step // 30))
        known = world.offload.home_agents.get(HOME_AGENT)
        with suppress(AnotherOwner):
            number = chance.randint(0, 2)  # each bridge counts its changes from anywhere
            if known is None or chance.random() < 0.5:
                announce(world, owner, number)
                assert owner.revision >= newest
                if known is None or known.owner != owner:
                    whole = False
                newest = owner.revision
            else:
                cache = [binding(home, chance.choice(CARE_OF_ADDRESSES), now=world.now) for home in HOME_ADDRESSES]
                send_cache(world, owner, number, *cache)
                assert owner == known.owner
                assert [each.care_of_address for each in cache] == [
                    each.care_of_address for each in map(world.offload.bindings.get, HOME_ADDRESSES) if each is not None
                ]
                whole = True
        follow(world)
        agent = world.offload.home_agents.get(HOME_AGENT)
        assert agent is not None
        if whole:
            certified = max(certified, agent.lease_ends)
        assert gates_end(world) <= max(certified, world.now)
