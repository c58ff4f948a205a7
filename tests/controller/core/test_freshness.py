# SPDX-License-Identifier: Apache-2.0
"""A renewal of a lease certifies freshness: gates stand by it once all is in the switch that the bridge had seen."""

import pytest

from controller.core.bindings import Binding
from controller.core.explanation import explain
from controller.core.flows import Kind
from controller.core.home_agents import Status
from controller.core.traffic import Counters
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
    SECOND,
    World,
    binding,
)


def renew(world: World, last_change: int | None) -> None:
    """Renew the lease as of a change."""
    world.offload.announce(HOME_AGENT, (HOME_PREFIX,), LEASE, Status.UP, world.now, last_change)


def report(world: World, last_change: int, whole: bool = False) -> None:
    """Say that everything up to a change has been reported."""
    world.offload.reported(HOME_AGENT, last_change, whole, world.now)


def gates_end(world: World) -> float | None:
    """Return when the first gate in the switch ends, None if there is none that stands."""
    ends = [each.expires_at for each in world.switch.values() if each.flow.kind is Kind.GATE and each.expires_at]
    return min((each for each in ends if each > world.now), default=None)


def why(world: World) -> str:
    return explain(world.offload, HOME_ADDRESS, world.now).reason


def reported_up_to(last_change: int) -> World:
    """Start with a binding and a bridge that has seen its change 5, and has reported those up to one here."""
    world = World()
    renew(world, 5)
    world.agent_starts()
    world.snapshot(binding(HOME_ADDRESS, FIRST, now=world.now))
    report(world, last_change, whole=True)
    world.agent_follows()
    world.deliver()
    return world


@pytest.fixture
def fresh() -> World:
    """Provide a bridge that has reported everything up to change 5, with a binding whose traffic goes direct."""
    world = reported_up_to(5)
    assert gates_end(world) == world.now + LEASE
    assert world.offload.states.is_active(world.offload.bindings.get(HOME_ADDRESS), world.now)  # type: ignore[arg-type]
    return world


def test_no_gate_opens_before_everything_is_reported_and_it_is_said_why() -> None:
    world = reported_up_to(3)
    assert gates_end(world) is None
    assert "has seen its change 5, and has reported those up to 3 here" in why(world)
    report(world, 5)
    world.deliver()
    assert gates_end(world) == world.now + LEASE


def test_a_gate_is_not_renewed_while_the_bridge_has_seen_more_than_it_has_reported(fresh: World) -> None:
    ends = gates_end(fresh)
    fresh.now += 3
    renew(fresh, 6)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == ends
    fresh.post(HOME_ADDRESSES[1], FIRST)
    report(fresh, 6)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_a_gate_is_renewed_once_the_switch_has_what_was_reported_before(fresh: World) -> None:
    ends = gates_end(fresh)
    fresh.post(HOME_ADDRESS, SECOND)
    fresh.agent_follows()
    under_way = fresh.next_batch()
    assert under_way is not None
    report(fresh, 6)
    fresh.now += 2
    renew(fresh, 6)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == ends, "the switch has not answered"
    fresh.carry_out(under_way)
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_a_report_counts_also_while_a_repair_of_the_same_binding_is_under_way(fresh: World) -> None:
    ends, router = gates_end(fresh), fresh.offload.router(DPID)
    (lost,) = fresh.flows(Kind.DOWNLINK)
    del fresh.switch[lost.key]
    fresh.offload.switches.flow_removed(router, lost.key, Counters(1, 100), fresh.now)
    repair = fresh.next_batch()
    assert repair is not None
    fresh.post(HOME_ADDRESS, SECOND)
    report(fresh, 6)
    fresh.now += 2
    renew(fresh, 6)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == ends, "the switch has not been told where the mobile node is now"
    fresh.carry_out(repair)
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_what_the_switch_refuses_holds_no_renewal_up(fresh: World) -> None:
    fresh.post(HOME_ADDRESSES[1], SECOND)
    fresh.agent_follows()
    batch = fresh.next_batch()
    assert batch is not None
    fresh.offload.switches.refuse(fresh.offload.router(DPID), batch, {0: "table full"}, False, fresh.now)
    report(fresh, 6)
    fresh.now += 2
    renew(fresh, 6)
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_another_home_agents_reports_hold_no_renewal_up(fresh: World) -> None:
    other, theirs = parse_address("2001:db8:aa::1"), parse_prefix("2001:db8:aa::100")
    endpoints = {**ENDPOINTS, other: ENDPOINTS[HOME_AGENT]}

    def agent_follows() -> None:
        revision = fresh.offload.router(DPID).tunnels.difference(fresh.revision).revision
        fresh.offload.acknowledge(DPID, revision, endpoints, {}, {}, fresh.now)

    fresh.offload.announce(other, (parse_prefix("2001:db8:aa::/64"),), LEASE, Status.UP, fresh.now, 1)
    agent_follows()
    fresh.deliver()
    fresh.offload.report(Binding(theirs, SECOND, other), fresh.now)
    fresh.offload.reported(other, 1, True, fresh.now)
    agent_follows()
    under_way = fresh.next_batch()
    assert under_way is not None
    assert theirs in {change.flow.serves for change in under_way.changes}
    fresh.now += 2
    renew(fresh, 5)
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_gates_end_with_the_last_lease_that_was_fresh(fresh: World) -> None:
    for _ in range(4):
        fresh.now += 3
        renew(fresh, 6)
        fresh.agent_follows()
        fresh.deliver()
    assert gates_end(fresh) is None
    assert "has seen its change 6, and has reported those up to 5 here" in why(fresh)
    assert not fresh.offload.states.is_active(fresh.offload.bindings.get(HOME_ADDRESS), fresh.now)  # type: ignore[arg-type]


def test_a_bridge_that_counts_anew_is_fresh_with_its_snapshot(fresh: World) -> None:
    ends = gates_end(fresh)
    fresh.now += 3
    renew(fresh, 0)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == ends, "what it had reported in its former life does not count"
    fresh.snapshot(binding(HOME_ADDRESS, FIRST, now=fresh.now))
    report(fresh, 0, whole=True)
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_an_older_number_of_a_report_takes_nothing_back(fresh: World) -> None:
    report(fresh, 4)
    fresh.now += 3
    renew(fresh, 5)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE


def test_a_bridge_without_numbers_has_its_gates_renewed_at_once(fresh: World) -> None:
    fresh.now += 3
    renew(fresh, None)
    fresh.agent_follows()
    fresh.deliver()
    assert gates_end(fresh) == fresh.now + LEASE
