# SPDX-License-Identifier: Apache-2.0
"""What an on-demand router is asked for, and when nothing has come for it."""

import pytest

from controller.core.askers import Askers
from controller.core.bindings import Binding
from controller.core.demand import Demand, Install
from controller.core.flow_sets import keys_of
from controller.core.registrations import Registrations
from hoaflow.addresses import Prefix, parse_address, parse_prefix

HOME_AGENT = parse_address("2001:db8:99::1")
FIRST = parse_address("2001:db8:2::2")
HOME_ADDRESS = parse_prefix("2001:db8:99::100")
IDLE_AFTER, MANY = 300.0, 3000


@pytest.fixture
def registrations() -> Registrations:
    return Registrations(first_revision=1, acknowledge_within=3.0, changes_a_second=10)


@pytest.fixture
def demand(registrations: Registrations) -> Demand:
    return Demand(1, registrations, Askers(), Install.ON_DEMAND, IDLE_AFTER)


def read(demand: Demand, binding: Binding, counted: int, now: float) -> list[Prefix]:
    """Read a router's flows, the downlink flow with what it has counted, and return what has been quiet."""
    demand.count(keys_of(binding).downlink, counted)
    return demand.take_idle(now)


def test_what_has_new_flows_is_not_quiet_because_they_have_counted_less(
    registrations: Registrations, demand: Demand
) -> None:
    binding = Binding(HOME_ADDRESS, FIRST, HOME_AGENT)
    registrations.bindings.put(binding)
    demand.ask(HOME_ADDRESS)
    assert not read(demand, binding, 1_000_000, now=0.0)
    assert not read(demand, binding, 100, now=IDLE_AFTER), "packets have come"
    assert read(demand, binding, 100, now=2 * IDLE_AFTER) == [HOME_ADDRESS]


def test_one_of_thousands_behind_a_care_of_address_is_looked_at_once_for_each(
    registrations: Registrations, demand: Demand, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = [Binding(Prefix(HOME_AGENT[:8] + n.to_bytes(8, "big"), 128), FIRST, HOME_AGENT) for n in range(MANY)]
    for each in bound:
        registrations.bindings.put(each)
    looked_at = 0
    beside = demand._beside

    def counting(home_address: Prefix, care_of_address: bytes) -> list[Prefix]:
        nonlocal looked_at
        found = list(beside(home_address, care_of_address))
        looked_at += len(found)
        return found

    monkeypatch.setattr(demand, "_beside", counting)
    assert set(demand.ask(bound[7].home_address)) == {each.home_address for each in bound}
    assert looked_at < 2 * MANY
    assert not demand.take_idle(0.0)
    looked_at = 0
    assert set(demand.take_idle(IDLE_AFTER)) == {each.home_address for each in bound}
    assert looked_at < 2 * MANY
