# SPDX-License-Identifier: Apache-2.0
"""Mobile IPv4: mobile nodes behind one foreign agent, with and without a reverse tunnel (RFC 3024)."""

import pytest

from controller.core.backends import RouteBackend
from controller.core.bindings import Binding, Change
from controller.core.explanation import explain
from controller.core.flow_sets import keys_of
from controller.core.flows import Kind
from controller.core.home_agents import Status
from controller.core.protocols import SIMULTANEOUS, Protocol
from controller.core.tunnels import EndpointName
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from tests.support.world import DPID, LEASE, World

HOME_AGENT = parse_address("10.99.0.1")
HOME_PREFIX = parse_prefix("10.99.0.0/24")
ONE, OTHER = parse_prefix("10.99.0.100"), parse_prefix("10.99.0.101")
FOREIGN_AGENT, OTHER_FOREIGN_AGENT = parse_address("10.3.0.1"), parse_address("10.4.0.1")
ENDPOINT = {HOME_AGENT: EndpointName("tin", "02:00:00:00:00:0a")}


def registered(
    home_address: Prefix, reverse_tunnel: bool, where: bytes = FOREIGN_AGENT, withheld: str | None = None
) -> Binding:
    return Binding(
        home_address,
        where,
        HOME_AGENT,
        withheld=withheld,
        protocol=Protocol.MIPV4,
        reverse_tunnel=reverse_tunnel,
    )


@pytest.fixture
def world() -> World:
    """Return a world with a home agent of Mobile IPv4, whose gates are open on a `route` router."""
    world = World()
    protocols = frozenset({Protocol.MIPV4})
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, None, protocols)
    with world.offload.snapshot(HOME_AGENT, world.now) as snapshot:
        snapshot.complete(world.now)
    world.offload.renew_agent_lease(DPID, world.now)
    report(world)
    return world


def report(world: World, *bindings: Binding) -> list[Change]:
    """Report bindings; the router's agent sets their tunnels up, and the switch carries out what follows."""
    changes = [world.offload.report(each, world.now) for each in bindings]
    router = world.offload.router(DPID)
    world.offload.acknowledge(DPID, router.tunnels.revision, ENDPOINT, {}, {}, world.now)
    world.offload.acknowledge(DPID, router.tunnels.revision, ENDPOINT, {}, {}, world.now)
    world.deliver()
    return changes


def uplinks(world: World) -> int:
    return sum(entry.flow.kind is Kind.UPLINK for entry in world.switch.values())


def test_without_reverse_tunnel_packets_go_to_the_foreign_agent_and_none_are_taken_from_it(world: World) -> None:
    report(world, registered(ONE, reverse_tunnel=False))
    assert world.state(ONE) == "active"
    assert keys_of(registered(ONE, reverse_tunnel=False)).all[0] in world.switch
    assert uplinks(world) == 0
    assert explain(world.offload, ONE, world.now).reason == (
        "the prepared router sends its packets straight to 10.3.0.1; "
        "what it sends takes no tunnel here, as it has registered none (RFC 3024)"
    )


def test_behind_one_foreign_agent_each_has_what_it_has_registered(world: World) -> None:
    report(world, registered(ONE, reverse_tunnel=True), registered(OTHER, reverse_tunnel=False))
    assert (world.state(ONE), world.state(OTHER), uplinks(world)) == ("active", "active", 1)
    report(world, registered(ONE, reverse_tunnel=True, where=OTHER_FOREIGN_AGENT))
    assert (world.state(ONE), world.state(OTHER), uplinks(world)) == ("active", "active", 1)
    assert keys_of(registered(ONE, True)).uplink not in world.switch


@pytest.mark.parametrize("before", [True, False])
def test_a_mobile_node_may_change_its_mind_without_moving(world: World, before: bool) -> None:
    report(world, registered(ONE, before))
    assert report(world, registered(ONE, not before)) == [Change.CHANGED]
    assert world.state(ONE) == "active"
    assert uplinks(world) == (not before)


def test_who_has_several_care_of_addresses_keeps_others_on_the_home_agents_path_only_if_they_share_a_tunnel(
    world: World,
) -> None:
    several = registered(OTHER, reverse_tunnel=True, withheld=SIMULTANEOUS)
    report(world, registered(ONE, reverse_tunnel=True), several)
    assert world.state(ONE) != "active", "one uplink flow would take the packets of both"
    report(world, registered(OTHER, reverse_tunnel=False, withheld=SIMULTANEOUS))
    assert world.state(ONE) == "active"
    assert isinstance(world.offload.router(DPID).desired.backend(HOME_AGENT), RouteBackend)
