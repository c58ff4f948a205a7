# SPDX-License-Identifier: Apache-2.0
"""The rules in which protocols differ: what orders updates, and who may end a binding."""

import pytest

from controller.core.admission import Refused
from controller.core.bindings import Binding, Change, NotServing, StaleNumber
from controller.core.home_agents import Status
from controller.core.protocols import Protocol
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from tests.support.world import LEASE, World

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
