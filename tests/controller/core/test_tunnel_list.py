# SPDX-License-Identifier: Apache-2.0
"""The tunnel list is kept from when the first agent acknowledges tunnels, and what came before is on it, too."""

from controller.core.tunnels import FlowTunnelNames
from tests.support.world import DPID, FIRST, HOME_ADDRESSES, SECOND, World, binding

FLOW = FlowTunnelNames("tx", "rx", FIRST, "02:00:00:00:00:01", "02:00:00:00:00:01", 1460, None)


def test_the_first_agent_of_a_route_router_gets_what_was_bound_before_and_while_it_started(world: World) -> None:
    world.announce()
    world.offload.acknowledge(DPID + 1, 0, {}, {16: FLOW}, {}, world.now)
    world.snapshot(*(binding(each, FIRST, sequence=1) for each in HOME_ADDRESSES))
    world.post(HOME_ADDRESSES[0], SECOND, sequence=2)
    first_asked = world.offload.renew_agent_lease(DPID, world.now).tunnels.difference(0)
    world.post(HOME_ADDRESSES[1], SECOND, sequence=2)
    world.post(HOME_ADDRESSES[2], FIRST, lifetime=0, sequence=2)
    assert first_asked.full
    assert len(first_asked.tunnels) == len(HOME_ADDRESSES)

    world.revision = first_asked.revision
    world.tunnels = {tunnel.home_address: tunnel.care_of_address for tunnel in first_asked.tunnels}
    world.agent_starts()
    world.deliver()
    assert world.next_hop(HOME_ADDRESSES[1]) == "home agent"  # the kernel has the former tunnel
    world.agent_follows()
    world.deliver()
    assert world.tunnels == dict.fromkeys(HOME_ADDRESSES[:2], SECOND)
    assert [world.state(each) for each in HOME_ADDRESSES] == ["active", "active", "none"]

    world.post(HOME_ADDRESSES[0], FIRST, sequence=3)
    news = world.offload.router(DPID).tunnels.difference(world.revision)
    assert (news.full, [tunnel.home_address for tunnel in news.tunnels]) == (False, HOME_ADDRESSES[:1])


def test_an_agent_without_a_backend_that_has_all_is_told_of_nothing_more() -> None:
    world = World()
    world.announce()
    world.offload.acknowledge(DPID, 0, {}, {}, {}, world.now)
    world.snapshot(binding())
    tunnels = world.offload.router(DPID).tunnels
    first = tunnels.difference(0)
    assert first.full
    assert tunnels.difference(first.revision) == (first.revision, False, [], [])
