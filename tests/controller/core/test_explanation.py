# SPDX-License-Identifier: Apache-2.0
"""Why packets take the path they take: each reason that there can be, from the logic that decided."""

from collections.abc import Callable

import pytest

from controller.core.bindings import StaleUpdate
from controller.core.explanation import Explanation, NotCovered, explain
from controller.core.flows import Kind
from controller.core.home_agents import Status
from controller.core.reasons import Step
from controller.core.update_history import HOME_ADDRESSES_KEPT, UPDATES_KEPT, RecordedUpdate, UpdateHistory
from hoaflow.addresses import parse_prefix
from tests.support.world import (
    DPID,
    ENDPOINTS,
    HOME_ADDRESS,
    HOME_AGENT,
    HOME_PREFIX,
    LEASE,
    PORTS,
    SECOND,
    World,
    binding,
)

OTHER_ROUTER = 2


def why(world: World) -> Explanation:
    """Return the explanation for the mobile node, which has to say something in any case."""
    found = explain(world.offload, HOME_ADDRESS, world.now)
    assert found.reason
    assert found.would_change
    return found


def test_direct(world: World) -> None:
    confirmed = world.now
    world.pass_time(5.0)
    world.announce()
    found = why(world)
    assert (found.path, found.since) == ("direct", confirmed)
    assert "straight to 2001:db8:2::2" in found.reason
    assert found.routers[DPID].gate is not None
    assert Step.DRAIN in [remedy.step for remedy in found.would_change]
    assert [(update.source, update.result) for update in found.updates] == [("post", "added")]


def test_a_handover_is_direct_since_it_was_confirmed(world: World) -> None:
    world.pass_time(3.0)
    world.announce()
    world.post(care_of_address=SECOND, sequence=2)
    assert (why(world).path, why(world).since) == ("home-agent", world.now)
    world.agent_follows()
    world.deliver()
    assert (why(world).path, why(world).since) == ("direct", world.now)


def lapse(world: World) -> None:
    world.pass_time(LEASE + 1)


def restart(world: World) -> None:
    world.start_controller()
    world.announce()
    world.post(sequence=1)


def silence(world: World) -> None:
    for _ in range(4):
        world.pass_time(3.0)
        world.announce()
    world.deliver()


def disconnect(world: World) -> None:
    world.offload.connections.disconnect(DPID, world.now)


def drain(world: World) -> None:
    world.offload.drain(DPID, True, world.now)
    world.deliver()


def lose_port(world: World) -> None:
    world.offload.switches.set_ports(DPID, {}, world.now)


def lose_endpoint(world: World) -> None:
    world.offload.acknowledge(DPID, world.revision, {}, {}, {}, world.now)


def fail_tunnel(world: World) -> None:
    world.offload.acknowledge(DPID, world.revision, ENDPOINTS, {}, {HOME_ADDRESS: "no route"}, world.now)


def move(world: World) -> None:
    world.post(care_of_address=SECOND, sequence=2)


def leave_unsent(world: World) -> None:
    world.post(care_of_address=SECOND, sequence=2)
    world.agent_follows()


def refuse(kind: Kind) -> Callable[[World], None]:
    def refuse_flows(world: World) -> None:
        world.switch = {key: entry for key, entry in world.switch.items() if entry.flow.kind is not kind}
        world.connect(DPID, PORTS, world.switch.values(), [])
        while (batch := world.next_batch()) is not None or world.offload.router(DPID).flows.dirty:
            if batch is not None:
                refused = {at: "TABLE_FULL" for at, each in enumerate(batch.changes) if each.flow.kind is kind}
                world.offload.switches.refuse(world.offload.router(DPID), batch, refused, True, world.now)

    return refuse_flows


def take_over(world: World) -> None:
    foreign = [key for key, entry in world.switch.items() if entry.flow.kind is Kind.DOWNLINK]
    rest = [entry for key, entry in world.switch.items() if key not in foreign]
    world.connect(DPID, PORTS, rest, foreign)


def lose_guards(world: World) -> None:
    rest = [entry for entry in world.switch.values() if entry.flow.kind is not Kind.GUARD]
    world.connect(DPID, PORTS, rest, [])


def lose_gates(world: World) -> None:
    rest = [entry for entry in world.switch.values() if entry.flow.kind is not Kind.GATE]
    world.connect(DPID, PORTS, rest, [])


@pytest.mark.parametrize(
    ("happens", "reason", "since"),
    [
        (lapse, "has not renewed its lease", LEASE),
        (restart, "its first snapshot has not come", 0.0),
        (silence, "its tunnel agent is silent", 10.0),
        (disconnect, "its switch is not connected", 0.0),
        (drain, "the router is drained", 0.0),
        (lose_port, "announced tunnel port tin, but the switch has no such port", 0.0),
        (lose_endpoint, "not prepared for home agent 2001:db8:99::1", 0.0),
        (fail_tunnel, "could not set up the tunnel: no route", 0.0),
        (move, "has not acknowledged the tunnel yet", 0.0),
        (leave_unsent, "the switch has not confirmed its flows yet", 0.0),
        (refuse(Kind.DOWNLINK), "the switch refused its flow: TABLE_FULL", 0.0),
        (refuse(Kind.GATE), "the switch refused the home agent's gate: TABLE_FULL", 0.0),
        (take_over, "another application holds a flow with the same match", 0.0),
        (lose_guards, "has not confirmed the flows that keep signalling", 0.0),
        (lose_gates, "has not confirmed the home agent's gates yet", 0.0),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_keeps_packets_on_the_home_agents_path_is_named(
    world: World, happens: Callable[[World], None], reason: str, since: float
) -> None:
    before = world.now
    happens(world)
    found = why(world)
    assert found.path == "home-agent"
    assert reason in found.reason
    assert found.since == before + since


def test_a_router_that_waits_for_its_agent_after_a_restart(world: World) -> None:
    world.start_controller()
    world.announce()
    world.snapshot(binding(sequence=1, now=world.now))
    found = why(world)
    assert "its agent has announced no tunnel endpoint" in found.reason
    assert found.routers[DPID].state.state == "pending"


def test_gates_wait_for_tunnels_of_an_earlier_time(world: World) -> None:
    world.start_controller()
    world.announce()
    world.snapshot(binding(care_of_address=SECOND, sequence=2, now=world.now))
    world.switch = {key: entry for key, entry in world.switch.items() if entry.flow.kind is not Kind.GATE}
    world.connect(DPID, PORTS, world.switch.values(), [])
    world.agent_starts()
    while (batch := world.next_batch()) and all(each.flow.kind is not Kind.DOWNLINK for each in batch.changes):
        world.carry_out(batch)
    assert batch is not None, "what leads to the former care-of address stays"
    assert "no gate opens onto those of an earlier time" in why(world).reason
    world.carry_out(batch)
    world.agent_follows()
    world.deliver()
    assert why(world).path == "direct"


def test_at_home(world: World) -> None:
    world.pass_time(2.0)
    world.post(lifetime=0, sequence=2)
    found = why(world)
    assert (found.path, found.since, found.binding) == ("home", world.now, None)
    assert "no binding is held for 2001:db8:99::100" in found.reason
    assert "deregistered" in found.reason
    assert [(update.source, update.result) for update in found.updates] == [("post", "added"), ("post", "removed")]
    assert explain(world.offload, parse_prefix("2001:db8:99::7"), world.now).since is None


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("2001:db8:77::7", "2001:db8:77::7 lies in no home prefix of an announced home agent"),
        ("ff0e::1", "ff0e::1 is multicast: such packets, to and from mobile nodes, are left to home agents"),
    ],
)
def test_an_address_outside_all_home_prefixes_is_told_why(world: World, address: str, reason: str) -> None:
    with pytest.raises(NotCovered, match=reason):
        explain(world.offload, parse_prefix(address), world.now)


def test_what_ended_while_the_bridge_was_away_says_nothing_of_where_its_mobile_node_is(world: World) -> None:
    lapse(world)
    world.pass_time(120.0)
    found = why(world)
    assert (found.path, found.binding) == ("home-agent", None)
    assert "has not renewed its lease" in found.reason
    assert "is not known here" in found.reason
    world.announce()
    assert "its first snapshot has not come" in why(world).reason
    world.snapshot()
    assert why(world).path == "home"


def test_one_router_of_two(world: World) -> None:
    world.connect(OTHER_ROUTER, PORTS, [], [])
    world.offload.acknowledge(OTHER_ROUTER, 0, ENDPOINTS, {}, {}, world.now)
    found = why(world)
    assert found.path == "mixed"
    assert "1 of 2 prepared routers" in found.reason
    assert "0000000000000002" in found.reason
    assert any(remedy.text.startswith("router 0000000000000002") for remedy in found.would_change)


def test_a_home_agent_that_is_down_is_told(world: World) -> None:
    world.announce(Status.DOWN)
    found = why(world)
    assert found.path == "direct"
    assert "the home agent is down" in found.reason


def test_an_address_in_a_mobile_network_is_explained_by_its_binding(world: World) -> None:
    network = parse_prefix("2001:db8:aa:1::/64")
    prefixes = (HOME_PREFIX, parse_prefix("2001:db8:aa::/48"))
    world.offload.announce(HOME_AGENT, prefixes, LEASE, Status.UP, world.now)
    world.post(home_address=network)
    world.agent_follows()
    world.deliver()
    found = explain(world.offload, parse_prefix("2001:db8:aa:1::7"), world.now)
    assert found.binding is not None
    assert (found.path, found.binding.home_address) == ("direct", network)


def test_updates_are_told_with_their_fate(world: World) -> None:
    world.post(sequence=2, lifetime=600)
    with pytest.raises(StaleUpdate):
        world.post(sequence=1, care_of_address=SECOND)
    world.snapshot()
    fates = [(update.source, update.result, update.reason) for update in why(world).updates]
    assert fates == [
        ("post", "added", None),
        ("post", "refreshed", None),
        ("post", "refused", "stale-sequence"),
        ("snapshot", "removed", "not-in-snapshot"),
    ]
    assert "removed (not-in-snapshot)" in why(world).reason


def test_the_history_is_bounded() -> None:
    history = UpdateHistory()
    update = RecordedUpdate(0.0, None, None, None, "post", "changed")
    for number in range(HOME_ADDRESSES_KEPT + 10):
        address = parse_prefix(f"2001:db8:99:0::{number:x}")
        for _ in range(UPDATES_KEPT + 2):
            history.record(address, update)
    assert len(history.of(address)) == UPDATES_KEPT
    assert history.of(parse_prefix("2001:db8:99::9")) == ()
    assert len(history.of(parse_prefix("2001:db8:99::a"))) == UPDATES_KEPT


def test_refreshes_drive_nothing_out_of_the_history() -> None:
    history = UpdateHistory()
    added = RecordedUpdate(0.0, None, None, None, "post", "added")
    history.record(HOME_ADDRESS, added)
    for moment in range(100):
        history.record(HOME_ADDRESS, RecordedUpdate(moment, None, moment, None, "post", "refreshed"))
    assert history.of(HOME_ADDRESS) == (added, RecordedUpdate(99, None, 99, None, "post", "refreshed"))


def test_a_binding_whose_switch_comes_later_is_announced_as_active() -> None:
    world = World()
    world.offload.connections.disconnect(DPID, world.now)
    world.announce()
    world.agent_starts()
    world.snapshot(binding(sequence=1, now=world.now))
    world.agent_follows()
    assert "binding-active" not in world.event_names()
    world.connect(DPID, PORTS, [], [])
    world.deliver()
    world.pass_time(0.0)
    assert world.event_names().count("binding-active") == 1
    world.announce()
    world.deliver()
    world.pass_time(1.0)
    assert "binding-active" not in world.event_names()


def test_a_binding_that_the_switch_still_has_after_a_restart_is_announced_as_active(world: World) -> None:
    world.start_controller()
    world.announce()
    world.agent_starts()
    world.snapshot(binding(sequence=1, now=world.now))
    world.agent_follows()
    world.deliver()
    world.pass_time(0.0)
    assert world.event_names().count("binding-active") == 1


def test_a_drained_router_keeps_all_but_its_gates(world: World) -> None:
    before = dict(world.switch)
    assert world.offload.drain(DPID, True, world.now).gates.draining
    batch = world.next_batch()
    assert batch is not None
    assert [(change.add, change.flow.kind) for change in batch.changes] == [
        *[(False, Kind.GATE)] * 2,
        (True, Kind.DRAIN),
    ]
    world.carry_out(batch)
    assert world.offload.router(DPID).gates.drain_confirmed(world.now)
    assert {entry.flow.kind for key, entry in before.items() if key not in world.switch} == {Kind.GATE}
    assert world.next_hop() == "home agent"
    world.event_names()
    world.offload.drain(DPID, True, world.now)
    assert world.event_names() == []
    world.offload.drain(DPID, False, world.now)
    world.deliver()
    assert world.next_hop() == "2001:db8:2::2"
    assert not any(entry.flow.kind is Kind.DRAIN for entry in world.switch.values())
