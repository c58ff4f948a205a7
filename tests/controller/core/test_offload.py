# SPDX-License-Identifier: Apache-2.0
"""The controller's logic as a whole."""

import pytest

from controller.core.admission import NotAnnounced
from controller.core.bindings import Change, StaleUpdate
from controller.core.flows import Kind, MatchValue, match_value
from controller.core.home_agents import Status
from controller.core.protocols import UNDER_WAY
from controller.core.tunnels import EndpointName
from hoaflow.addresses import Prefix, parse_prefix
from tests.support.world import (
    DPID,
    ENDPOINTS,
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
)


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
    with pytest.raises(StaleUpdate):
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
        with pytest.raises(StaleUpdate, match="just been removed"):
            world.post(sequence=late)
    assert world.state() == "none"
    world.pass_time(UNDER_WAY)
    assert world.post(sequence=late) is Change.ADDED


def test_a_snapshot_settles_what_number_a_registration_begins_with(world: World) -> None:
    """One that falls among those of late reports by chance waits for no more than its bridge's next snapshot."""
    world.post(sequence=12, lifetime=0)
    with pytest.raises(StaleUpdate):
        world.post(sequence=5)
    assert world.snapshot(binding(sequence=5, now=world.now)).added == 1
    assert world.post(care_of_address=SECOND, sequence=6) is Change.CHANGED


def test_what_is_remembered_of_removed_bindings_is_bounded_by_time(world: World) -> None:
    for number in range(1000):
        world.pass_time(1.0, controller=False)
        world.post(parse_prefix(f"2001:db8:99::1:{number:x}"), sequence=1)
        world.post(parse_prefix(f"2001:db8:99::1:{number:x}"), sequence=2, lifetime=0)
    assert len(world.offload._updates._last_numbers) <= UNDER_WAY


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


def test_a_binding_is_told_active_when_the_agents_word_comes_last(world: World) -> None:
    world.event_names()
    world.post(care_of_address=SECOND)
    world.agent_follows()
    batch = world.next_batch()
    assert batch is not None
    revision = world.revision
    world.agent_starts()  # and so takes back what it said, while the switch carries out what followed from it
    world.carry_out(batch)
    assert world.state() == "pending"
    world.offload.acknowledge(DPID, revision, ENDPOINTS, {}, {}, world.now)
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


def test_a_snapshot_needs_an_announcement() -> None:
    with pytest.raises(NotAnnounced):
        World().snapshot()


def test_an_agent_that_announces_something_else_is_told_of(world: World) -> None:
    world.event_names()
    world.agent_follows()
    assert "agent-changed" not in world.event_names()
    other = {HOME_AGENT: EndpointName("tin2", "02:00:00:00:00:0b")}
    world.offload.acknowledge(DPID, 0, other, {}, {}, world.now)
    assert "agent-changed" in world.event_names()


def test_gates_follow_the_mac_addresses_that_the_agent_announces(world: World) -> None:
    first, second = "02:00:00:00:00:0c", "00:00:5e:00:02:01"

    def announce(*macs: str) -> None:
        world.offload.acknowledge(DPID, world.revision, ENDPOINTS, {}, {}, world.now, macs)
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
    assert router.gates.open_since(HOME_AGENT) is not None
    announce(first, second)
    assert taken() == {first, second}
    assert world.state() == "active"
    assert len(router.gates.open(home_agent, world.now)) == 2, "one for the home prefix, and one for the home agent"
    announce(second)
    assert taken() == {second}
    announce()
    assert taken() == set()
    assert (world.state(), router.gates.open_since(HOME_AGENT)) == ("pending", None)
    reason = router.gates.why_closed(home_agent, world.now)
    assert reason is not None
    assert "no interface" in reason.text
    announce(second)
    assert world.state() == "active"


def test_refreshes_do_not_pile_up(world: World) -> None:
    for _ in range(2000):
        world.pass_time(0.01)
        world.post(sequence=None, lifetime=86_400)
        world.deliver()
    assert len(world.offload.router(DPID).flows._work.later) < 200


def test_an_announcement_says_what_it_changed(world: World) -> None:
    def announce(status: Status = Status.UP, prefixes: tuple[Prefix, ...] = (HOME_PREFIX,)) -> Change:
        return world.offload.announce(HOME_AGENT, prefixes, LEASE, status, world.now)[1]

    assert announce() is Change.REFRESHED
    assert announce(Status.DOWN) is Change.CHANGED
    assert announce(Status.DOWN) is Change.REFRESHED
    assert announce(prefixes=(HOME_PREFIX, parse_prefix("2001:db8:aa::/48"))) is Change.CHANGED
    world.pass_time(LEASE + 1)
    assert announce(prefixes=(HOME_PREFIX, parse_prefix("2001:db8:aa::/48"))) is Change.ADDED


def test_an_acknowledgement_says_what_it_changed(world: World) -> None:
    def acknowledge(failures: dict[Prefix, str], macs: tuple[str, ...] | None = None) -> Change:
        return world.offload.acknowledge(DPID, world.revision, ENDPOINTS, {}, failures, world.now, macs)

    assert acknowledge({}) is Change.REFRESHED
    assert acknowledge({HOME_ADDRESS: "no route"}) is Change.CHANGED
    assert acknowledge({HOME_ADDRESS: "no route"}) is Change.REFRESHED
    assert acknowledge({}) is Change.CHANGED
    assert acknowledge({HOME_ADDRESSES[1]: "no route"}) is Change.REFRESHED, "it has no binding"
    assert acknowledge({}, ("02:00:00:00:00:0c",)) is Change.CHANGED
    world.pass_time(TIMING.agent_lease + 1)
    assert acknowledge({}, ("02:00:00:00:00:0c",)) is Change.ADDED


def test_an_older_report_from_the_same_care_of_address_is_refused(world: World) -> None:
    assert world.post(sequence=5) is Change.REFRESHED
    with pytest.raises(StaleUpdate):
        world.post(sequence=4)
    held = world.offload.bindings.get(HOME_ADDRESS)
    assert held is not None
    assert held.sequence == 5
