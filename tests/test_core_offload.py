# SPDX-License-Identifier: Apache-2.0
"""The controller's logic as a whole."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.core.admission import MOST_NESTED, NotAnnounced, Refused
from controller.core.bindings import Binding, Change, StaleSequence
from controller.core.departures import UNDER_WAY
from controller.core.explanation import explain
from controller.core.flows import Kind, MatchValue, Normal, Output, match_value
from controller.core.home_agents import Status
from controller.core.offload import Offload
from controller.core.settlement import ADOPTED_REVIEW
from controller.core.tunnels import EndpointName, FlowTunnelNames
from hoaflow.addresses import Prefix, format_address, host, parse_address, parse_prefix
from tests.support.world import (
    CARE_OF_ADDRESSES,
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
    TIMING,
    World,
    binding,
    established,
)


@pytest.fixture
def world() -> World:
    """Everything runs, one mobile node is registered on the first foreign link, and its traffic goes direct."""
    return established()


def test_a_handover_takes_effect_when_the_agent_acknowledges(world: World) -> None:
    world.event_names()
    world.post(care_of_address=SECOND, sequence=2)
    world.deliver()
    assert world.state() == "pending"
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:3::2"
    assert world.state() == "active"
    assert world.event_names() == ["binding-changed", "binding-active"]
    sources = [flow.flow.match for flow in world.switch.values() if flow.flow.kind is Kind.UPLINK]
    assert len(sources) == 1, "the former care-of address still has its uplink flow"


def test_a_handover_that_the_agent_does_not_acknowledge_falls_back(world: World) -> None:
    world.post(care_of_address=SECOND, sequence=2)
    world.deliver()
    world.pass_time(TIMING.acknowledge_within)
    assert world.next_hop() == "home agent"
    assert world.state() == "pending"


def test_an_older_update_changes_nothing(world: World) -> None:
    world.sent = 0
    with pytest.raises(StaleSequence):
        world.post(care_of_address=SECOND, sequence=0)
    world.deliver()
    assert world.sent == 0
    assert world.next_hop() == "2001:db8:2::2"


@pytest.mark.parametrize("deregistration", [{"lifetime": 0}, {"care_of_address": HOME_ADDRESS.packed}])
def test_a_deregistration_removes_and_any_sequence_starts_anew(world: World, deregistration: dict[str, object]) -> None:
    world.post(sequence=12002)
    world.post(sequence=12003, **deregistration)
    world.deliver()
    assert world.next_hop() == "home agent"
    assert world.state() == "none"
    assert not any(entry.flow.kind in (Kind.DOWNLINK, Kind.UPLINK) for entry in world.switch.values())
    assert world.post(care_of_address=SECOND, sequence=5078) is Change.ADDED


@pytest.mark.parametrize(
    ("last", "late"), [({"sequence": 12}, 11), ({"sequence": 12}, 12), ({}, 1), ({"sequence": 3}, 65535)]
)
def test_a_report_that_was_under_way_brings_no_binding_back(world: World, last: dict[str, int], late: int) -> None:
    """`last`: the number of the deregistration, if it has one."""
    world.post(**{"lifetime": 0, "sequence": None, **last})
    for _ in range(2):
        with pytest.raises(StaleSequence, match="just been removed"):
            world.post(sequence=late)
    assert world.state() == "none"
    world.pass_time(UNDER_WAY)
    assert world.post(sequence=late) is Change.ADDED


def test_a_snapshot_settles_what_number_a_registration_begins_with(world: World) -> None:
    """One that falls among those of late reports by chance waits for no more than its bridge's next snapshot."""
    world.post(sequence=12, lifetime=0)
    with pytest.raises(StaleSequence):
        world.post(sequence=5)
    assert world.snapshot(binding(sequence=5, now=world.now)).added == 1
    assert world.post(care_of_address=SECOND, sequence=6) is Change.CHANGED


def test_what_is_remembered_of_removed_bindings_is_bounded_by_time(world: World) -> None:
    for number in range(1000):
        world.pass_time(1.0, controller=False)
        world.post(parse_prefix(f"2001:db8:99::1:{number:x}"), sequence=1)
        world.post(parse_prefix(f"2001:db8:99::1:{number:x}"), sequence=2, lifetime=0)
    assert len(world.offload._updates._departures) <= UNDER_WAY


def test_the_same_input_again_sends_nothing(world: World) -> None:
    world.sent = 0
    world.post(sequence=1)
    world.snapshot(binding(sequence=1, now=world.now))
    world.agent_follows()
    world.deliver()
    assert world.sent == 0


def test_a_lifetime_ends(world: World) -> None:
    world.pass_time(59)
    for _ in range(20):
        world.pass_time(3)
        world.announce()
        world.agent_follows()
        world.deliver()
    assert world.next_hop() == "home agent"
    assert world.state() == "none"


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
    world.offload.hear_agent(DPID, world.now)  # it asks for its list, as it did before the restart
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
    world.offload.post(binding(lifetime=None, now=world.now), world.now)
    world.agent_follows()
    world.deliver()
    world.start_controller()
    world.deliver()
    assert any(entry.flow.kind is Kind.DOWNLINK for entry in world.switch.values())
    for _ in range(4):
        world.pass_time(LEASE / 2)
        world.deliver()
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}


def test_what_the_switch_lost_is_put_back(world: World) -> None:
    for kind in Kind:
        for key in [key for key, entry in world.switch.items() if entry.flow.kind is kind]:
            del world.switch[key]
        world.connect(DPID, PORTS, world.switch.values(), [])
        world.deliver()
        assert world.next_hop() == "2001:db8:2::2", kind


def test_a_binding_is_told_active_when_the_agents_word_comes_last(world: World) -> None:
    world.event_names()
    world.post(care_of_address=SECOND)
    world.agent_follows()
    batch = world.take()
    assert batch is not None
    revision = world.revision
    world.agent_starts()  # and so takes back what it said, while the switch carries out what followed from it
    world.carry_out(batch)
    assert world.state() == "pending"
    world.offload.acknowledge(DPID, revision, ENDPOINTS, None, {}, world.now)
    assert world.state() == "active"
    world.offload.tick(world.now)
    assert world.event_names() == ["binding-changed", "binding-active"]


def test_two_home_addresses_behind_one_care_of_address_share_the_uplink(world: World) -> None:
    world.post(HOME_ADDRESSES[1], lifetime=600)
    world.agent_follows()
    world.deliver()
    (uplink,) = [entry for entry in world.switch.values() if entry.flow.kind is Kind.UPLINK]
    world.post(lifetime=0, sequence=2)
    world.deliver()
    assert uplink.flow.key in world.switch
    world.post(HOME_ADDRESSES[1], lifetime=0)
    world.deliver()
    assert uplink.flow.key not in world.switch


def test_a_shared_uplink_lasts_as_long_as_the_binding_without_an_end(world: World) -> None:
    world.post(HOME_ADDRESSES[1], lifetime=None)
    world.agent_follows()
    world.deliver()
    (uplink,) = [entry for entry in world.switch.values() if entry.flow.kind is Kind.UPLINK]
    assert uplink.expires_at is None


def test_an_agent_that_starts_anew_has_to_acknowledge_anew(world: World) -> None:
    world.agent_starts()
    world.announce()
    world.deliver()
    assert world.state() == "pending"
    world.pass_time(TIMING.acknowledge_within)
    assert world.next_hop() == "home agent"


def test_no_gate_opens_while_a_guard_is_missing() -> None:
    world = World()
    world.announce()
    world.snapshot()
    world.agent_starts()
    world.refuse(Kind.GUARD, "no such match")
    world.deliver()
    router = world.offload.router(DPID)
    home_agent = world.offload.home_agents.get(HOME_AGENT)
    assert home_agent is not None
    assert router.gates.open(home_agent, world.now) == []
    assert not any(entry.flow.kind is Kind.GATE for entry in world.switch.values())
    assert "flow-rejected" in world.event_names()


def test_a_foreign_flow_in_our_place_stays() -> None:
    world = World()
    world.deliver()
    flows = [entry.flow for entry in world.switch.values()]
    (miss,) = [flow.key for flow in flows if flow.table == "classify" and flow.kind is Kind.MISS]
    fresh = World()
    fresh.connect(DPID, PORTS, [], [miss])
    fresh.deliver()
    assert miss not in fresh.switch


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
    world.offload.post(withheld, world.now)
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
    with pytest.raises(StaleSequence):
        world.post(sequence=1)
    world.post(care_of_address=SECOND, sequence=3)
    world.agent_follows()
    world.deliver()
    assert world.next_hop() == "2001:db8:3::2"


@pytest.mark.parametrize("sequence", [0, 65000])
def test_an_update_that_is_stale_withdraws_nothing_whatever_it_says(world: World, sequence: int) -> None:
    with pytest.raises(StaleSequence):
        world.post(care_of_address=parse_address("ff02::1"), sequence=sequence)
    world.deliver()
    assert world.state() == "active"


def test_nobody_withdraws_another_home_agents_binding(world: World) -> None:
    prefix = parse_prefix("2001:db8:bb::/64")
    world.offload.announce(OTHER_HOME_AGENT, (prefix,), LEASE, Status.UP, world.now)
    with pytest.raises(Refused):
        world.offload.post(Binding(HOME_ADDRESS, SECOND, OTHER_HOME_AGENT, 60, world.now + 60, 9), world.now)
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


def test_a_snapshot_needs_an_announcement() -> None:
    with pytest.raises(NotAnnounced):
        World().snapshot()


def test_bindings_without_a_lifetime_end_with_the_lease() -> None:
    world = World()
    world.announce()
    world.snapshot(binding(lifetime=None, now=world.now))
    world.pass_time(LEASE)
    assert len(world.offload.bindings) == 0


class Anything(RuleBasedStateMachine):
    """Whatever happens in whatever order: nothing outlives its bounds, and what is `active` is so."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.sequence = 0
        self.drained = False

    @rule(status=st.sampled_from(Status))
    def announce(self, status: Status) -> None:
        self.world.announce(status)

    @rule(where=st.lists(st.one_of(st.none(), st.sampled_from(CARE_OF_ADDRESSES)), min_size=3, max_size=3))
    def snapshot(self, where: list[bytes | None]) -> None:
        now = self.world.now
        if self.world.offload.home_agents.get(HOME_AGENT):
            self.world.snapshot(
                *(binding(h, c, now=now) for h, c in zip(HOME_ADDRESSES, where, strict=True) if c is not None)
            )

    @rule(
        home_address=st.sampled_from(HOME_ADDRESSES),
        care_of_address=st.sampled_from(CARE_OF_ADDRESSES),
        lifetime=st.sampled_from([0, 4, 60, 600]),
    )
    def post(self, home_address: Prefix, care_of_address: bytes, lifetime: int) -> None:
        self.sequence += 1
        if self.world.offload.home_agents.get(HOME_AGENT):
            self.world.post(home_address, care_of_address, lifetime, self.sequence)

    @rule()
    def agent_starts(self) -> None:
        self.world.agent_starts()

    @rule()
    def agent_follows(self) -> None:
        if self.world.offload.router(DPID).tunnels.endpoints:
            self.world.agent_follows()

    @rule()
    def deliver(self) -> None:
        self.world.deliver()

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 100.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(drained=st.booleans())
    def drain(self, drained: bool) -> None:
        self.world.offload.drain(DPID, drained, self.world.now)
        self.world.deliver()
        self.drained = drained

    @rule()
    def restart_controller(self) -> None:
        self.world.start_controller()

    @invariant()
    def gates_end_with_the_lease(self) -> None:
        for entry in self.world.switch.values():
            if entry.flow.kind is Kind.GATE:
                assert entry.expires_at is not None
                assert entry.expires_at <= self.world.now + LEASE + 0.11

    @invariant()
    def a_drained_router_has_no_gates_and_does_not_forget(self) -> None:
        router = self.world.offload.router(DPID)
        assert router.gates.draining == self.drained
        if self.drained:
            assert not any(entry.flow.kind is Kind.GATE for entry in self.world.switch.values())

    @invariant()
    def every_path_has_its_reason(self) -> None:
        world = self.world
        home_agent = world.offload.home_agents.get(HOME_AGENT)
        for home_address in HOME_ADDRESSES if home_agent else ():
            found = explain(world.offload, home_address, world.now)
            assert found.reason
            assert found.would_change
            assert found.since is None or found.since <= world.now
            assert (found.path == "direct") == (world.state(home_address) == "active")
            heard = home_agent is not None and home_agent.may_offload(world.now)
            assert (found.path == "home") == (heard and world.state(home_address) == "none")

    @invariant()
    def active_is_direct(self) -> None:
        for home_address in HOME_ADDRESSES:
            held = self.world.offload.bindings.get(home_address)
            if held is not None and self.world.state(home_address) == "active":
                assert self.world.next_hop(home_address) == format_address(held.care_of_address)

    @invariant()
    def flows_end_with_their_bindings(self) -> None:
        """Once the switch has been told that a lifetime is shorter now."""
        settled = self.world.offload.router(DPID).flows.settled
        for entry in self.world.switch.values() if settled else ():
            held = entry.flow.serves and self.world.offload.bindings.get(entry.flow.serves)
            if entry.flow.kind is Kind.DOWNLINK and held and self.world.state(held.home_address) == "active":
                assert entry.expires_at is not None
                assert held.expires_at is not None
                assert entry.expires_at <= held.expires_at + 2.1

    def teardown(self) -> None:
        """In the end everything comes right: one more announcement, snapshot and acknowledgement, and all is direct."""
        world = self.world
        world.offload.drain(DPID, False, world.now)
        world.announce()
        world.agent_starts()
        world.snapshot(*(binding(home_address, SECOND, now=world.now) for home_address in HOME_ADDRESSES))
        world.agent_follows()
        world.deliver()
        for home_address in HOME_ADDRESSES:
            assert world.next_hop(home_address) == "2001:db8:3::2"
            assert world.state(home_address) == "active"
        world.sent = 0
        world.deliver()
        assert world.sent == 0


Anything.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestAnything = Anything.TestCase


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
    world.offload.disconnect(DPID, world.now)
    world.connect(DPID, {"tin": 7}, world.switch.values(), [])
    world.deliver()
    (downlink,) = [entry.flow for entry in world.switch.values() if entry.flow.kind is Kind.DOWNLINK]
    assert downlink.actions[-1] == Output(7)


def run_clock(world: World, seconds: float) -> None:
    """Does as the controller's clock does: it asks for the deadline again when it wakes up, always a moment late."""
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


def test_an_agent_that_announces_something_else_is_told_of(world: World) -> None:
    world.event_names()
    world.agent_follows()
    assert "agent-changed" not in world.event_names()
    other = {HOME_AGENT: EndpointName("tin2", "02:00:00:00:00:0b")}
    world.offload.acknowledge(DPID, 0, other, None, {}, world.now)
    assert "agent-changed" in world.event_names()


def test_gates_follow_the_mac_addresses_that_the_agent_announces(world: World) -> None:
    first, second = "02:00:00:00:00:0c", "00:00:5e:00:02:01"

    def announce(*macs: str) -> None:
        world.offload.acknowledge(DPID, world.revision, ENDPOINTS, None, {}, world.now, macs)
        world.deliver()

    def taken() -> set[MatchValue | None]:
        gates = [entry.flow.match for entry in world.switch.values() if entry.flow.kind is Kind.GATE]
        assert all(match_value(gate, "eth_dst") or match_value(gate, "eth_src") for gate in gates)
        return {match_value(gate, "eth_dst") for gate in gates} - {None}

    home_agent = world.offload.home_agents.get(HOME_AGENT)
    assert home_agent is not None
    router = world.offload.router(DPID)
    announce(first)
    assert taken() == {first}
    opened = router.gates.open_since
    announce(first, second)
    assert taken() == {first, second}
    assert world.state() == "active"
    assert len(router.gates.open(home_agent, world.now)) == 2, "one for the home prefix, and one for the home agent"
    announce(second)
    assert taken() == {second}
    announce()
    assert taken() == set()
    assert (world.state(), opened) == ("pending", {})
    reason = router.gates.why_closed(home_agent, world.now)
    assert reason is not None
    assert "no interface" in reason.text
    announce(second)
    assert world.state() == "active"


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
    world.offload.acknowledge(7, 0, {}, None, {}, world.now)
    run_clock(world, TIMING.forget_after + TIMING.agent_lease + 1)
    assert set(world.offload.routers) == {DPID}, "a router whose switch is connected is not forgotten"
    assert list(world.offload.home_agents) == []
    world.deliver()
    world.pass_time(0, controller=False)
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}
    world.offload.disconnect(DPID, world.now)
    run_clock(world, TIMING.forget_after + 1)
    assert world.offload.routers == {}


def test_refreshes_do_not_pile_up(world: World) -> None:
    for _ in range(2000):
        world.pass_time(0.01)
        world.post(sequence=None, lifetime=86_400)
        world.deliver()
    assert len(world.offload.router(DPID).flows._work.later) < 200


def test_bindings_may_be_nested_but_not_in_a_circle(world: World) -> None:
    first, second, third = HOME_ADDRESSES
    for home_address, care_of_address in ((first, second), (first, third), (second, third)):
        world.post(first, FIRST, lifetime=60)
        world.post(second, first.packed, lifetime=60)
        world.post(third, second.packed, lifetime=60)
        with pytest.raises(Refused, match="circle"):
            world.post(home_address, care_of_address.packed, sequence=9, lifetime=60)


NETWORK = parse_prefix("2001:db8:99:0:1::/80")
IN_NETWORK = parse_prefix("2001:db8:99:0:1::5")


def test_no_circle_leads_through_a_mobile_network(world: World) -> None:
    first, second, _ = HOME_ADDRESSES
    world.post(NETWORK, first.packed)
    with pytest.raises(Refused, match="circle"):
        world.post(first, IN_NETWORK.packed, sequence=2)
    world.post(second, IN_NETWORK.packed)
    with pytest.raises(Refused, match="circle"):
        world.post(first, second.packed, sequence=3)
    world.post(first, SECOND, sequence=4)  # nested, without a circle
    with pytest.raises(Refused, match="circle"):
        world.post(NETWORK, second.packed)


def test_no_circle_closes_when_a_binding_in_between_goes(world: World) -> None:
    """An address in a mobile network that is bound elsewhere; without its binding the network's packets take its
    place."""
    first, _, _ = HOME_ADDRESSES
    world.post(IN_NETWORK, SECOND)
    world.post(NETWORK, first.packed)
    with pytest.raises(Refused, match="circle"):
        world.post(first, IN_NETWORK.packed, sequence=2)


def test_a_chain_of_bindings_costs_no_more_than_a_few_looks(world: World) -> None:
    chain = [parse_prefix(f"2001:db8:99::2:{number:x}") for number in range(50)]
    for before, home_address in pairwise(chain):  # the last one first, so that none leads on when it is taken
        world.post(before, home_address.packed)
    with pytest.raises(Refused, match=f"more than {MOST_NESTED}"):
        world.post(chain[0], chain[1].packed)
    assert world.post(chain[-MOST_NESTED - 1], chain[-MOST_NESTED].packed) is Change.UNCHANGED


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
    world.offload.set_ports(DPID, {"tx": 10, "rx": 11}, world.now)
    world.offload.announce(HOME_AGENT, (HOME_PREFIX, IPV4_PREFIX), LEASE, Status.UP, world.now)
    world.offload.acknowledge(DPID, 0, {}, FLOW_TUNNEL, {}, world.now)
    world.snapshot(binding(now=world.now))
    world.deliver()
    guards = {key for key, entry in world.switch.items() if entry.flow.kind is Kind.GUARD}
    assert {key[0].table for key in guards} == {"classify", "downlink", "verify"}
    world.start_controller(ports={"tx": 10, "rx": 11})
    for _ in range(LEASE):
        world.deliver()
        assert guards <= world.switch.keys()
        world.pass_time(0.9)
    world.pass_time(ADOPTED_REVIEW + 2)
    world.deliver()
    assert {entry.flow.kind for entry in world.switch.values()} == {Kind.MISS}
