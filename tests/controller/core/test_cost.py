# SPDX-License-Identifier: Apache-2.0
"""What one client sends is bounded in what it costs the others: counted in steps and entries, not in time."""

import ipaddress
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.flows import Flow
from controller.core.home_agents import PrefixesOverlap, Status
from controller.core.prefix_index import PrefixIndex
from controller.core.tunnels import EndpointName
from hoaflow.addresses import Prefix, parse_address, parse_prefix
from hoaflow.deadlines import FEW, Deadlines
from tests.support.world import DPID, FIRST, HOME_ADDRESSES, HOME_AGENT, LEASE, SECOND, World, established


def prefixes(place: int, count: int) -> tuple[Prefix, ...]:
    """Home prefixes of one home agent."""
    return tuple(parse_prefix(f"2001:{0xE00 + place:x}:{number:x}::/48") for number in range(count))


def announce(world: World, place: int, count: int) -> None:
    address = parse_address(f"2001:db9::{place + 1:x}")
    world.offload.announce(address, prefixes(place, count), LEASE, Status.UP, world.now)


def test_a_renewal_looks_at_its_own_home_agents_prefixes_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in range(10):
        announce(world, place, 50)
        world.deliver()
    flows, looked_at = world.offload.router(DPID).flows, 0
    require = flows.require

    def counting(flow: Flow, expires_at: float | None = None) -> None:
        nonlocal looked_at
        looked_at += 1
        require(flow, expires_at)

    monkeypatch.setattr(flows, "require", counting)
    announce(world, 0, 50)
    own, looked_at = looked_at, 0
    assert 50 <= own <= 50 * 15
    announce(world, 0, 50)
    assert looked_at <= own
    announce(world, 10, 50)
    looked_at = 0
    world.deliver()
    assert looked_at < 10 * own, "a home agent is looked at once for each flow that is confirmed"
    compared = 0
    overlaps = Prefix.overlaps

    def counting_overlaps(one: Prefix, other: Prefix) -> bool:
        nonlocal compared
        compared += 1
        return overlaps(one, other)

    monkeypatch.setattr(Prefix, "overlaps", counting_overlaps)
    announce(world, 0, 50)
    assert compared == 0


def test_home_prefixes_of_lapsed_home_agents_are_taken_over(world: World) -> None:
    other = parse_address("2001:db9::ff")
    with pytest.raises(PrefixesOverlap):
        world.offload.announce(other, (parse_prefix("2001:db8:99::/60"),), LEASE, Status.UP, world.now)
    world.pass_time(LEASE + 1)
    for prefix in ("2001:db8:99::/64", "2001:db8:99::/60", "2001:db8:99::/72"):
        world.offload.announce(other, (parse_prefix(prefix),), LEASE, Status.UP, world.now)
        assert [agent.address for agent in world.offload.home_agents] == [other]
        world.pass_time(LEASE + 1)
        world.offload.announce(HOME_AGENT, (parse_prefix("2001:db8:99::/64"),), LEASE, Status.UP, world.now)
        assert [agent.address for agent in world.offload.home_agents] == [HOME_AGENT]
        world.pass_time(LEASE + 1)


networks = st.builds(
    lambda value, length: str(ipaddress.ip_network((value << 112, length), strict=False)),
    st.integers(0x2000, 0x200F),
    st.integers(8, 18),
)


@given(st.lists(networks, max_size=12), st.lists(networks, max_size=4), networks)
def test_the_index_finds_what_a_look_at_all_finds(put: list[str], removed: list[str], asked: str) -> None:
    index: PrefixIndex[str] = PrefixIndex()
    held: dict[Prefix, str] = {}
    for text in put:
        index.put(parse_prefix(text), text)
        held[parse_prefix(text)] = text
    for text in removed:
        index.remove(parse_prefix(text), text)
        held.pop(parse_prefix(text), None)
    prefix = parse_prefix(asked)
    covering = sorted((each for each in held if each.contains(prefix)), key=lambda each: -each.length)
    assert list(index.covering(prefix)) == [held[each] for each in covering]
    assert set(index.within(prefix)) == {held[each] for each in held if prefix.contains(each)}


def test_bindings_that_come_and_go_leave_nothing_until_their_lifetimes_end(world: World) -> None:
    flows = world.offload.router(DPID).flows
    for number in range(6000):
        home_address = parse_prefix(f"2001:db8:99::1:{number:x}")
        world.post(home_address, FIRST, lifetime=86_400)
        if not number % 3:  # with flows, whose renewal is planned
            world.announce()
            world.agent_follows()
            world.deliver()
        world.post(home_address, FIRST, lifetime=0)
    world.deliver()
    assert len(world.offload.bindings._ends) <= FEW + 10
    assert len(flows._work.later) <= FEW + 10


def test_deadlines_keep_what_is_planned_whatever_is_cancelled() -> None:
    source, deadlines, planned = random.Random(5), Deadlines[int](), dict[int, float]()
    for step in range(30_000):
        thing = source.randrange(2000)
        if source.random() < 0.5:
            deadlines.cancel(thing)
            planned.pop(thing, None)
        else:
            moment = step + source.random() * 1000
            deadlines.plan(thing, moment)
            planned[thing] = min(moment, planned.get(thing, moment))
        if step % 1000 == 0:
            due = deadlines.due(step, 10_000)
            assert len(due) == len(set(due))
            assert set(due) <= planned.keys()
            assert {each for each, at in planned.items() if at <= step - 0.2} <= set(due)
            assert all(planned.pop(each) <= step for each in due)
        assert len(deadlines) <= 2 * len(planned) + FEW
    assert set(deadlines.due(1e9, 10_000)) == planned.keys()


def test_a_report_gives_a_switch_that_no_agent_knows_nothing_to_do() -> None:
    world = established()
    stranger = world.connect(2, {"tin": 4}, (), ())
    flows = stranger.flows
    while (batch := flows.next_urgent_batch(world.now, 1000) or flows.next_batch(world.now, 1000)) is not None:
        world.offload.switches.confirm(stranger, batch, world.now)
    assert not stranger.flows.dirty
    world.post(HOME_ADDRESSES[1], SECOND)
    assert not stranger.flows.dirty
    world.offload.acknowledge(2, 0, {HOME_AGENT: EndpointName("tin", "02:00:00:00:00:0b")}, {}, {}, world.now)
    assert stranger.flows.dirty, "its agent makes it one that carries packets"
