# SPDX-License-Identifier: Apache-2.0
"""Lifetimes bind although no flow of a binding ends by itself: the controller ends them, and gates end without it."""

from collections.abc import Iterator

from controller.core.batches import Batch
from controller.core.flows import Kind
from controller.core.installed import FlowEntry
from controller.core.withdrawals import ANSWERED_WITHIN
from hoaflow.addresses import host
from tests.support.world import DPID, HOME_ADDRESSES, HOME_AGENT, HOME_PREFIX, LEASE, World, binding

LIFETIME = 60  # of the binding in `established`
OF_BINDINGS = (Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)


def renew(world: World, seconds: float) -> None:
    """Bridge and agent go on for so long, and the switch carries out what is due."""
    end = world.now + seconds
    while world.now < end:
        world.pass_time(min(2.5, end - world.now))
        world.announce()
        world.agent_follows()
        world.deliver()


def batches(world: World) -> Iterator[Batch]:
    """Yield what is due for the switch, until nothing is: the caller answers each batch."""
    flows = world.offload.router(DPID).flows
    while True:
        batch = world.next_batch()
        if batch is not None:
            yield batch
        elif not flows.dirty:
            return


def why_closed(world: World) -> str:
    """Return why the home agent's gates are closed."""
    home_agent = world.offload.home_agents.get(HOME_AGENT)
    assert home_agent is not None
    why = world.offload.router(DPID).gates.why_closed(home_agent, world.now)
    assert why is not None
    return why.text


def test_only_gates_end_by_themselves(world: World) -> None:
    ends = {entry.flow.kind: entry.expires_at is not None for entry in world.switch.values()}
    assert {kind for kind, timed in ends.items() if timed} == {Kind.GATE}
    assert ends.keys() >= {Kind.GATE, Kind.GUARD, Kind.DOWNLINK, Kind.UPLINK}


def test_a_live_controller_ends_the_flows_with_the_lifetime(world: World) -> None:
    renew(world, LIFETIME - 1)
    assert world.next_hop() == "2001:db8:2::2"
    renew(world, 1.5)
    assert world.state() == "none"
    assert not [kind for kind in OF_BINDINGS if world.flows(kind)]
    assert world.flows(Kind.GATE)


def test_a_refresh_sends_nothing(world: World) -> None:
    for turn in range(10):
        world.now += LIFETIME / 2
        world.sent = 0
        world.post(sequence=2 + turn, lifetime=LIFETIME * (1 + turn))
        world.deliver()
        assert world.sent == 0
    assert world.next_hop() == "2001:db8:2::2"


def test_without_a_controller_a_flow_is_reachable_for_no_longer_than_the_lease(world: World) -> None:
    renew(world, LIFETIME - 1)
    world.pass_time(LEASE - 0.1, controller=False)
    assert world.next_hop() == "2001:db8:2::2", "a lifetime that ends without a controller is not noticed"
    world.pass_time(0.2, controller=False)
    assert world.next_hop() == "home agent"
    assert world.flows(Kind.DOWNLINK), "it stands, but nothing leads to it"


def test_a_controller_that_comes_back_in_time_renews_no_gate_before_what_has_ended_is_gone(world: World) -> None:
    other = HOME_ADDRESSES[1]
    world.post(other, lifetime=600)
    world.agent_follows()
    world.deliver()
    renew(world, LIFETIME - 1)
    opened = {entry.flow.key: entry.expires_at for entry in world.switch.values() if entry.flow.kind is Kind.GATE}
    world.pass_time(3, controller=False)  # meanwhile one lifetime ends
    world.start_controller()
    world.announce()
    world.agent_starts()
    world.agent_follows()
    world.deliver()
    assert {key: world.switch[key].expires_at for key in opened} == opened, "not before the snapshot has come"
    assert world.next_hop(other) == "2001:db8:2::2"
    world.snapshot(binding(other, now=world.now))
    world.agent_follows()
    for batch in batches(world):
        if any(change.flow.kind is Kind.GATE for change in batch.changes):
            assert [flow.serves for flow in world.flows(Kind.DOWNLINK)] == [other], "what has ended goes first"
        world.carry_out(batch)
    assert all((world.switch[key].expires_at or 0.0) >= world.now + LEASE - 0.1 for key in opened)
    assert world.next_hop(other) == "2001:db8:2::2"
    assert world.next_hop() == "home agent"


def test_a_switch_that_comes_back_has_its_gates_renewed_after_what_has_ended_is_gone(world: World) -> None:
    renew(world, LIFETIME - 1)
    world.offload.connections.disconnect(DPID, world.now)
    entries = dict(world.switch)
    world.now += 2
    world.offload.tick(world.now)
    world.announce()
    world.agent_follows()
    world.connect(DPID, {"tin": 3}, entries.values(), [])
    changes = []
    for batch in batches(world):
        changes.append([(change.flow.kind, change.add) for change in batch.changes])
        world.carry_out(batch)
    assert sorted(changes[0]) == [(Kind.DOWNLINK, False), (Kind.UPLINK, False)]
    assert {change for batch in changes[1:] for change in batch} == {(Kind.GATE, True)}


def test_a_deaf_switch_has_no_gate_renewed(world: World) -> None:
    renew(world, LIFETIME - 1)
    world.now += 2
    world.offload.tick(world.now)
    batch = world.next_batch()
    assert batch is not None
    assert {change.add for change in batch.changes} == {False}
    ended = world.now
    for second in range(1, 20):  # it takes nothing, but the gates that it is told
        world.pass_time(1, controller=False)
        world.offload.tick(world.now)
        world.announce()
        world.agent_follows()
        renewal = world.next_batch()
        if renewal is not None:
            assert second <= ANSWERED_WITHIN
            world.carry_out(renewal)
    assert world.next_hop() == "home agent"
    assert world.now - ended > ANSWERED_WITHIN + LEASE
    assert why_closed(world).startswith("the switch has not confirmed all flows yet")


def test_a_switch_that_refuses_the_deletion_has_no_gate_renewed_until_it_does_not(world: World) -> None:
    renew(world, LIFETIME - 1)
    world.pass_time(0.9)
    world.now += 0.2
    world.offload.tick(world.now)
    world.refuse(Kind.DOWNLINK, "not now")
    for _ in range(5):
        world.pass_time(2.5, controller=False)
        world.announce()
        world.agent_follows()
        for batch in batches(world):
            assert not [change for change in batch.changes if change.flow.serves == HOME_PREFIX]
            if any(change.flow.kind is Kind.DOWNLINK for change in batch.changes):
                world.offload.switches.refuse(world.offload.router(DPID), batch, {0: "not now"}, False, world.now)
            else:
                world.carry_out(batch)
    assert [gate.serves for gate in world.flows(Kind.GATE)] == [host(HOME_AGENT)]
    assert why_closed(world).startswith("the switch still has 1 flow that has to go")
    renew(world, 61)  # it is tried again after a minute at the latest
    assert not world.flows(Kind.DOWNLINK)
    assert HOME_PREFIX in [gate.serves for gate in world.flows(Kind.GATE)]


def test_flows_of_an_earlier_version_are_replaced_and_serve_on(world: World) -> None:
    for key, entry in world.switch.items():
        if entry.flow.kind in OF_BINDINGS:
            world.switch[key] = FlowEntry(entry.flow, world.now + LIFETIME)
    world.start_controller()
    world.announce()
    world.agent_starts()
    world.snapshot(binding(now=world.now))
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"
    assert all(entry.expires_at is None for entry in world.switch.values() if entry.flow.kind in OF_BINDINGS)
