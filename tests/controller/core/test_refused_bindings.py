# SPDX-License-Identifier: Apache-2.0
"""Bindings that may not be offloaded are refused; what they replace or share a path with goes to the home agent."""

from functools import partial
from itertools import combinations, pairwise

import pytest

from controller.core.admission import MOST_NESTED, Refused
from controller.core.bindings import Binding, Change, StaleUpdate
from controller.core.explanation import explain
from controller.core.flows import Kind
from controller.core.home_agents import Status
from hoaflow.addresses import Prefix, host, parse_address, parse_prefix
from tests.support.world import (
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


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"home_address": parse_prefix("2001:db8:98::100")}, "home_address"),
        ({"home_address": host(HOME_AGENT)}, "home_address"),
        ({"home_address": parse_prefix("ff02::1")}, "home_address"),
        ({"home_address": HOME_PREFIX}, "home_address"),
    ],
)
def test_a_home_address_that_may_not_be_offloaded_is_refused_and_changes_nothing(
    world: World, wrong: dict[str, object], field: str
) -> None:
    world.sent = 0
    with pytest.raises(Refused) as refused:
        world.post(**{"sequence": 9, "care_of_address": SECOND, **wrong})
    assert refused.value.field == field
    world.deliver()
    assert world.sent == 0
    assert len(world.offload.bindings) == 1


def carried(world: World) -> bool:
    """Tell whether the mobile node at FIRST has its flows: all of them, or else none."""
    world.agent_follows()
    world.deliver()
    own = [flow for flow in world.flows(Kind.DOWNLINK) if flow.serves == HOME_ADDRESS]
    path = [flow for flow in world.flows(Kind.UPLINK) if FIRST in flow.addresses]
    assert len(own) == len(path)
    assert (world.state() == "active") == bool(own)
    assert (HOME_ADDRESS in world.offload.activations.unconfirmed) != bool(own)
    return bool(own)


@pytest.mark.parametrize("end", ["deregistered", "moved", "not-in-snapshot", "expired"])
def test_one_that_is_refused_keeps_others_at_its_care_of_address_on_the_home_agents_path(
    world: World, end: str
) -> None:
    network = parse_prefix("2001:db8:aa:1::/64")
    with pytest.raises(Refused):
        world.post(network, lifetime=5)
    assert not carried(world)
    assert str(network) in explain(world.offload, HOME_ADDRESS, world.now).reason
    world.pass_time(5.1 if end == "expired" else 0.1)
    if end == "not-in-snapshot":
        world.snapshot(binding(sequence=1, now=world.now))
    elif end != "expired":
        with pytest.raises(Refused):
            world.post(network, SECOND, lifetime=0 if end == "deregistered" else 5)
    assert carried(world)


def test_one_that_is_withheld_keeps_others_at_its_care_of_address_on_the_home_agents_path(world: World) -> None:
    withheld = Binding(HOME_ADDRESSES[1], FIRST, HOME_AGENT, 60, world.now + 60, withheld="in doubt")
    world.offload.report(withheld, world.now)
    assert not carried(world)
    world.post(HOME_ADDRESSES[1], SECOND)
    assert carried(world)


OTHER_HOME_AGENT = parse_address("2001:db8:99::2")
NOT_CARE_OF = [
    *map(parse_address, ("ff02::1", "fe80::1", "::1", "::", "::ffff:192.0.2.7", "64:ff9b::c000:207", "192.0.2.7")),
    *(HOME_AGENT, OTHER_HOME_AGENT),
]


@pytest.mark.parametrize("care_of_address", NOT_CARE_OF)
@pytest.mark.parametrize("how", ["post", "snapshot"])
def test_an_update_that_is_refused_withdraws_what_it_replaces(world: World, care_of_address: bytes, how: str) -> None:
    """The home agent has accepted it: the mobile node is not any more where it was."""
    other = parse_prefix("2001:db8:bb::/64")
    world.offload.announce(OTHER_HOME_AGENT, (other,), LEASE, Status.UP, world.now)
    if how == "post":
        for _ in range(2):  # what is reported again is refused again
            with pytest.raises(Refused) as refused:
                world.post(care_of_address=care_of_address, sequence=2)
            assert refused.value.field == "care_of_address"
    else:
        with world.offload.snapshot(HOME_AGENT, world.now) as snapshot:
            snapshot.take_in([(0, binding(care_of_address=care_of_address, sequence=2, now=world.now))], world.now)
            assert [place for place, _, _ in snapshot.result.refused] == [0]
            assert snapshot.result.removed == 1
    world.deliver()
    assert world.state() == "none"
    assert world.next_hop() == "home agent"
    why = explain(world.offload, HOME_ADDRESS, world.now)
    assert why.path == "home"
    assert "refused (care_of_address" in why.reason
    with pytest.raises(StaleUpdate):
        world.post(sequence=1)
    world.post(care_of_address=SECOND, sequence=3)
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:3::2"


@pytest.mark.parametrize("sequence", [0, 65000])
def test_an_update_that_is_stale_withdraws_nothing_whatever_it_says(world: World, sequence: int) -> None:
    with pytest.raises(StaleUpdate):
        world.post(care_of_address=parse_address("ff02::1"), sequence=sequence)
    world.deliver()
    assert world.state() == "active"


def test_nobody_withdraws_another_home_agents_binding(world: World) -> None:
    prefix = parse_prefix("2001:db8:bb::/64")
    world.offload.announce(OTHER_HOME_AGENT, (prefix,), LEASE, Status.UP, world.now)
    with pytest.raises(Refused):
        world.offload.report(Binding(HOME_ADDRESS, SECOND, OTHER_HOME_AGENT, 60, world.now + 60, 9), world.now)
    assert world.state() == "active"


def test_no_home_agents_address_is_a_home_address(world: World) -> None:
    """Its signalling, and what is tunnelled to it, would go to a mobile node."""
    address, network = host(OTHER_HOME_AGENT), parse_prefix("2001:db8:99::/112")
    announce = partial(world.offload.announce, OTHER_HOME_AGENT, (parse_prefix("2001:db8:bb::/64"),), LEASE, Status.UP)
    world.post(address, SECOND)
    world.offload.announce(parse_address("2001:db8:98::1"), (parse_prefix("2001:db8:98::/64"),), LEASE, Status.UP, 0.0)
    assert world.state(address) != "none"
    announce(world.now)
    world.pass_time(0)
    assert world.state(address) == "none"
    for home_address in (address, network):
        with pytest.raises(Refused, match=r"holds .* home agent's"):
            world.post(home_address, SECOND)


def test_no_home_agents_address_is_a_care_of_address(world: World) -> None:
    world.post(care_of_address=OTHER_HOME_AGENT, sequence=2)
    assert world.post(care_of_address=OTHER_HOME_AGENT, sequence=3) is Change.REFRESHED
    world.offload.announce(OTHER_HOME_AGENT, (parse_prefix("2001:db8:bb::/64"),), LEASE, Status.UP, world.now)
    with pytest.raises(Refused):  # before its removal, too
        world.post(care_of_address=OTHER_HOME_AGENT, sequence=4)
    world.post(care_of_address=SECOND, sequence=5)
    other = parse_address("2001:db8:98::1")
    world.post(care_of_address=other, sequence=6)
    world.offload.announce(other, (parse_prefix("2001:db8:98::/64"),), LEASE, Status.UP, world.now)
    world.pass_time(0)
    assert world.state() == "none"


@pytest.mark.parametrize(("home_address", "care_of_address"), list(combinations(HOME_ADDRESSES, 2)), ids=str)
def test_bindings_may_be_nested_but_not_in_a_loop(world: World, home_address: Prefix, care_of_address: Prefix) -> None:
    first, second, third = HOME_ADDRESSES
    world.post(second, first.packed)
    world.post(third, second.packed)
    with pytest.raises(Refused, match="loop"):
        world.post(home_address, care_of_address.packed, sequence=9)


NETWORK = parse_prefix("2001:db8:99:0:1::/80")
IN_NETWORK = parse_prefix("2001:db8:99:0:1::5")


def test_no_loop_leads_through_a_mobile_network(world: World) -> None:
    first, second, _ = HOME_ADDRESSES
    world.post(NETWORK, first.packed)
    with pytest.raises(Refused, match="loop"):
        world.post(first, IN_NETWORK.packed, sequence=2)
    world.post(second, IN_NETWORK.packed)
    with pytest.raises(Refused, match="loop"):
        world.post(first, second.packed, sequence=3)
    world.post(first, SECOND, sequence=4)  # nested, without a loop
    with pytest.raises(Refused, match="loop"):
        world.post(NETWORK, second.packed)


def test_no_loop_closes_when_a_binding_in_between_goes(world: World) -> None:
    """An address in a mobile network is bound elsewhere; without its binding, the network's packets take its place."""
    first, _, _ = HOME_ADDRESSES
    world.post(IN_NETWORK, SECOND)
    world.post(NETWORK, first.packed)
    with pytest.raises(Refused, match="loop"):
        world.post(first, IN_NETWORK.packed, sequence=2)


def test_a_chain_of_bindings_costs_no_more_than_a_few_looks(world: World) -> None:
    chain = [parse_prefix(f"2001:db8:99::2:{number:x}") for number in range(50)]
    for before, home_address in pairwise(chain):  # the last one first, so that none leads on when it is taken
        world.post(before, home_address.packed)
    with pytest.raises(Refused, match=f"more than {MOST_NESTED}"):
        world.post(chain[0], chain[1].packed)
    assert world.post(chain[-MOST_NESTED - 1], chain[-MOST_NESTED].packed) is Change.UNCHANGED
