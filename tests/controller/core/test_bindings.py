# SPDX-License-Identifier: Apache-2.0
"""The binding table, lifetimes and leases: the rules of RFC 6275 that the controller keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.bindings import Binding, BindingTable, Change, StaleUpdate
from controller.core.home_agents import HomeAgents, PrefixesOverlap, Status
from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.sequence import is_newer

HOME_AGENT = parse_address("2001:db8:99::1")
HOME_PREFIX = parse_prefix("2001:db8:99::/64")
HOME_ADDRESS = parse_prefix("2001:db8:99::100")
FIRST = parse_address("2001:db8:2::2")
SECOND = parse_address("2001:db8:3::2")

sequences = st.integers(0, 0xFFFF)


def binding(
    care_of_address: bytes = FIRST, lifetime: int | None = 60, sequence: int | None = None, now: float = 0.0
) -> Binding:
    """Return a binding of HOME_ADDRESS."""
    ends = None if lifetime is None else now + lifetime
    return Binding(HOME_ADDRESS, care_of_address, HOME_AGENT, lifetime, ends, sequence)


@given(sequences, sequences)
def test_an_older_update_is_refused_and_a_deregistration_lets_any_number_in(held: int, offered: int) -> None:
    table = BindingTable()
    table.put(binding(sequence=held))
    if is_newer(offered, held):
        table.check_order(binding(SECOND, sequence=offered), ends=False)
    else:
        with pytest.raises(StaleUpdate):
            table.check_order(binding(SECOND, sequence=offered), ends=False)
    table.remove(HOME_ADDRESS)
    table.check_order(binding(SECOND, sequence=offered), ends=False)


def test_the_same_report_may_come_twice() -> None:
    table = BindingTable()
    assert table.put(binding(sequence=7)) is Change.ADDED
    table.check_order(binding(FIRST, sequence=7), ends=False)
    assert table.put(binding(sequence=7)) is Change.UNCHANGED
    with pytest.raises(StaleUpdate):
        table.check_order(binding(SECOND, sequence=7), ends=False)
    table.check_order(binding(SECOND, sequence=7), ends=True)


def test_whole_seconds_do_not_make_a_binding_change() -> None:
    table = BindingTable()
    table.put(binding(lifetime=60, now=0.0))
    assert table.put(binding(lifetime=48, now=10.9)) is Change.UNCHANGED
    assert table.put(binding(lifetime=60, now=10.9)) is Change.REFRESHED
    assert table.put(binding(SECOND, now=11.0)) is Change.CHANGED


def test_a_refresh_moves_the_end_and_the_end_comes_once() -> None:
    table = BindingTable()
    table.put(binding(now=0.0))
    table.put(binding(now=30.0))
    assert table.expired(60.0) == []
    assert [ended.home_address for ended in table.expired(90.0)] == [HOME_ADDRESS]
    assert table.expired(1000.0) == []
    assert table.next_expiry() is None


def test_many_refreshes_do_not_pile_up() -> None:
    table = BindingTable()
    for second in range(10_000):
        table.put(binding(now=float(3 * second)))
    assert len(table._ends) < 200


def announce(agents: HomeAgents, now: float, lease: int = 10) -> None:
    """Announce HOME_AGENT."""
    agents.announce(HOME_AGENT, (HOME_PREFIX,), lease, Status.UP, now)


@given(st.lists(st.floats(0.1, 20.0), max_size=20))
def test_a_lease_holds_exactly_as_long_as_it_is_renewed(gaps: list[float]) -> None:
    agents, now = HomeAgents(), 0.0
    announce(agents, now)
    agents.get(HOME_AGENT).synced = True  # type: ignore[union-attr]
    unbroken = True
    for gap in gaps:
        now += gap
        unbroken = unbroken and gap < 10
        announce(agents, now)
        agent = agents.get(HOME_AGENT)
        assert agent is not None
        assert agent.lease_holds(now + 9.99)
        assert not agent.lease_holds(now + 10)
        assert agent.may_offload(now) == unbroken


def test_a_home_prefix_belongs_to_one_home_agent_while_its_lease_holds() -> None:
    agents, other = HomeAgents(), parse_address("2001:db8:99::2")
    announce(agents, 0.0)
    with pytest.raises(PrefixesOverlap):
        agents.announce(other, (parse_prefix("2001:db8::/32"),), 10, Status.UP, 9.0)
    assert agents.get(other) is None
    agents.announce(other, (HOME_PREFIX,), 10, Status.UP, 10.0)
