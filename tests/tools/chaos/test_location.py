# SPDX-License-Identifier: Apache-2.0
"""Where mobile nodes of all kinds are, by the replies that their registrations got."""

import pytest

from tools.chaos.addresses import PROXIED, ROUTED, MobileNode, plan
from tools.chaos.location import Location
from tools.chaos.packets import Kind, Record, octets
from tools.chaos.timeline import Move

PLAN = plan()


def registered(node: MobileNode, at: float, link: int) -> Record:
    """Return the reply that a mobile node gets, which names its home address, or its home network prefix."""
    named = node.binding.partition("/")[0] if node.number == PROXIED else node.home_address
    return Record(at, Kind.REGISTERED, 0, 0, 60, octets(named), octets(node.care_of_address(link)))


@pytest.mark.parametrize("node", PLAN.mobile_nodes, ids=lambda node: node.name)
def test_a_mobile_node_has_left_its_care_of_address_when_the_next_is_accepted(node: MobileNode) -> None:
    first, second = node.links
    moves = [Move(10.0, node.name, first), Move(20.0, node.name, second)]
    location = Location(PLAN, moves, [registered(node, 10.5, first), registered(node, 20.5, second)])
    assert [location.arrived(move) for move in moves] == [10.5, 20.5]
    assert location.left(node.name, octets(node.care_of_address(first)), 15.0) is None
    assert location.left(node.name, octets(node.care_of_address(first)), 30.0) == 20.5


def test_packets_may_overtake_the_acknowledgement_of_where_they_go() -> None:
    node = PLAN.mobile_nodes[0]
    first, second = map(octets, map(node.care_of_address, node.links))
    visits = [(10.0, node.links[0]), (20.0, node.links[1]), (40.0, node.links[0])]
    moves = [Move(at, node.name, link) for at, link in visits]
    location = Location(PLAN, moves, [registered(node, at + 0.5, link) for at, link in visits])
    assert location.left(node.name, first, 35.0) == 20.5
    assert location.left(node.name, first, 40.4) is None
    assert location.left(node.name, second, 40.4) is None


def test_the_traffic_of_a_mobile_router_is_its_networks() -> None:
    (node,) = PLAN.mobile_routers
    assert node.number == ROUTED
    ways = [flow for flow in PLAN.flows() if flow.destination == node.name]
    assert {flow.destination_address for flow in ways} == {node.address} != {node.home_address}
    assert node.binding in PLAN.prefixes(node.home_agent)


def test_forged_pairs_are_wrong_and_of_one_family() -> None:
    right = {(node.care_of_address(link), node.address) for node in PLAN.mobile_nodes for link in node.links}
    forgeries = PLAN.forgeries()
    assert {":" in outer for outer, *_ in forgeries} == {True, False}
    for outer, home_agent, home_address, correspondent in forgeries:
        assert (outer, home_address) not in right
        assert len({":" in each for each in (outer, home_agent, home_address, correspondent)}) == 1
