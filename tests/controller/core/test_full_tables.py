# SPDX-License-Identifier: Apache-2.0
"""A table without room: what it costs to find that out, and what becomes of all else."""

import pytest

from controller.core.batches import Batch
from controller.core.flows import Kind
from controller.core.full_tables import LAST_TRY, NO_ROOM
from controller.southbound.bundle_size import BundleSize
from hoaflow.addresses import parse_address, parse_prefix
from tests.support.world import DPID, HOME_ADDRESS, SECOND, World, binding, established

MANY = [parse_prefix(f"2001:db8:99::1:{number:x}") for number in range(300)]


class FullWorld(World):
    """Its switch has room for so many flows of bindings' packets to mobile nodes, and takes bundles as a whole."""

    room = 100

    def exchange(self, size: BundleSize) -> None:
        """Let the switch answer all that is due, bundle by bundle, as its channel sends them."""
        flows = self.offload.router(DPID).flows
        for _ in range(2000):
            batch = flows.next_urgent_batch(self.now, size.changes) or flows.next_batch(self.now, size.changes)
            if batch is not None:
                self.messages += len(batch.changes)
                self.answer(batch, size)
            elif not flows.dirty:
                return
        raise AssertionError("the controller never comes to rest")

    def answer(self, batch: Batch, size: BundleSize) -> None:
        standing = {key for key, entry in self.switch.items() if entry.flow.kind is Kind.DOWNLINK}
        for position, change in enumerate(batch.changes):
            if change.flow.kind is not Kind.DOWNLINK:
                continue
            (standing.add if change.add else standing.discard)(change.flow.key)
            if len(standing) > self.room:
                size.refused(len(batch.changes))
                self.offload.switches.refuse(self.offload.router(DPID), batch, {position: NO_ROOM}, False, self.now)
                return
        size.accepted()
        self.carry_out(batch)

    messages = 0


@pytest.fixture
def world() -> FullWorld:
    """Provide one mobile node whose traffic goes direct, and a switch with room for 99 more."""
    world = established()
    world.__class__ = FullWorld
    assert isinstance(world, FullWorld)
    return world


def live(world: FullWorld, seconds: int, size: BundleSize) -> None:
    """Have bridge, agent, controller and switch go on for so long."""
    for _ in range(seconds):
        world.now += 1.0
        world.announce()
        world.offload.renew_agent_lease(DPID, world.now)
        world.offload.tick(world.now)
        world.exchange(size)


def report(world: FullWorld) -> None:
    """Let the bridge send a snapshot with more than the switch has room for."""
    world.announce()
    many = [
        binding(home, parse_address(f"2001:db8:2::1:{number:x}"), now=world.now) for number, home in enumerate(MANY)
    ]
    world.snapshot(binding(sequence=1, now=world.now), *many)
    world.agent_follows()


def test_a_full_table_takes_what_it_has_room_for_and_is_then_left_alone(world: FullWorld) -> None:
    size = BundleSize(5000)
    report(world)
    world.exchange(size)
    flows = world.offload.router(DPID).flows
    standing = [entry for entry in world.switch.values() if entry.flow.kind is Kind.DOWNLINK]
    assert len(standing) == world.room
    assert flows.without_room() == {"downlink": 201}
    assert world.messages < 4 * 2 * len(MANY)  # each halving sends the half once more, and so does its way up
    assert world.event_names().count("table-full") == 1
    # And nothing else of what is left out.
    assert sum(entry.flow.kind is Kind.UPLINK for entry in world.switch.values()) == world.room
    world.messages = 0
    live(world, 600, size)
    renewals = 600 * 3
    assert world.messages - renewals < 600, "what has no room is sent again and again"


def test_a_handover_and_gates_go_on_beside_a_full_table(world: FullWorld) -> None:
    size = BundleSize(5000)
    report(world)
    world.exchange(size)
    world.post(care_of_address=SECOND, sequence=2)
    world.agent_follows()
    before = world.messages
    world.exchange(size)
    assert world.messages - before <= 4
    assert world.next_hop(HOME_ADDRESS) == "2001:db8:3::2"


def test_what_was_left_out_follows_when_there_is_room(world: FullWorld) -> None:
    size = BundleSize(5000)
    report(world)
    world.exchange(size)
    world.room = 1000
    live(world, round(LAST_TRY) + 5, size)
    assert not world.offload.router(DPID).flows.without_room()
    assert "table-has-room" in world.event_names()


def test_gates_are_renewed_in_bundles_of_their_own(world: FullWorld) -> None:
    world.now += 3.0
    world.announce()
    world.post(MANY[0], SECOND)
    world.agent_follows()
    flows = world.offload.router(DPID).flows
    batches = []
    while (batch := flows.next_urgent_batch(world.now, 500)) is not None:
        batches.append({change.flow.kind for change in batch.changes})
        world.carry_out(batch)
    assert {Kind.GATE} in batches
    assert all(kinds == {Kind.GATE} or Kind.GATE not in kinds for kinds in batches)
