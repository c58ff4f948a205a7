# SPDX-License-Identifier: Apache-2.0
"""The rules in which protocols differ: what orders updates, and who may end a binding."""

from contextlib import nullcontext
from typing import Any

import pytest
from msgspec.structs import replace

from controller.core.admission import Refused
from controller.core.bindings import Binding, Change, NotServing, StaleNumber
from controller.core.home_agents import Status
from controller.core.protocols import Protocol
from controller.core.tunnels import EndpointName
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from tests.support.world import DPID, LEASE, World

LMA = parse_address("2001:db8:98::1")
POOL = parse_prefix("2001:db8:f1::/48")
HNP = parse_prefix("2001:db8:f1:1::/64")
MAG_1, MAG_2 = parse_address("2001:db8:2::2"), parse_address("2001:db8:3::2")


def registered(
    proxy_coa: bytes = MAG_1, timestamp: int | None = None, sequence: int | None = None, lifetime: int = 60
) -> Binding:
    """Return a registration of HNP."""
    return Binding(HNP, proxy_coa, LMA, lifetime, 2000.0, sequence, None, Protocol.PMIPV6, timestamp)


@pytest.fixture
def lma() -> World:
    """Return a world with an LMA."""
    world = World()
    announce(world)
    return world


def announce(world: World, *protocols: Protocol) -> None:
    """Announce the LMA."""
    world.offload.announce(LMA, (POOL,), LEASE, Status.UP, world.now, None, protocols or (Protocol.PMIPV6,))


def held(world: World, home_address: Prefix = HNP) -> Binding | None:
    """Return the binding held for a home network prefix."""
    return world.offload.binding(home_address)


def test_a_handover_starts_with_any_sequence_number(lma: World) -> None:
    lma.offload.report(registered(MAG_1, sequence=7), lma.now)
    assert lma.offload.report(registered(MAG_2, sequence=0), lma.now) is Change.CHANGED
    assert held(lma) == registered(MAG_2, sequence=0)


def test_the_timestamp_tells_which_gateway_serves(lma: World) -> None:
    lma.offload.report(registered(MAG_2, timestamp=1 << 40), lma.now)
    with pytest.raises(StaleNumber, match=r"timestamp 1099511627775 .* is not newer than 1099511627776"):
        lma.offload.report(registered(MAG_1, timestamp=(1 << 40) - 1), lma.now)
    with pytest.raises(StaleNumber):
        lma.offload.report(registered(MAG_1, timestamp=1 << 40), lma.now)
    assert held(lma) == registered(MAG_2, timestamp=1 << 40)
    # Far ahead, as no sequence number could be.
    assert lma.offload.report(registered(MAG_1, timestamp=1 << 60), lma.now) is Change.CHANGED


def test_a_late_registration_does_not_follow_the_end(lma: World) -> None:
    lma.offload.report(registered(timestamp=100), lma.now)
    lma.offload.report(registered(timestamp=200, lifetime=0), lma.now)
    with pytest.raises(StaleNumber, match="just been removed"):
        lma.offload.report(registered(timestamp=100), lma.now)
    with pytest.raises(StaleNumber, match="just been removed"):
        lma.offload.report(registered(timestamp=200), lma.now)
    assert lma.offload.report(registered(timestamp=201), lma.now) is Change.ADDED


def test_a_former_gateway_does_not_end_what_its_successor_has_registered(lma: World) -> None:
    lma.offload.report(registered(MAG_1), lma.now)
    lma.offload.report(registered(MAG_2), lma.now)
    with pytest.raises(NotServing, match="has moved to 2001:db8:3::2"):
        lma.offload.report(registered(MAG_1, lifetime=0), lma.now)
    assert held(lma) == registered(MAG_2)
    assert lma.offload.report(registered(MAG_2, lifetime=0), lma.now) is Change.REMOVED


def test_an_anchor_has_bindings_of_announced_protocols_only(lma: World) -> None:
    with pytest.raises(Refused, match="is announced with pmipv6, not mipv6"):
        lma.offload.report(Binding(HNP, MAG_1, LMA), lma.now)
    lma.offload.report(registered(), lma.now)
    announce(lma, Protocol.MIPV6)
    lma.pass_time(1)
    assert held(lma) is None


# Both protocols together (RFC 6612): LMA and home agent in one, so that a home address may have a binding by each.

BOTH = (Protocol.MIPV6, Protocol.PMIPV6)
HOME = parse_prefix("2001:db8:f1:1::a")
AWAY = parse_address("2001:db8:4::2")


def at_home(proxy_coa: bytes = MAG_1, lifetime: int = 60, withheld: str | None = None) -> Binding:
    """Return a gateway's registration of the home address alone, as OAI PMIPv6 shows it."""
    return Binding(HOME, proxy_coa, LMA, lifetime, 1000.0 + lifetime, None, withheld, Protocol.PMIPV6)


def away(lifetime: int = 60, withheld: str | None = None) -> Binding:
    """Return the mobile node's own registration of the same home address."""
    return Binding(HOME, AWAY, LMA, lifetime, 1000.0 + lifetime, 7, withheld)


def where(world: World) -> bytes | None:
    """Return where the packets for HOME go."""
    held = world.offload.bindings.get(HOME)
    return None if held is None else held.care_of_address


@pytest.fixture
def both(lma: World) -> World:
    """Return a world whose anchor is LMA and home agent, with a binding by each protocol for the same home address."""
    announce(lma, *BOTH)
    lma.offload.report(at_home(), lma.now)
    assert where(lma) == MAG_1
    assert lma.offload.report(away(), lma.now) is Change.CHANGED
    assert where(lma) == AWAY
    return lma


def test_the_mobile_nodes_own_registration_comes_first_and_its_end_leaves_the_gateways(both: World) -> None:
    covered = both.offload.registrations.at((Protocol.PMIPV6, HOME))
    assert covered == at_home()
    assert both.offload.states.of(covered, both.now).state == "withheld"
    assert both.offload.report(at_home(MAG_2), both.now) is Change.CHANGED
    assert where(both) == AWAY
    assert both.offload.report(away(lifetime=0), both.now) is Change.REMOVED
    assert where(both) == MAG_2


def test_the_gateways_deregistration_leaves_the_mobile_nodes_own(both: World) -> None:
    with pytest.raises(NotServing):
        both.offload.report(at_home(MAG_2, lifetime=0), both.now)
    assert both.offload.report(at_home(lifetime=0), both.now) is Change.REMOVED
    assert where(both) == AWAY
    both.offload.report(away(lifetime=0), both.now)
    assert held(both, HOME) is None


def test_the_order_in_which_they_come_does_not_matter(lma: World) -> None:
    announce(lma, *BOTH)
    lma.offload.report(away(), lma.now)
    assert lma.offload.report(at_home(), lma.now) is Change.ADDED
    assert where(lma) == AWAY


def test_lifetimes_end_each_by_itself(lma: World) -> None:
    announce(lma, *BOTH)
    lma.offload.report(at_home(lifetime=60), lma.now)
    lma.offload.report(away(lifetime=5), lma.now)
    lma.pass_time(6)
    assert where(lma) == MAG_1
    lma.offload.report(replace(away(lifetime=600), sequence=8), lma.now)
    lma.pass_time(60)
    assert where(lma) == AWAY
    assert lma.offload.registrations.all_at(HOME) == [replace(away(lifetime=600), sequence=8)]


def test_a_snapshot_has_both_and_what_it_lacks_goes_by_itself(both: World) -> None:
    def snapshot(*bindings: Binding) -> None:
        with both.offload.snapshot(LMA, both.now) as taken:
            taken.take_in(enumerate(bindings), both.now)
            while not taken.complete(both.now):
                both.offload.tick(both.now)
        assert not taken.result.refused

    snapshot(at_home(), away())
    assert both.offload.registrations.all_at(HOME) == [away(), at_home()]
    snapshot(at_home())
    assert both.offload.registrations.all_at(HOME) == [at_home()]
    snapshot(away())
    assert both.offload.registrations.all_at(HOME) == [away()]
    snapshot()
    assert both.offload.registrations.all_at(HOME) == []


def test_what_is_withheld_comes_first_all_the_same(both: World) -> None:
    both.offload.report(away(withheld="IPsec"), both.now)
    assert where(both) is None
    both.offload.report(away(lifetime=0), both.now)
    assert where(both) == MAG_1


def test_an_operator_removes_both(both: World) -> None:
    assert both.offload.remove(HOME, both.now)
    assert both.offload.registrations.all_at(HOME) == []


def test_a_longer_prefix_is_another_key(lma: World) -> None:
    announce(lma, *BOTH)
    lma.offload.report(registered(), lma.now)
    lma.offload.report(away(), lma.now)
    found = lma.offload.bindings.covering(HOME)
    assert found == away()
    lma.offload.report(away(lifetime=0), lma.now)
    assert lma.offload.bindings.covering(HOME) == registered()
    again = replace(away(), sequence=8)
    lma.offload.report(again, lma.now)
    lma.offload.report(registered(lifetime=0), lma.now)
    assert lma.offload.bindings.covering(HOME) == again


@pytest.mark.parametrize("left", [{"withheld": "IPsec"}, {"care_of_address": parse_address("fe80::2")}])
def test_a_home_address_left_to_its_home_agent_keeps_the_prefix_around_it_there(
    lma: World, left: dict[str, Any]
) -> None:
    def carried() -> bool:
        return lma.offload.router(DPID).desired.unit_of(HNP, lma.now) is not None

    announce(lma, *BOTH)
    lma.offload.acknowledge(DPID, 0, {LMA: EndpointName("tin", "02:00:00:00:00:0a")}, {}, {}, lma.now)

    def follow() -> None:
        router = lma.offload.router(DPID)
        lma.offload.acknowledge(DPID, router.tunnels.revision, router.tunnels.endpoints, {}, {}, lma.now)

    lma.offload.report(registered(), lma.now)
    follow()
    assert carried()
    with nullcontext() if "withheld" in left else pytest.raises(Refused):
        lma.offload.report(replace(away(), **left), lma.now)
    assert not carried()
    lma.offload.report(registered(lifetime=0), lma.now)
    lma.offload.report(registered(), lma.now)
    follow()
    assert not carried(), "whichever comes first"
    lma.offload.report(replace(away(lifetime=0), sequence=8), lma.now)
    assert carried()


def test_a_care_of_address_within_a_home_network_prefix_is_taken_and_no_circle(lma: World) -> None:
    announce(lma, *BOTH)
    lma.offload.report(registered(), lma.now)
    elsewhere = parse_prefix("2001:db8:f1:2::b")
    lma.offload.report(Binding(elsewhere, HOME.packed, LMA), lma.now)
    with pytest.raises(Refused, match="a loop"):
        lma.offload.report(Binding(HNP, elsewhere.packed, LMA, protocol=Protocol.PMIPV6), lma.now)
