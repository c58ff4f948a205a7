# SPDX-License-Identifier: Apache-2.0
"""What a bridge leaves to its home agent is known, explained and counted, and nothing is ever installed for it."""

import random

import pytest

from controller.core.binding_counts import count_bindings
from controller.core.bindings import Change, StaleUpdate
from controller.core.explanation import explain
from controller.core.flows import Kind
from controller.metrics import STATES
from hoaflow.addresses import parse_prefix
from tests.support.world import (
    FIRST,
    HOME_ADDRESS,
    HOME_ADDRESSES,
    HOME_AGENT,
    LEASE,
    SECOND,
    World,
    binding,
    established,
)

IPSEC = "IPsec: the home agent's kernel protects its payload"
SERVING = (Kind.DOWNLINK, Kind.UPLINK, Kind.VERIFY)


def serving(world: World) -> list[Kind]:
    return [entry.flow.kind for entry in world.switch.values() if entry.flow.kind in SERVING]


def settle(world: World) -> None:
    world.agent_follows()
    world.deliver()


def test_it_takes_away_what_stood_and_says_why(world: World) -> None:
    world.event_names()
    assert world.post(sequence=1, withheld=IPSEC) is Change.CHANGED
    settle(world)
    assert serving(world) == []
    assert world.tunnels == {}
    assert world.next_hop() == "home agent"
    assert world.state() == "withheld"
    assert world.event_names() == ["binding-removed", "binding-withheld"]
    found = explain(world.offload, HOME_ADDRESS, world.now)
    assert (found.path, found.since) == ("home-agent", world.now)
    assert IPSEC in found.reason
    assert "deregistered" not in found.reason
    assert [(update.result, update.reason) for update in found.updates[-2:]] == [
        ("removed", "withheld"),
        ("withheld", IPSEC),
    ]


def test_a_new_one_installs_nothing(world: World) -> None:
    sent = world.sent
    other = HOME_ADDRESSES[1]
    assert world.post(other, SECOND, withheld=IPSEC) is Change.ADDED
    assert world.post(other, SECOND, withheld=IPSEC) is Change.UNCHANGED
    settle(world)
    assert world.sent == sent
    assert world.state(other) == "withheld"
    assert world.state() == "active"


def test_it_goes_direct_when_the_cause_is_gone(world: World) -> None:
    world.post(sequence=1, withheld=IPSEC)
    settle(world)
    assert world.post(sequence=1) is Change.ADDED, "with the number that it had: nothing was deregistered"
    settle(world)
    world.announce()
    world.deliver()
    assert (world.state(), world.next_hop()) == ("active", "2001:db8:2::2")


def test_snapshots_carry_it_and_end_it(world: World) -> None:
    result = world.snapshot(binding(sequence=1, now=world.now, withheld=IPSEC))
    assert (result.added, result.changed, result.removed) == (0, 1, 0)
    settle(world)
    assert (world.state(), serving(world)) == ("withheld", [])
    assert world.snapshot(binding(sequence=1, now=world.now, withheld=IPSEC)).changes == 0
    assert world.snapshot().removed == 1
    assert world.state() == "none"


@pytest.mark.parametrize(("newer", "older", "state"), [(IPSEC, None, "withheld"), (None, IPSEC, "active")])
def test_an_older_report_neither_undoes_it_nor_withholds(
    world: World, newer: str | None, older: str | None, state: str
) -> None:
    world.post(sequence=5, withheld=newer)
    with pytest.raises(StaleUpdate):
        world.post(sequence=4, withheld=older)
    settle(world)
    assert world.state() == state


def test_it_ends_what_is_remembered_of_a_deregistration(world: World) -> None:
    world.post(lifetime=0, sequence=12)
    with pytest.raises(StaleUpdate):
        world.post(sequence=11)
    world.post(sequence=40000, withheld=IPSEC)
    assert world.offload.remove(HOME_ADDRESS, world.now)
    assert world.post(sequence=11) is Change.ADDED, "a mobile node that has started anew since"


def test_it_is_removed_as_others_are(world: World) -> None:
    world.post(sequence=1, withheld=IPSEC)
    world.event_names()
    assert world.post(lifetime=0) is Change.REMOVED
    assert world.event_names() == ["binding-removed"]
    world.post(sequence=40000, withheld=IPSEC)
    assert world.offload.remove(HOME_ADDRESS, world.now)
    assert world.state() == "none"


@pytest.mark.parametrize(("lifetime", "passed"), [(5, 6.0), (1000, LEASE + 1.0)], ids=["lifetime", "lease"])
def test_it_ends_with_its_lifetime_and_with_the_lease(world: World, lifetime: int, passed: float) -> None:
    world.post(sequence=1, withheld=IPSEC, lifetime=lifetime)
    world.pass_time(passed)
    assert world.state() == "none"
    assert ("lease" in explain(world.offload, HOME_ADDRESS, world.now).reason) == (passed > LEASE)


def test_it_is_counted(world: World) -> None:
    world.post(HOME_ADDRESSES[1], SECOND, withheld=IPSEC)
    *_, counts = count_bindings(world.offload, world.now)
    assert {state: counts[HOME_AGENT, state] for state in STATES} == {
        "active": 1,
        "partial": 0,
        "pending": 0,
        "idle": 0,
        "held": 0,
        "withheld": 1,
    }


def test_a_prefix_that_stays_with_its_home_agent_for_it_is_counted_as_pending(world: World) -> None:
    prefix = parse_prefix("2001:db8:99:0:1::/80")

    def states() -> tuple[str, int]:
        world.agent_follows()
        world.deliver()
        *_, counts = count_bindings(world.offload, world.now)
        return world.state(prefix), counts[HOME_AGENT, "active"]

    world.post(prefix, SECOND)
    assert states() == ("active", 2)
    world.post(parse_prefix("2001:db8:99:0:1::5"), SECOND, withheld=IPSEC)
    assert states() == ("pending", 1)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_reported_nothing_is_installed_for_what_is_withheld(seed: int) -> None:
    rng, world = random.Random(seed), established()
    for sequence in range(2, 60):
        reported = (rng.choice(HOME_ADDRESSES), rng.choice([FIRST, SECOND]))
        how = rng.choice(["post", "snapshot", "remove", "delete"])
        withheld = rng.choice([None, IPSEC, "in doubt"])
        if how == "post":
            world.post(*reported, sequence=sequence, withheld=withheld)
        elif how == "snapshot":
            world.snapshot(binding(*reported, sequence=sequence, now=world.now, withheld=withheld))
        elif how == "remove":
            world.post(*reported, sequence=sequence, lifetime=0)
        else:
            world.offload.remove(reported[0], world.now)
        world.announce()
        if rng.random() < 0.5:
            world.pass_time(1.0)
        settle(world)
        both = set(world.offload.bindings.home_addresses()) & set(world.offload.withheld.home_addresses())
        assert both == set()
        served = {entry.flow.serves for entry in world.switch.values() if entry.flow.kind in SERVING}
        assert not served & set(world.offload.withheld.home_addresses())
        assert not world.tunnels.keys() & set(world.offload.withheld.home_addresses())
