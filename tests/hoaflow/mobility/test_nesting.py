# SPDX-License-Identifier: Apache-2.0
"""How many mobile networks a home address is behind, whatever comes first and whoever moves."""

import pytest

from hoaflow.mobility.nesting import Nesting

ROUTER, NETWORK, INSIDE = "2001:db8:99::1:1", "2001:db8:aa:1::/64", "2001:db8:aa:1::7"
SECOND, SECOND_NETWORK, SECOND_INSIDE = "2001:db8:99::1:2", "2001:db8:aa:2::/64", "2001:db8:aa:2::7"
NODE, OUTSIDE, ELSEWHERE = "2001:db8:99::100", "2001:db8:2::2", "2001:db8:3::2"

pytestmark = pytest.mark.unit


class Told:
    """Bindings, and what `Nesting` makes of them."""

    def __init__(self) -> None:
        self.wanted: dict[str, str] = {}
        self.nesting = Nesting(self.wanted)

    def lead(self, home_address: str, care_of_address: str | None) -> set[str]:
        if care_of_address is None:
            del self.wanted[home_address]
        else:
            self.wanted[home_address] = care_of_address
        return self.nesting.changed(home_address)

    def depths(self) -> dict[str, int]:
        return {home: depth for home in self.wanted if (depth := self.nesting.depth(home))}


def test_a_node_is_behind_as_many_networks_as_its_packets_pass() -> None:
    told = Told()
    assert told.lead(NETWORK, OUTSIDE) == set()
    assert told.lead(NODE, INSIDE) == {NODE}
    assert told.lead(SECOND_NETWORK, INSIDE) == {SECOND_NETWORK}
    assert told.lead(NODE, SECOND_INSIDE) == {NODE}
    assert told.depths() == {NODE: 2, SECOND_NETWORK: 1}
    assert told.lead(NODE, ELSEWHERE) == {NODE}
    assert told.depths() == {SECOND_NETWORK: 1}


def test_a_network_that_comes_or_goes_changes_those_who_are_in_it() -> None:
    told = Told()
    told.lead(NODE, SECOND_INSIDE)
    told.lead(SECOND_NETWORK, INSIDE)
    assert told.depths() == {NODE: 1}
    assert told.lead(NETWORK, OUTSIDE) == {NODE, SECOND_NETWORK}
    assert told.lead(NETWORK, ELSEWHERE) == set()
    assert told.lead(SECOND_NETWORK, OUTSIDE) == {NODE, SECOND_NETWORK}
    assert told.depths() == {NODE: 1}
    assert told.lead(NETWORK, None) == set()
    assert told.lead(SECOND_NETWORK, None) == {NODE}
    assert told.depths() == {}


def test_a_circle_ends() -> None:
    told = Told()
    told.lead(NETWORK, SECOND_INSIDE)
    told.lead(SECOND_NETWORK, INSIDE)
    assert told.nesting.depth(NETWORK) <= 8


def test_ipv4_home_addresses_are_behind_networks_too() -> None:
    told = Told()
    told.lead(NETWORK, OUTSIDE)
    assert told.lead("10.99.0.7", INSIDE) == {"10.99.0.7"}
