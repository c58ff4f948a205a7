# SPDX-License-Identifier: Apache-2.0
"""What the router's agent decides to do, without doing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow.router.endpoint import Endpoint, home_agent_address
from hoaflow.router.tunnel_plan import (
    DesiredByHomeAgent,
    DesiredTunnels,
    InstalledTunnels,
    Tunnel,
    TunnelList,
    plan,
    without_endpoint,
)
from hoaflow.tunnel.spoofing_filter import SourcePair

HA, HA_2 = "2001:db8:99::1", "2001:db8:88::1"
HOA, HOA_2, COA, COA_2 = "2001:db8:99::100", "2001:db8:99::200", "2001:db8:2::2", "2001:db8:3::3"

HA4, HOA4, COA4 = "10.99.0.1", "10.99.0.100", "192.0.2.2"


def full(*tunnels: tuple[str, str, str], home_agents: tuple[str, ...] = (HA,)) -> TunnelList:
    return TunnelList(1, True, frozenset(home_agents), tuple(Tunnel(*t) for t in tunnels), ())


def news(
    *tunnels: tuple[str, str, str], removed: tuple[str, ...] = (), home_agents: tuple[str, ...] = (HA,)
) -> TunnelList:
    return TunnelList(2, False, frozenset(home_agents), tuple(Tunnel(*t) for t in tunnels), removed)


def wanted(*answers: TunnelList) -> DesiredByHomeAgent:
    result = DesiredByHomeAgent()
    for answer in answers:
        result.update(answer)
    return result


def installed() -> InstalledTunnels:
    return InstalledTunnels({HOA: COA}, {SourcePair(COA, HOA)})


def test_what_is_right_is_left_alone() -> None:
    assert not plan(wanted(full((HOA, COA, HA))).by_home_agent[HA], installed())


def test_a_new_binding_gets_its_pair_and_its_route() -> None:
    todo = plan(wanted(full((HOA, COA, HA))).by_home_agent[HA], InstalledTunnels())
    assert (todo.add_pairs, todo.set_routes) == (frozenset({SourcePair(COA, HOA)}), {HOA: COA})
    assert not todo.drop_pairs | todo.drop_routes


def test_a_handover_replaces_the_route_and_drops_the_old_pair() -> None:
    todo = plan(wanted(full((HOA, COA, HA)), news((HOA, COA_2, HA))).by_home_agent[HA], installed())
    assert (todo.add_pairs, todo.set_routes) == (frozenset({SourcePair(COA_2, HOA)}), {HOA: COA_2})
    assert (todo.drop_pairs, todo.drop_routes) == (frozenset({SourcePair(COA, HOA)}), frozenset())


def test_a_removed_binding_loses_route_and_pair() -> None:
    todo = plan(wanted(full((HOA, COA, HA)), news(removed=(HOA,))).by_home_agent[HA], installed())
    assert (todo.drop_routes, todo.drop_pairs) == (frozenset({HOA}), frozenset({SourcePair(COA, HOA)}))


def test_what_a_full_list_lacks_goes_if_the_home_agent_is_known() -> None:
    assert plan(wanted(full()).by_home_agent[HA], installed()).drop_routes == {HOA}


def test_nothing_goes_before_the_controller_knows_the_home_agent() -> None:
    """After its restart the controller has bindings of one home agent and no snapshot of it yet."""
    restarted = wanted(full((HOA_2, COA, HA), home_agents=()))
    todo = plan(restarted.by_home_agent[HA], installed())
    assert todo.set_routes == {HOA_2: COA}
    assert not todo.drop_routes | todo.drop_pairs
    restarted.update(news(home_agents=(HA,)))
    assert plan(restarted.by_home_agent[HA], installed()).drop_routes == {HOA}


def test_a_handover_before_the_snapshot_drops_the_old_pair_of_that_binding_only() -> None:
    both = InstalledTunnels({HOA: COA, HOA_2: COA}, {SourcePair(COA, HOA), SourcePair(COA, HOA_2)})
    todo = plan(wanted(full((HOA, COA_2, HA), home_agents=())).by_home_agent[HA], both)
    assert (todo.drop_pairs, todo.drop_routes) == (frozenset({SourcePair(COA, HOA)}), frozenset())


def test_a_removal_before_the_snapshot_is_obeyed() -> None:
    answers = wanted(full((HOA_2, COA, HA), home_agents=()), news(removed=(HOA,), home_agents=()))
    assert plan(answers.by_home_agent[HA], installed()).drop_routes == {HOA}


def test_addresses_in_any_form_are_the_same_binding() -> None:
    answer = full(("2001:DB8:99:0::100", "2001:db8:2:0:0::2", "2001:db8:99:0::1"))
    assert not plan(wanted(answer).by_home_agent[HA], installed())


def test_an_unreadable_binding_is_reported_and_the_others_count() -> None:
    result = wanted(full((HOA, "nonsense", HA), (HOA_2, COA, HA)))
    assert result.by_home_agent[HA].tunnels == {HOA_2: COA}
    assert "nonsense" in result.unreadable[HOA]
    result.update(news((HOA, COA, HA)))
    assert result.unreadable == {}


def test_a_binding_that_changes_its_home_agent_leaves_the_old_one() -> None:
    result = wanted(full((HOA, COA, HA), home_agents=(HA, HA_2)), news((HOA, COA, HA_2), home_agents=(HA, HA_2)))
    assert plan(result.by_home_agent[HA], installed()).drop_routes == {HOA}
    assert plan(result.by_home_agent[HA_2], InstalledTunnels()).set_routes == {HOA: COA}


def test_bindings_of_a_home_agent_without_endpoint_are_named() -> None:
    failed = without_endpoint(wanted(full((HOA, COA, HA), (HOA_2, COA, HA_2))), {HA: None})
    assert failed.keys() == {HOA_2}
    assert HA_2 in failed[HOA_2]


addresses = st.integers(1, 6).map(lambda number: f"2001:db8:99::{number:x}")
care_of = st.integers(1, 3).map(lambda number: f"2001:db8:2::{number:x}")


@given(
    st.dictionaries(addresses, care_of),
    st.dictionaries(addresses, care_of),
    st.sets(st.tuples(care_of, addresses).map(lambda pair: SourcePair(*pair))),
    st.booleans(),
)
def test_carrying_out_a_plan_leads_to_what_is_desired(
    tunnels: dict[str, str], routes: dict[str, str], pairs: set[SourcePair], complete: bool
) -> None:
    desired = DesiredTunnels(tunnels, complete=complete)
    todo = plan(desired, InstalledTunnels(routes, pairs))
    after = InstalledTunnels(
        {h: c for h, c in (routes | todo.set_routes).items() if h not in todo.drop_routes},
        (pairs | todo.add_pairs) - todo.drop_pairs,
    )
    assert not plan(desired, after)
    assert tunnels.items() <= after.routes.items()
    assert all(c in after.accepted[h] for h, c in tunnels.items())
    if complete:
        assert after.routes == tunnels


steps = st.lists(
    st.tuples(
        st.booleans(),  # the home agent's snapshot has come
        st.dictionaries(addresses, care_of, max_size=3),
        st.sets(addresses, max_size=3),
    ),
    max_size=6,
)


@given(steps, st.dictionaries(addresses, care_of))
def test_looking_at_what_changed_finds_all_that_looking_at_everything_finds(
    changes: list[tuple[bool, dict[str, str], set[str]]], routes: dict[str, str]
) -> None:
    result = wanted(full(home_agents=()))
    result.by_home_agent[HA] = DesiredTunnels()
    after = InstalledTunnels(routes, {SourcePair(c, h) for h, c in routes.items()})
    for known, bound, removed in changes:
        tunnels = [(h, c, HA) for h, c in bound.items()]
        gone = tuple(removed - bound.keys())
        result.update(news(*tunnels, removed=gone, home_agents=(HA,) if known else ()))
        desired = result.by_home_agent[HA]
        todo = plan(desired, after, desired.take_changed())
        assert todo == plan(desired, after)
        after.accept(todo.add_pairs)
        after.refuse(todo.drop_pairs)
        after.routes = {h: c for h, c in (after.routes | todo.set_routes).items() if h not in todo.drop_routes}


def test_a_change_is_looked_at_alone() -> None:
    result = wanted(full((HOA, COA, HA), (HOA_2, COA, HA)))
    desired = result.by_home_agent[HA]
    assert desired.take_changed() is None
    result.update(news((HOA, COA_2, HA)))
    result.update(news(removed=(HOA_2,)))
    assert desired.take_changed() == {HOA, HOA_2}
    assert desired.take_changed() == set()
    result.update(news(home_agents=()))
    assert desired.take_changed() is None, "what is to go depends on whether all is known"


def test_names_of_endpoints_fit_interfaces_and_differ() -> None:
    endpoints = [Endpoint(bridge, home_agent) for bridge in ("s1", "s2") for home_agent in (HA, HA_2)]
    for names in zip(*((e.namespace, e.port, e.kernel_port, e.mac) for e in endpoints), strict=True):
        assert len(set(names)) == len(endpoints)
    assert all(len(name) <= 15 for e in endpoints for name in (e.port, e.kernel_port))
    assert all(int(e.mac[:2], 16) & 3 == 2 for e in endpoints)


def test_ipv4_home_addresses_are_bindings_like_others() -> None:
    result = wanted(full(("10.99.0.100", COA, HA), ("10.99.1.0/24", COA, HA), ("10.99.0.200", "192.0.2.2", HA)))
    todo = plan(result.by_home_agent[HA], InstalledTunnels())
    assert todo.set_routes == {"10.99.0.100": COA, "10.99.1.0/24": COA}
    assert todo.add_pairs == {SourcePair(COA, "10.99.0.100"), SourcePair(COA, "10.99.1.0/24")}
    assert f"care-of address 192.0.2.2 and home agent {HA} differ in family" in result.unreadable["10.99.0.200"]


def test_tunnels_with_ipv4_outer_headers_are_tunnels_like_others() -> None:
    answer = full((HOA4, COA4, HA4), (HOA, COA4, HA4), home_agents=(HA4,))
    todo = plan(wanted(answer).by_home_agent[HA4], InstalledTunnels())
    assert todo.set_routes == {HOA4: COA4, HOA: COA4}
    assert todo.add_pairs == {SourcePair(COA4, HOA4), SourcePair(COA4, HOA)}


def test_without_reverse_tunnel_no_pair_is_accepted_until_there_is_one() -> None:
    desired = DesiredTunnels({HOA: COA}, down_only={HOA}, complete=True)
    installed = InstalledTunnels({}, [SourcePair(COA, HOA)])
    todo = plan(desired, installed)
    assert (todo.set_routes, set(todo.add_pairs), set(todo.drop_pairs)) == ({HOA: COA}, set(), {SourcePair(COA, HOA)})
    desired.put(HOA, COA, reverse_tunnel=True)
    todo = plan(desired, InstalledTunnels({HOA: COA}))
    assert (todo.set_routes, set(todo.add_pairs)) == ({}, {SourcePair(COA, HOA)})


@pytest.mark.parametrize("text", ["ff02::1", "fe80::1", "::1", "::", "224.0.0.1", "2001:db8::1%eth0", "home"])
def test_what_cannot_be_a_home_agent_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        home_agent_address(text)
