# SPDX-License-Identifier: Apache-2.0
"""A home agent and an LMA of one network share a home prefix (RFC 6612): their gates stand and fall together."""

import pytest
from msgspec import structs

from controller.core.bindings import Binding, Change, StaleNumber
from controller.core.flows import Kind
from controller.core.home_agents import PrefixesOverlap, Status
from controller.core.protocols import Protocol
from controller.core.tunnels import EndpointName, FlowTunnelNames
from hoaflow.addresses import parse_address, parse_prefix
from tests.support.world import (
    DPID,
    ENDPOINTS,
    FIRST,
    HOME_ADDRESS,
    HOME_ADDRESSES,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    PORTS,
    SECOND,
    World,
)

LMA = parse_address("2001:db8:98::1")
HNP = parse_prefix("2001:db8:99:0:1::/80")
BOTH = {**ENDPOINTS, LMA: EndpointName("tin2", "02:00:00:00:00:0b")}


class Shared(World):
    """A world with an LMA that shares the home agent's prefix."""

    def announce(self, status: Status = Status.UP) -> None:
        self.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, status, self.now, group="campus")

    def announce_lma(self, group: str | None = "campus") -> None:
        """Renew the LMA's lease."""
        protocols = (Protocol.PMIPV6,)
        self.offload.announce(LMA, (HOME_PREFIX,), LEASE, Status.UP, self.now, None, protocols, group)

    def register(self, lifetime: int) -> None:
        """Register a mobile node with the LMA."""
        ends = self.now + lifetime
        self.offload.report(Binding(HNP, SECOND, LMA, lifetime, ends, None, None, Protocol.PMIPV6), self.now)

    def follow(self) -> None:
        """Let agent and switch follow."""
        for _ in range(2):
            revision = self.offload.renew_agent_lease(DPID, self.now).tunnels.difference(self.revision).revision
            self.offload.acknowledge(DPID, revision, BOTH, {}, {}, self.now)
            self.revision = revision
            self.deliver()

    def live(self, seconds: int, *, lma: bool) -> None:
        """Let time pass with the home agent's bridge alive, and the LMA's if `lma`."""
        for _ in range(seconds):
            self.announce()
            if lma:
                self.announce_lma()
            self.follow()
            self.pass_time(1.0)

    def states(self) -> tuple[str, str]:
        """Return the states of the home agent's binding and the LMA's."""
        return self.state(HOME_ADDRESS), self.state(HNP)


@pytest.fixture
def world() -> Shared:
    """Provide a world in which both have a binding that is active."""
    world = Shared()
    world.start_controller({**PORTS, "tin2": 4})
    world.announce()
    world.announce_lma()
    for anchor in (HOME_AGENT, LMA):
        with world.offload.snapshot(anchor, world.now) as snapshot:
            snapshot.take_in([], world.now)
            while not snapshot.complete(world.now):
                world.offload.tick(world.now)
    world.follow()
    world.post(HOME_ADDRESS, FIRST, lifetime=600)
    world.register(20)
    world.live(2, lma=True)
    assert world.states() == ("active", "active")
    return world


def gates(world: Shared) -> int:
    """Return how many gates stand."""
    return len(world.flows(Kind.GATE))


def test_without_a_group_a_home_prefix_belongs_to_one(world: Shared) -> None:
    for group in (None, "another"):
        with pytest.raises(PrefixesOverlap, match="or one group"):
            world.announce_lma(group)
    assert world.states() == ("active", "active")


def test_each_keeps_its_own_bindings(world: Shared) -> None:
    assert gates(world) == 3, "one for the prefix, and one for the address of each anchor"
    world.live(LEASE + 2, lma=True)
    assert world.states() == ("active", "active")
    assert gates(world) == 3


def test_an_anchor_ends_only_what_is_its_own(world: Shared) -> None:
    """A mobile node has moved from one anchor to another, and the former one says so late."""
    both = (Protocol.MIPV6, Protocol.PMIPV6)
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, None, both, "campus")
    ended = Binding(HNP, SECOND, HOME_AGENT, 0, world.now, None, None, Protocol.PMIPV6, 200)
    assert world.offload.report(ended, world.now) is Change.UNCHANGED
    assert world.state(HNP) == "active"
    refreshed = Binding(HNP, SECOND, LMA, 20, world.now + 20, None, None, Protocol.PMIPV6, 100)
    assert world.offload.report(refreshed, world.now) is Change.REFRESHED, "the other's number does not count here"


def test_a_snapshot_takes_no_binding_from_another_anchor_that_is_there(world: Shared) -> None:
    """A mobile node has moved from the home agent, which is an LMA as well and still has it in its cache."""
    both = (Protocol.MIPV6, Protocol.PMIPV6)
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, None, both, "campus")
    kept = Binding(HOME_ADDRESS, FIRST, HOME_AGENT, 600, world.now + 600)

    def snapshot(timestamp: int | None) -> bytes:
        """Take in the home agent's cache; return who has the prefix then."""
        former = Binding(HNP, FIRST, HOME_AGENT, 60, world.now + 60, None, None, Protocol.PMIPV6, timestamp)
        world.snapshot(kept, former)
        held = world.offload.registrations.at(former.key)
        assert held is not None
        return held.home_agent

    assert snapshot(None) == LMA
    moved = Binding(HNP, SECOND, LMA, 20, world.now + 20, None, None, Protocol.PMIPV6, 100)
    world.offload.report(moved, world.now)
    assert (snapshot(None), snapshot(100)) == (LMA, LMA)
    assert snapshot(101) == HOME_AGENT, "it is back there"
    world.offload.report(structs.replace(moved, timestamp=102), world.now)
    world.announce()
    world.pass_time(LEASE + 1)
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, None, both, "campus")
    assert snapshot(None) == HOME_AGENT, "the other's bridge is gone"


def test_a_mobile_node_that_has_come_home_to_its_gateway_is_followed_as_its_anchors_have_it(world: Shared) -> None:
    """A Binding Update has no time of its own, so nobody but the home agent can tell a late one (RFC 6275)."""
    home_address = parse_prefix("2001:db8:99:0:1::a")
    away = Binding(home_address, FIRST, HOME_AGENT, 600, world.now + 600, 7)

    def taken_by() -> bytes | None:
        """Return where its packets go."""
        found = world.offload.bindings.covering(home_address)
        return None if found is None else found.care_of_address

    world.offload.report(away, world.now)
    assert taken_by() == FIRST
    world.offload.report(structs.replace(away, lifetime=0, sequence=8), world.now)
    assert taken_by() == SECOND, "its gateway's"
    with pytest.raises(StaleNumber):
        world.offload.report(away, world.now)  # a report that was under way
    assert taken_by() == SECOND
    # The gateway refreshes its registration; the home agent has taken a late update, and sends packets there itself.
    world.register(20)
    world.snapshot(Binding(HOME_ADDRESS, FIRST, HOME_AGENT, 600, world.now + 600), structs.replace(away, sequence=7))
    assert taken_by() == FIRST
    world.register(20)
    assert taken_by() == FIRST
    world.offload.report(structs.replace(away, lifetime=0, sequence=9), world.now)
    assert taken_by() == SECOND


def test_no_gate_leads_to_bindings_of_an_anchor_whose_bridge_is_gone(world: Shared) -> None:
    world.live(LEASE + 2, lma=False)
    assert world.state(HNP) == "held"
    assert gates(world) == 0, "the prefix's gate would lead to what may be stale"
    assert world.state(HOME_ADDRESS) == "pending"
    world.live(LEASE, lma=False)  # until the LMA's binding has ended
    assert world.state(HNP) == "none"
    assert world.state(HOME_ADDRESS) == "active"
    world.announce_lma()
    world.live(3, lma=True)
    assert world.state(HOME_ADDRESS) == "active"


def _tunnel(number: int, address: str) -> FlowTunnelNames:
    mac = "02:00:00:00:00:0b"
    return FlowTunnelNames(f"tx{number}", f"rx{number}", parse_address(address), mac, mac, 1440, None)


@pytest.mark.parametrize(
    ("other", "care_of_address"), [("2001:db8:98::1", "2001:db8:4::2"), ("10.98.0.1", "10.4.0.2")], ids=["IPv6", "IPv4"]
)
def test_anchors_of_a_group_share_a_router_of_the_flow_backend(other: str, care_of_address: str) -> None:
    """Each takes back what must not leave its own tunnel, so that the flows of one are not those of the other."""
    world = World()
    world.start_controller({"tx6": 5, "rx6": 6, "tx4": 7, "rx4": 8})
    devices = {16: _tunnel(6, "fd00::41"), 4: _tunnel(4, "10.250.0.41")}
    anchors = {HOME_AGENT: FIRST, parse_address(other): parse_address(care_of_address)}
    bound = dict(zip(anchors, HOME_ADDRESSES, strict=False))
    for anchor, where in anchors.items():
        world.offload.announce(anchor, (HOME_PREFIX,), LEASE, Status.UP, world.now, group="campus")
        with world.offload.snapshot(anchor, world.now) as snapshot:
            snapshot.take_in([(0, Binding(bound[anchor], where, anchor))], world.now)
            snapshot.complete(world.now)
    world.offload.acknowledge(DPID, 0, {}, devices, {}, world.now)
    world.deliver()
    assert [world.state(home_address) for home_address in bound.values()] == ["active", "active"]
    sent = world.sent
    world.offload.acknowledge(DPID, 0, {}, devices, {}, world.now)
    world.deliver()
    assert world.sent == sent, "the same input again sends nothing"
