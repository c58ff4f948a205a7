# SPDX-License-Identifier: Apache-2.0
"""Thousands of home addresses behind one care-of address, as behind a MAG: what one does costs the others nothing."""

import pytest
from msgspec.structs import replace

from controller.core.bindings import Binding
from controller.core.desired import DesiredFlows
from controller.core.flows import Kind
from controller.core.home_agents import Status
from controller.core.protocols import OTHER_TUNNELS, Tunnel
from controller.core.router import Router
from hoaflow.addresses import Prefix, parse_prefix
from tests.support.world import (
    DPID,
    FIRST,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    SECOND,
    TIMING,
    World,
    established,
)


def home_address(number: int) -> Prefix:
    """Return one of many home addresses."""
    return Prefix(HOME_PREFIX.packed[:8] + number.to_bytes(8, "big"), 128)


def bound(number: int, care_of_address: bytes) -> Binding:
    """Return one of many bindings."""
    return Binding(home_address(number), care_of_address, HOME_AGENT)


def shared(each: int) -> World:
    """Return a world with so many home addresses behind each of two care-of addresses."""
    world = World()
    world.announce()
    first = [bound(0x1000 + number, FIRST) for number in range(each)]
    second = [bound(0x100000 + number, SECOND) for number in range(each)]
    world.snapshot(*first, *second)
    world.agent_starts()
    follow(world)
    return world


def follow(world: World) -> None:
    """Let agent and switch follow."""
    for _ in range(2):
        world.agent_follows()
        world.deliver()


def hand_over(world: World, number: int, care_of_address: bytes) -> None:
    """Report a handover."""
    world.offload.report(bound(number, care_of_address), world.now)
    world.deliver()


def test_a_handover_of_one_looks_at_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = shared(400)
    looked_at = 0
    carried = DesiredFlows._carried

    def counting(*args: object) -> Binding | None:
        nonlocal looked_at
        looked_at += 1
        return carried(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(DesiredFlows, "_carried", counting)
    sent = world.sent
    hand_over(world, 0x1000, SECOND)
    follow(world)
    assert world.next_hop(home_address(0x1000)) == "2001:db8:3::2"
    assert world.sent == sent, "the flows are the same: its route has changed, and both paths serve others"
    world.pass_time(TIMING.acknowledge_within)
    assert looked_at < 40


def test_others_stay_direct_while_the_agent_sets_up_ones_tunnel() -> None:
    world = shared(3)
    hand_over(world, 0x1000, SECOND)
    hand_over(world, 0x2000, FIRST)
    assert len(world.flows(Kind.UPLINK)) == 2
    assert world.state(home_address(0x100000)) == world.state(home_address(0x1001)) == "active"
    assert world.state(home_address(0x1000)) == "pending"


def test_a_tunnel_that_is_overdue_takes_the_shared_path_away() -> None:
    world = shared(3)
    hand_over(world, 0x2000, FIRST)
    world.announce()
    world.offload.renew_agent_lease(DPID, world.now)
    world.pass_time(TIMING.acknowledge_within + 0.5)
    assert len(world.flows(Kind.UPLINK)) == 1
    assert world.state(home_address(0x1001)) == "pending"
    world.announce()
    follow(world)
    assert len(world.flows(Kind.UPLINK)) == 2
    assert world.state(home_address(0x1001)) == world.state(home_address(0x2000)) == "active"
    assert world.now < 1000.0 + LEASE


def test_the_path_goes_with_its_last_home_address() -> None:
    world = shared(3)
    for number in range(3):
        hand_over(world, 0x1000 + number, SECOND)
    follow(world)
    world.pass_time(TIMING.acknowledge_within + 0.5)
    assert len(world.flows(Kind.UPLINK)) == 1
    assert world.next_hop(home_address(0x1002)) == "2001:db8:3::2"


def test_thousands_in_another_tunnel_look_at_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    world, followed = shared(100), 0
    follow_one = Router.follow

    def counting(*args: object) -> None:
        nonlocal followed
        followed += 1
        follow_one(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Router, "follow", counting)
    for turn in range(2):
        for number in range(100):
            in_gre = bound(0x2000 + number, FIRST)
            world.offload.report(replace(in_gre, withheld=OTHER_TUNNELS[Tunnel.GRE], sequence=turn), world.now)
    assert followed == 0


def test_what_goes_in_another_tunnel_leaves_those_behind_the_same_address_direct() -> None:
    world = shared(3)
    in_gre = replace(bound(0x2000, FIRST), withheld=OTHER_TUNNELS[Tunnel.GRE])
    world.offload.report(in_gre, world.now)
    hand_over(world, 0x100000, FIRST)  # the path is looked at again
    follow(world)
    assert world.state(home_address(0x2000)) == "withheld"
    assert world.state(home_address(0x1001)) == "active"
    world.offload.report(replace(in_gre, withheld="IPsec"), world.now)
    follow(world)
    assert world.state(home_address(0x1001)) == "pending"


IPV4_HOME_ADDRESS = parse_prefix("10.1.0.100")


@pytest.fixture
def dual_stack() -> World:
    """Provide a world whose home agent serves IPv6 and IPv4 home addresses."""
    world = World()
    world.offload.announce(HOME_AGENT, (HOME_PREFIX, parse_prefix("10.1.0.0/16")), LEASE, Status.UP, world.now)
    world.snapshot()
    world.agent_starts()
    world.deliver()
    return world


def registered(world: World, care_of_address: bytes) -> None:
    """Report a dual-stack node's two home addresses before the switch hears of any, as a batch does."""
    for home_address in (HOME_ADDRESS, IPV4_HOME_ADDRESS):
        world.offload.report(Binding(home_address, care_of_address, HOME_AGENT), world.now)


def test_a_dual_stack_nodes_home_addresses_in_one_batch_each_get_all_flows(dual_stack: World) -> None:
    for care_of_address in (FIRST, SECOND):
        registered(dual_stack, care_of_address)
        follow(dual_stack)
        dual_stack.pass_time(TIMING.acknowledge_within + 0.5)
        assert {flow.serves for flow in dual_stack.flows(Kind.DOWNLINK)} == {HOME_ADDRESS, IPV4_HOME_ADDRESS}
        uplinks = dual_stack.flows(Kind.UPLINK)
        assert len(uplinks) == 2, "one for each payload"
        assert all(care_of_address in flow.addresses for flow in uplinks)
        assert dual_stack.state(HOME_ADDRESS) == dual_stack.state(IPV4_HOME_ADDRESS) == "active"
        dual_stack.offload.announce(
            HOME_AGENT, (HOME_PREFIX, parse_prefix("10.1.0.0/16")), LEASE, Status.UP, dual_stack.now
        )


def test_a_refusal_of_a_path_is_forgotten_once_it_stands_for_others(dual_stack: World) -> None:
    flows = dual_stack.offload.router(DPID).flows
    dual_stack.offload.report(bound(0x1000, FIRST), dual_stack.now)
    dual_stack.agent_follows()
    dual_stack.refuse(Kind.UPLINK, "not now")
    assert [refusal.reason for refusal in flows.refused.all().values()] == ["not now"]
    registered(dual_stack, FIRST)  # so the path belongs to nobody in particular now
    dual_stack.pass_time(TIMING.acknowledge_within)
    follow(dual_stack)
    assert not flows.refused.all()
    states = [dual_stack.state(each) for each in (home_address(0x1000), HOME_ADDRESS, IPV4_HOME_ADDRESS)]
    assert states == ["active"] * 3


def test_who_joins_a_path_that_the_switch_has_not_confirmed_is_told_of_when_it_has() -> None:
    """The switch may answer in another order than it was asked, as it carries out again what it had no room for."""
    world = established()
    world.event_names()
    world.offload.report(bound(0x1000, SECOND), world.now)
    world.agent_follows()
    first = world.next_batch()
    world.offload.report(bound(0x1001, SECOND), world.now)
    world.agent_follows()
    second = world.next_batch()
    assert first is not None
    assert second is not None
    world.carry_out(second)
    world.carry_out(first)
    assert world.state(home_address(0x1001)) == "active"
    assert world.event_names().count("binding-active") == 2
