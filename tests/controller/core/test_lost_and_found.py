# SPDX-License-Identifier: Apache-2.0
"""What becomes of traffic when a part dies, falls silent, restarts or comes back, as the core decides it."""

import pytest

from controller.core import pipeline
from controller.core.flows import Kind, Normal, Output
from controller.core.home_agents import Status
from controller.core.offload import Offload
from controller.core.subject_reconciler import ADOPTED_REVIEW
from controller.core.tunnels import FlowTunnelNames
from hoaflow.addresses import parse_address, parse_prefix
from tests.support.world import (
    DPID,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    PORTS,
    SECOND,
    TIMING,
    World,
    binding,
)


def test_a_dead_bridge_gives_the_traffic_back_within_its_lease(world: World) -> None:
    for _ in range(3):
        world.pass_time(LEASE / 3)
        world.agent_follows()
    assert world.next_hop() == "home agent"
    assert world.state() == "held"


def test_a_dead_controller_gives_the_traffic_back_within_the_lease(world: World) -> None:
    world.pass_time(LEASE - 0.5, controller=False)
    assert world.next_hop() == "2001:db8:2::2"
    world.pass_time(0.5, controller=False)
    assert world.next_hop() == "home agent"


def test_a_dead_agent_gives_the_traffic_back_within_its_lease(world: World) -> None:
    for _ in range(4):
        world.pass_time(LEASE / 4)
        world.announce()
        world.deliver()
    assert world.next_hop() == "home agent"
    assert world.state() == "pending"
    world.agent_starts()
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"


def test_established_traffic_rides_out_a_home_agent_that_is_down(world: World) -> None:
    for _ in range(10):
        world.pass_time(3)
        world.announce(Status.DOWN)
        world.agent_follows()
        world.deliver()
    assert world.next_hop() == "2001:db8:2::2"


def test_no_gate_opens_onto_what_may_be_stale(world: World) -> None:
    """The bridge dies, the mobile node moves, the bridge returns: the former care-of address gets nothing."""
    for _ in range(4):
        world.pass_time(3)
        world.agent_follows()
        world.deliver()
    world.announce()
    world.deliver()
    assert world.next_hop() == "home agent"  # the lease holds again, but nobody has said what is true now
    world.snapshot(binding(care_of_address=SECOND, now=world.now))
    world.deliver()
    assert world.next_hop() == "home agent"  # the tunnel still leads to the former care-of address
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:3::2"


def test_a_restarted_controller_deletes_nothing_that_is_still_true(world: World) -> None:
    before = dict(world.switch)
    world.start_controller()
    world.deliver()
    world.pass_time(2)
    assert world.next_hop() == "2001:db8:2::2"
    world.announce()
    world.deliver()
    world.snapshot(binding(sequence=1, now=world.now, lifetime=58))
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"
    world.agent_starts()
    world.agent_follows()
    world.deliver()
    assert world.state() == "active"
    assert {key for key, entry in before.items() if entry != world.switch.get(key)} == {
        key for key, entry in before.items() if entry.flow.kind is Kind.GATE
    }, "only gates are renewed"


def test_a_restarted_controller_waits_for_the_agents_word_not_only_for_its_question(world: World) -> None:
    before = world.switch.keys()
    world.start_controller()
    world.announce()
    world.snapshot(binding(sequence=1, now=world.now, lifetime=59))
    world.offload.renew_agent_lease(DPID, world.now)  # it asks for its list, as it did before the restart
    world.deliver()
    assert world.switch.keys() == before
    assert world.next_hop() == "2001:db8:2::2"


def test_a_restarted_controller_removes_what_the_snapshot_lacks(world: World) -> None:
    world.start_controller()
    world.announce()
    world.agent_starts()
    world.snapshot()
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "home agent"
    assert not any(entry.flow.kind in (Kind.DOWNLINK, Kind.UPLINK) for entry in world.switch.values())


def test_a_restarted_controller_without_its_bridge_cleans_up_when_the_gates_are_gone(world: World) -> None:
    world.offload.report(binding(lifetime=None, now=world.now), world.now)
    world.agent_follows()
    world.deliver()
    world.start_controller()
    world.deliver()
    assert any(entry.flow.kind is Kind.DOWNLINK for entry in world.switch.values())
    for _ in range(4):
        world.pass_time(LEASE / 2)
        world.deliver()
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}


@pytest.mark.parametrize(
    "kind", [Kind.MISS, Kind.GUARD, Kind.GATE, Kind.DOWNLINK, Kind.UPLINK], ids=lambda kind: kind.name
)
def test_what_the_switch_lost_is_put_back(world: World, kind: Kind) -> None:
    before = world.switch.keys()
    left = {key: entry for key, entry in world.switch.items() if entry.flow.kind is not kind}
    assert left.keys() < before
    world.switch = left
    world.connect(DPID, PORTS, world.switch.values(), [])
    world.deliver()
    assert world.switch.keys() == before
    assert world.next_hop() == "2001:db8:2::2"


def test_an_agent_that_starts_anew_has_to_acknowledge_anew(world: World) -> None:
    world.agent_starts()
    world.announce()
    world.deliver()
    assert world.state() == "pending"
    world.pass_time(TIMING.acknowledge_within)
    assert world.next_hop() == "home agent"


def test_bindings_without_a_lifetime_end_with_the_lease() -> None:
    world = World()
    world.announce()
    world.snapshot(binding(lifetime=None, now=world.now))
    world.pass_time(LEASE)
    assert len(world.offload.bindings) == 0


def test_a_switch_that_comes_back_last_loses_no_flow(world: World) -> None:
    """After a restart, bridge and agent may be there before the switch is."""
    world.lives += 1
    world.offload = Offload(TIMING, (Normal(),), first_revision=world.lives * 1_000_000)
    before = dict(world.switch)
    world.announce()
    world.agent_starts()
    world.snapshot(binding(sequence=1, now=world.now, lifetime=59))
    world.agent_follows()
    world.connect(DPID, PORTS, world.switch.values(), [])
    world.deliver()
    assert world.state() == "active"
    assert before.keys() == world.switch.keys()
    assert world.next_hop() == "2001:db8:2::2"


def test_a_port_that_comes_back_with_another_number_is_followed(world: World) -> None:
    world.offload.connections.disconnect(DPID, world.now)
    world.connect(DPID, {"tin": 7}, world.switch.values(), [])
    world.deliver()
    (downlink,) = [entry.flow for entry in world.switch.values() if entry.flow.kind is Kind.DOWNLINK]
    assert downlink.actions[-1] == Output(7)


def run_clock(world: World, seconds: float) -> None:
    """Do as the controller's clock does: it asks for the deadline again when it wakes up, always a moment late."""
    end = world.now + seconds
    for _ in range(1000):
        deadline = world.offload.next_deadline()
        if deadline is not None and deadline <= world.now:
            world.offload.tick(world.now)
            continue
        world.now = min(end, end if deadline is None else deadline + 0.01)
        if world.now >= end:
            return
    raise AssertionError("the clock does not come to rest")


def test_the_clock_notices_a_lapsed_lease_and_a_lost_agent(world: World) -> None:
    world.post(HOME_ADDRESSES[1], lifetime=None)
    world.event_names()
    run_clock(world, LEASE + 1)
    assert {"lease-lapsed", "agent-lost"} <= set(world.event_names())
    assert world.offload.bindings.get(HOME_ADDRESSES[1]) is None, "without a lifetime, the lease alone bounds it"


def test_a_lost_agent_closes_the_gates_without_waiting_for_the_bridge(world: World) -> None:
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), 60, Status.UP, world.now)
    world.deliver()
    run_clock(world, TIMING.agent_lease + 1)
    world.deliver()
    assert world.next_hop() == "home agent"


@pytest.mark.parametrize("lease", [2, 3, 4, 10])
def test_a_gate_stands_without_a_gap_while_its_lease_is_renewed(world: World, lease: int) -> None:
    for _ in range(40):
        world.offload.announce(HOME_AGENT, (HOME_PREFIX,), lease, Status.UP, world.now)
        world.deliver()
        world.pass_time(lease * 0.45)
        assert world.next_hop() == "2001:db8:2::2"
        world.post(sequence=None, lifetime=60)
        world.agent_follows()


def test_what_is_gone_for_long_is_forgotten(world: World) -> None:
    world.offload.acknowledge(7, 0, {}, {}, {}, world.now)
    run_clock(world, TIMING.forget_after + TIMING.agent_lease + 1)
    assert set(world.offload.routers) == {DPID}, "a router whose switch is connected is not forgotten"
    assert list(world.offload.home_agents) == []
    world.deliver()
    world.pass_time(0, controller=False)
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}
    world.offload.connections.disconnect(DPID, world.now)
    run_clock(world, TIMING.forget_after + 1)
    assert world.offload.routers == {}


IPV4_PREFIX = parse_prefix("10.1.0.0/16")
FLOW_TUNNEL = FlowTunnelNames(
    transmit_port="tx",
    receive_port="rx",
    decapsulation_address=parse_address("fdb1:b792:6c09::41"),
    decapsulation_mac="02:00:00:00:00:0a",
    router_mac="02:00:00:00:00:0b",
    mtu=1440,
    ipv4_problem=None,
)


def test_after_a_restart_no_guard_goes_before_the_gates_that_need_it() -> None:
    """The agent, which alone knows where packets come out of tunnels, returns last."""
    world = World()
    world.offload.switches.set_ports(DPID, {"tx": 10, "rx": 11}, world.now)
    world.offload.announce(HOME_AGENT, (HOME_PREFIX, IPV4_PREFIX), LEASE, Status.UP, world.now)
    world.offload.acknowledge(DPID, 0, {}, {16: FLOW_TUNNEL}, {}, world.now)
    world.snapshot(binding(now=world.now))
    world.deliver()
    guards = {key for key, entry in world.switch.items() if entry.flow.kind is Kind.GUARD}
    assert {key[0].table for key in guards} == {"classify", "downlink", "uplink"}
    world.start_controller(ports={"tx": 10, "rx": 11})
    for _ in range(LEASE):
        world.deliver()
        missing = guards - world.switch.keys()
        # Without these, what has a link-local source is dropped; no gate waits for them.
        assert {key[0].priority for key in missing} <= {pipeline.LINK_LOCAL_PRIORITY}
        world.pass_time(0.9)
    world.pass_time(ADOPTED_REVIEW + 2)
    world.deliver()
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}
