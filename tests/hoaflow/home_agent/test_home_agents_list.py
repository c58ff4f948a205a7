# SPDX-License-Identifier: Apache-2.0
"""The Home Agents List, and what is advertised when (RFC 6275, sections 7, 10.5 and 10.5.1; RFC 4861, section 6.2)."""

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow.home_agent import advertising
from hoaflow.home_agent.advertising import Advertising, Schedule, home_agent_advertisement, withdrawal
from hoaflow.home_agent.home_agents_list import (
    MOST_ADDRESSES,
    MOST_HOME_AGENTS,
    HomeAgentEntry,
    HomeAgentsList,
    in_order,
)
from hoaflow.home_agent.prefix_table import PrefixTable
from hoaflow.mobility.messages import MAX_LIFETIME
from hoaflow.mobility.router_advertisements import HomeAgentInformation, PrefixInformation, RouterAdvertisement
from tests.support.binding_cache import HOME_ADDRESS, HOME_AGENT, POLICY

ANYCAST = IPv6Address("2001:db8:99:0:fdff:ffff:ffff:fffe")
ONE, OTHER = "fe80::1", "fe80::2"


def prefixes(*addresses: str, router_address: bool = True) -> tuple[PrefixInformation, ...]:
    """Return Prefix Information options with these addresses."""
    return tuple(PrefixInformation(IPv6Interface(f"{a}/64"), 60, 60, router_address=router_address) for a in addresses)


def home_agent(
    source: str = ONE, preference: int = 0, lifetime: int = 30, addresses: tuple[str, ...] = ("2001:db8:99::1",)
) -> RouterAdvertisement:
    """Return the Router Advertisement of a home agent that is no default router."""
    return RouterAdvertisement(source, 0, prefixes(*addresses), True, HomeAgentInformation(preference, lifetime))


def entries(heard: HomeAgentsList) -> list[tuple[str, int, float, tuple[str, ...]]]:
    """Return what is on the list."""
    return [(each.link_local, each.preference, each.due, each.addresses) for each in heard]


def test_a_home_agent_is_listed_with_preference_lifetime_and_its_own_addresses() -> None:
    heard = HomeAgentsList()
    own = prefixes("2001:db8:99::1", "fe80::1", "ff02::1")
    heard.heard(
        RouterAdvertisement(
            ONE, 1800, (*own, *prefixes("2001:db8:98::", router_address=False)), True, HomeAgentInformation(7, 30)
        ),
        100.0,
    )
    assert entries(heard) == [(ONE, 7, 130.0, ("2001:db8:99::1",))]


def test_without_the_option_preference_is_0_and_the_lifetime_is_the_routers() -> None:
    heard = HomeAgentsList()
    heard.heard(RouterAdvertisement(ONE, 1800, prefixes("2001:db8:99::1"), home_agent=True), 100.0)
    assert entries(heard) == [(ONE, 0, 1900.0, ("2001:db8:99::1",))]
    heard.heard(RouterAdvertisement(OTHER, 0, home_agent=True), 100.0)  # neither router nor home agent
    assert len(heard) == 1


def test_the_latest_advertisement_counts_and_addresses_that_it_lacks_stay() -> None:
    heard = HomeAgentsList()
    heard.heard(home_agent(preference=1), 100.0)
    heard.heard(home_agent(preference=9, lifetime=60, addresses=("2001:db8:98::1",)), 110.0)
    assert entries(heard) == [(ONE, 9, 170.0, ("2001:db8:99::1", "2001:db8:98::1"))]
    heard.heard(RouterAdvertisement(ONE, 0, (), True, HomeAgentInformation(2, 10)), 120.0)
    assert entries(heard) == [(ONE, 2, 130.0, ("2001:db8:99::1", "2001:db8:98::1"))]


@pytest.mark.parametrize(
    "last", [RouterAdvertisement(ONE, 1800), withdrawal(ONE), home_agent(lifetime=0)], ids=["H", "withdrawal", "0"]
)
def test_without_flag_h_or_with_lifetime_0_it_leaves_the_list_at_once(last: RouterAdvertisement) -> None:
    heard = HomeAgentsList()
    heard.heard(home_agent(), 100.0)
    heard.heard(home_agent(OTHER), 100.0)
    heard.heard(last, 101.0)
    assert [entry.link_local for entry in heard] == [OTHER]
    heard.expire(1000.0)  # what has left is not looked for again
    assert not len(heard)


def test_it_leaves_the_list_when_its_lifetime_is_over() -> None:
    heard = HomeAgentsList()
    heard.heard(home_agent(lifetime=30), 100.0)
    heard.heard(home_agent(OTHER, lifetime=90), 100.0)
    due = heard.next_due()
    assert due is not None
    assert due <= 130.0
    heard.expire(129.9)
    assert len(heard) == 2
    heard.expire(130.0)
    assert [entry.link_local for entry in heard] == [OTHER]
    heard.heard(home_agent(OTHER, lifetime=90), 180.0)
    heard.expire(190.0)
    assert [entry.link_local for entry in heard] == [OTHER]


def test_the_list_is_bounded_and_those_on_it_stay() -> None:
    heard = HomeAgentsList()
    for number in range(MOST_HOME_AGENTS):
        assert heard.heard(home_agent(f"fe80::{number + 1:x}"), 100.0)
    assert not heard.heard(home_agent("fe80::ffff"), 100.0)
    assert heard.heard(home_agent(ONE, preference=9), 100.0)
    assert heard.heard(home_agent(addresses=tuple(f"2001:db8:99::{n:x}" for n in range(1, 100))), 100.0)
    assert len(heard) == MOST_HOME_AGENTS
    assert max(len(entry.addresses) for entry in heard) == MOST_ADDRESSES
    heard.heard(withdrawal(ONE), 101.0)
    assert heard.heard(home_agent("fe80::ffff"), 101.0)


@given(
    st.lists(
        st.tuples(st.integers(1, MOST_HOME_AGENTS + 6), st.sampled_from([0, 1, 30, 65535]), st.integers(0, 9)),
        max_size=150,
    )
)
def test_nobody_stays_longer_than_its_lifetime_or_beyond_the_bound(heard: list[tuple[int, int, int]]) -> None:
    home_agents, expected, now = HomeAgentsList(), dict[str, float](), 100.0
    for source, lifetime, pause in heard:
        now += pause
        home_agents.expire(now)
        expected = {each: due for each, due in expected.items() if due > now}
        key = f"fe80::{source:x}"
        room = key in expected or len(expected) < MOST_HOME_AGENTS or lifetime == 0
        assert home_agents.heard(home_agent(key, lifetime=lifetime), now) is room
        expected.pop(key, None)
        if lifetime and room:
            expected[key] = now + lifetime
        assert {entry.link_local: entry.due for entry in home_agents} == expected
        assert (home_agents.next_due() is None) is (not expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), max_size=12), st.randoms(use_true_random=False))
def test_all_addresses_are_told_in_order_of_preference(home_agents: list[tuple[int, int]], random: Random) -> None:
    listed = [
        HomeAgentEntry(f"fe80::{n:x}", preference, 0.0, tuple(f"2001:db8:{n:x}::{a}" for a in range(1, addresses + 1)))
        for n, (preference, addresses) in enumerate(home_agents)
    ]
    preferences = {address: entry.preference for entry in listed for address in entry.addresses}
    told = in_order(listed, random)
    assert sorted(told) == sorted(preferences)
    assert [preferences[address] for address in told] == sorted(preferences.values(), reverse=True)


def test_equal_preferences_come_in_random_order_and_shared_addresses_once() -> None:
    listed = [HomeAgentEntry(ONE, 1, 0.0, ("2001:db8:99::1",)), HomeAgentEntry(OTHER, 1, 0.0, ("2001:db8:99::2",))]
    told = {tuple(in_order(listed, Random(seed))) for seed in range(64)}
    assert told == {("2001:db8:99::1", "2001:db8:99::2"), ("2001:db8:99::2", "2001:db8:99::1")}
    pods = [HomeAgentEntry(ONE, 1, 0.0, ("2001:db8:99::1",)), HomeAgentEntry(OTHER, 2, 0.0, ("2001:db8:99::1",))]
    assert in_order(pods, Random(0)) == ["2001:db8:99::1"]


@pytest.mark.parametrize("default_router", [False, True])
def test_what_a_home_agent_advertises_of_itself(default_router: bool) -> None:
    found = home_agent_advertisement(Advertising(ANYCAST, 10, 7, default_router), POLICY, ONE, 7)
    assert (found.source, found.home_agent, found.information) == (ONE, True, HomeAgentInformation(7, 30))
    assert found.router_lifetime == (30 if default_router else 0)
    (prefix,) = found.prefixes
    assert prefix.prefix == IPv6Interface(f"{HOME_AGENT}/64")
    assert (prefix.on_link, prefix.autonomous, prefix.router_address) == (True, default_router, True)
    # No binding outlives its home prefix (RFC 6275, sections 10.3.1 and 10.6.3).
    assert MAX_LIFETIME < prefix.preferred_lifetime <= prefix.valid_lifetime


@pytest.mark.parametrize("networks", [PrefixTable({HOME_ADDRESS: ("2001:db8:aa:1::/64",)}), PrefixTable({})])
def test_whether_a_home_agent_takes_mobile_routers_is_advertised_and_heard(networks: PrefixTable) -> None:
    policy = replace(POLICY, mobile_networks=networks)
    heard = HomeAgentsList()
    heard.heard(home_agent_advertisement(Advertising(ANYCAST, 10), policy, ONE, 0), 100.0)
    assert [entry.mobile_routers for entry in heard] == [bool(networks)]


@given(st.sampled_from([1, 4, 30, 1800]), st.lists(st.booleans(), max_size=30), st.randoms(use_true_random=False))
def test_advertisements_are_neither_too_rare_nor_too_frequent(
    interval: int, solicited: list[bool], random: Random
) -> None:
    schedule, now = Schedule(interval, random, 100.0), 100.0
    assert schedule.due == now  # the first one at once
    for number, ask in enumerate(solicited):
        schedule.sent(now)
        longest = interval if number >= advertising.INITIAL_TIMES else min(interval, 16)
        assert now + 0.33 * longest <= schedule.due <= now + longest
        if ask:
            asked_at = random.uniform(now, schedule.due)
            planned = schedule.due
            schedule.solicited(asked_at)
            assert schedule.due <= planned
            assert schedule.due <= max(asked_at, now + 3.0) + 0.5
            assert schedule.due >= max(asked_at, now + min(3.0, 0.33 * longest)) or schedule.due == planned
        now = schedule.due


@pytest.mark.parametrize(("bindings", "preference"), [(0, 65535), (1, 65534), (50_000, 32767), (100_001, 0)])
def test_a_preference_from_load_falls_with_each_binding(bindings: int, preference: int) -> None:
    assert Advertising(ANYCAST, 10, preference=None).preference_with(bindings, most=100_000) == preference
    assert Advertising(ANYCAST, 10, preference=7).preference_with(bindings, most=100_000) == 7
