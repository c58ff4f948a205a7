# SPDX-License-Identifier: Apache-2.0
"""Snapshots taken in by slices: what happens in between is newer, and in the end it is as if it had come after them."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import Binding, StaleUpdate
from controller.core.home_agents import Status
from controller.core.snapshots import Snapshot, Superseded
from controller.core.updates import BINDINGS_AT_ONCE
from controller.core.urgency import MOST_EVENTS
from hoaflow.addresses import Prefix, format_address, parse_address, parse_prefix
from tests.support.world import (
    DPID,
    ENDPOINTS,
    FIRST,
    HOME_ADDRESS,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    PORTS,
    SECOND,
    World,
    binding,
)

THIRD = parse_address("2001:db8:4::2")
LAST = HOME_ADDRESSES[-1]


class Slices:
    """A snapshot of which the first slice has been taken in, and what is done with it then."""

    def __init__(self, world: World, *first: Binding) -> None:
        self.world = world
        self._context = world.offload.snapshot(HOME_AGENT, world.now)
        self.snapshot: Snapshot = self._context.__enter__()
        self.taken = 0
        self.take_in(*first)

    def take_in(self, *bindings: Binding) -> None:
        """One more slice."""
        self.snapshot.take_in(enumerate(bindings, self.taken), self.world.now)
        self.taken += len(bindings)

    def complete(self) -> None:
        """Check that the last slice has been taken in."""
        while not self.snapshot.complete(self.world.now):
            self.world.offload.tick(self.world.now)
        self._context.__exit__(None, None, None)


def held(world: World) -> dict[Prefix, str]:
    """Return the care-of address of each home address."""
    return {each.home_address: format_address(each.care_of_address) for each in world.offload.bindings}


def direct(world: World) -> str:
    """Return where packets for HOME_ADDRESS go in the end."""
    world.agent_follows()
    world.deliver()
    world.agent_follows()
    world.deliver()
    return world.next_hop()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_newer_report_stays_before_and_after_its_slice(world: World, before: bool) -> None:
    slices = Slices(world)
    item = binding(care_of_address=SECOND, sequence=2, now=world.now)
    if not before:
        slices.take_in(item)
    world.post(care_of_address=THIRD, sequence=3)
    if before:
        slices.take_in(item)
    slices.complete()
    assert held(world) == {HOME_ADDRESS: "2001:db8:4::2"}
    assert direct(world) == "2001:db8:4::2"


def test_a_late_report_that_is_older_than_the_snapshot_does_not_win(world: World) -> None:
    slices = Slices(world)
    world.post(care_of_address=SECOND, sequence=2)  # newer than what is held, but not than the slice to come
    slices.take_in(binding(care_of_address=THIRD, sequence=3, now=world.now))
    slices.complete()
    assert held(world) == {HOME_ADDRESS: "2001:db8:4::2"}
    with pytest.raises(StaleUpdate):
        world.post(care_of_address=SECOND, sequence=2)


def test_without_sequence_numbers_the_later_report_wins(world: World) -> None:
    slices = Slices(world)
    world.post(care_of_address=SECOND, sequence=None)
    slices.take_in(binding(care_of_address=THIRD, now=world.now))
    slices.complete()
    assert held(world) == {HOME_ADDRESS: "2001:db8:3::2"}


@pytest.mark.parametrize(
    "remove",
    [
        lambda world: world.post(lifetime=0, sequence=2),
        lambda world: world.offload.remove(HOME_ADDRESS, world.now),
    ],
    ids=["deregistered", "deleted"],
)
def test_what_was_removed_meanwhile_does_not_come_back(world: World, remove: Callable[[World], object]) -> None:
    slices = Slices(world)
    remove(world)
    slices.take_in(binding(sequence=1, now=world.now))
    slices.complete()
    assert held(world) == {}
    assert direct(world) == "home agent"


def test_who_registers_anew_after_a_deregistration_keeps_that(world: World) -> None:
    slices = Slices(world)
    world.post(lifetime=0, sequence=8)
    world.post(care_of_address=SECOND, sequence=30_000)  # any number may follow a deregistration
    slices.take_in(binding(sequence=7, now=world.now))
    slices.complete()
    assert held(world) == {HOME_ADDRESS: "2001:db8:3::2"}


def test_a_registration_that_the_snapshot_cannot_know_stays(world: World) -> None:
    slices = Slices(world, binding(sequence=1, now=world.now))
    world.post(LAST, SECOND, sequence=1)
    slices.complete()
    assert held(world) == {HOME_ADDRESS: "2001:db8:2::2", LAST: "2001:db8:3::2"}


def test_what_ends_meanwhile_is_renewed_by_its_slice(world: World) -> None:
    slices = Slices(world)
    slice_ = binding(sequence=2, lifetime=120, now=world.now)
    for _ in range(21):
        world.pass_time(3)
        world.announce()
        world.agent_follows()
    assert held(world) == {}, "its lifetime has ended"
    slices.take_in(slice_)
    slices.complete()
    assert direct(world) == "2001:db8:2::2"


def test_a_former_care_of_address_serves_until_its_slice(world: World) -> None:
    """Agents and switches go on with what is known so far."""
    slices = Slices(world, binding(LAST, SECOND, now=world.now))
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"
    assert world.next_hop(LAST) == "2001:db8:3::2"
    world.offload.connections.disconnect(DPID, world.now)
    world.connect(DPID, PORTS, world.switch.values(), [])
    slices.take_in(binding(care_of_address=SECOND, now=world.now))
    slices.complete()
    assert direct(world) == "2001:db8:3::2"
    assert world.next_hop(LAST) == "2001:db8:3::2"


def test_an_agent_that_starts_anew_meanwhile_gets_it_all() -> None:
    world = World()
    world.announce()
    slices = Slices(world, binding(sequence=1, now=world.now))
    world.agent_starts()
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "home agent", "nothing is offloaded before the snapshot is complete"
    slices.take_in(binding(LAST, SECOND, now=world.now))
    slices.complete()
    assert direct(world) == "2001:db8:2::2"
    assert world.next_hop(LAST) == "2001:db8:3::2"


def test_no_lease_but_an_unbroken_one_makes_a_snapshot_the_first() -> None:
    world = World()
    world.announce()
    world.agent_starts()
    slices = Slices(world, binding(now=world.now))
    world.pass_time(LEASE + 1)
    world.announce()
    slices.complete()
    home_agent = world.offload.home_agents.get(HOME_AGENT)
    assert home_agent is not None
    assert not home_agent.synced, "it tells of the time before the lapse"
    assert direct(world) == "home agent"


def test_a_newer_snapshot_counts_instead(world: World) -> None:
    old = Slices(world, binding(care_of_address=SECOND, now=world.now))
    new = Slices(world, binding(LAST, THIRD, now=world.now))
    with pytest.raises(Superseded):
        old.take_in(binding(HOME_ADDRESSES[1], SECOND, now=world.now))
    new.complete()
    assert held(world) == {LAST: "2001:db8:4::2"}


def test_a_snapshot_that_began_before_but_came_after_another_changes_nothing(world: World) -> None:
    with world.offload.snapshot(HOME_AGENT, world.now) as slow:
        world.snapshot(binding(LAST, THIRD, now=world.now))
        with pytest.raises(Superseded):
            slow.take_in([(0, binding(now=world.now))], world.now)
    assert held(world) == {LAST: "2001:db8:4::2"}


def test_nothing_remains_of_a_home_agent_that_is_replaced_meanwhile(world: World) -> None:
    slices = Slices(world, binding(sequence=1, now=world.now))
    world.pass_time(LEASE + 1)
    other = parse_address("2001:db8:99::2")
    world.offload.announce(other, (HOME_PREFIX,), LEASE, Status.UP, world.now)
    with pytest.raises(NotAnnounced):
        slices.take_in(binding(LAST, now=world.now))
    world.pass_time(1)
    assert held(world) == {}


def test_home_prefixes_that_go_meanwhile_take_their_bindings_along(world: World) -> None:
    slices = Slices(world, binding(sequence=1, now=world.now))
    other = parse_prefix("2001:db8:98::/64")
    world.offload.announce(HOME_AGENT, (other,), LEASE, Status.UP, world.now)
    slices.take_in(binding(LAST, now=world.now))
    assert [place for place, _, _ in slices.snapshot.result.refused] == [1]
    slices.complete()
    assert held(world) == {}


def test_a_loop_is_refused_also_across_slices(world: World) -> None:
    first, second, _ = HOME_ADDRESSES
    slices = Slices(world, binding(first, second.packed, now=world.now))
    slices.take_in(binding(second, first.packed, now=world.now))
    ((place, _, refused),) = slices.snapshot.result.refused
    slices.complete()
    assert (place, refused.field) == (1, "care_of_address")
    assert isinstance(refused, Refused)


def test_of_many_changes_the_first_are_told_one_by_one() -> None:
    world = World()
    world.announce()
    world.agent_starts()
    number = MOST_EVENTS + 2 * BINDINGS_AT_ONCE
    many = [binding(parse_prefix(f"2001:db8:99::1:{index:x}"), now=world.now) for index in range(number)]
    assert world.snapshot(*many).added == number
    names = world.event_names()
    assert names.count("binding-added") == MOST_EVENTS
    assert names.count("bindings-updated") == 1
    assert world.snapshot().removed == number
    names = world.event_names()
    assert names.count("binding-removed") == MOST_EVENTS
    assert names.count("bindings-updated") == 1
    world.snapshot(*many[:10])
    assert world.event_names().count("binding-added") == 10


class Interleaved(RuleBasedStateMachine):
    """Posts, removals and slices in any order leave what the posts and removals leave after the whole snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.world, self.model = World(), World()
        for world in (self.world, self.model):
            world.announce()
            world.agent_starts()
            for home_address in HOME_ADDRESSES[:2]:
                world.post(home_address, FIRST, sequence=10)
        self.left: list[Binding] = []
        self.slices: Slices | None = None
        self.sequence = 10

    @precondition(lambda self: self.slices is None)
    @rule(
        items=st.lists(
            st.tuples(st.sampled_from(HOME_ADDRESSES), st.sampled_from([FIRST, SECOND]), st.integers(5, 30)),
            unique_by=lambda item: item[0],
        )
    )
    def begin(self, items: list[tuple[Prefix, bytes, int]]) -> None:
        self.left = [binding(home, care, 60, sequence, self.world.now) for home, care, sequence in items]
        self.slices = Slices(self.world)
        self.model.snapshot(*self.left)

    @precondition(lambda self: self.slices and self.left)
    @rule()
    def take_in(self) -> None:
        assert self.slices is not None
        self.slices.take_in(self.left.pop())

    @precondition(lambda self: self.slices and not self.left)
    @rule()
    def complete(self) -> None:
        assert self.slices is not None
        self.slices.complete()
        self.slices = None

    @rule(
        home_address=st.sampled_from(HOME_ADDRESSES),
        care_of_address=st.sampled_from([FIRST, SECOND, THIRD]),
        lifetime=st.sampled_from([0, 60]),
        ahead=st.integers(1, 5),
    )
    def post(self, home_address: Prefix, care_of_address: bytes, lifetime: int, ahead: int) -> None:
        """Post an update while the snapshot is taken in.

        An update that is refused as stale came before the snapshot. One that is accepted before its slice and is older
        than the slice is replaced by it.
        """
        self.sequence += ahead
        try:
            self.world.post(home_address, care_of_address, lifetime, self.sequence)
        except StaleUpdate:
            return
        with contextlib.suppress(StaleUpdate):
            self.model.post(home_address, care_of_address, lifetime, self.sequence)

    @rule(home_address=st.sampled_from(HOME_ADDRESSES))
    def remove(self, home_address: Prefix) -> None:
        """Who is answered that there is nothing to remove has come before the slice that brings it."""
        if self.world.offload.remove(home_address, self.world.now):
            self.model.offload.remove(home_address, self.model.now)

    @rule()
    def switch_and_agent_go_on(self) -> None:
        for world in (self.world, self.model):
            world.agent_follows()
            world.deliver()

    @invariant()
    def all_is_the_same_once_it_is_complete(self) -> None:
        if self.slices is None:
            assert held(self.world) == held(self.model)

    def teardown(self) -> None:
        """And so it is on the switch."""
        while self.left:
            self.take_in()
        if self.slices is not None:
            self.complete()
        assert held(self.world) == held(self.model)
        for world in (self.world, self.model):
            world.offload.acknowledge(DPID, 0, ENDPOINTS, {}, {}, world.now)
            world.pass_time(2)  # nobody is held back any more
            direct(world)
        assert [self.world.next_hop(each) for each in HOME_ADDRESSES] == [
            self.model.next_hop(each) for each in HOME_ADDRESSES
        ]


Interleaved.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestInterleaved = Interleaved.TestCase
