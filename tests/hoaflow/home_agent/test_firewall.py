# SPDX-License-Identifier: Apache-2.0
"""A home agent behind packet filters: the documentation's own, and what others have on their hosts."""

from collections.abc import Iterator

import pytest

from tests.support.filters import Filtered, of_page
from tests.support.mobility import CARE_OF_1, Lab

# As Debian's examples, firewalld and ufw have it.
STATEFUL = """
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        ct state established,related accept
        ct state invalid drop
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ct state established,related accept
        ct state invalid drop
    }
}
"""


@pytest.fixture
def filtered() -> Iterator[Filtered]:
    with Lab() as lab:
        lab.home_agent("--insecure")
        node = lab.mobile_node("--insecure", "--lifetime", "600")
        lab.link("m1", "up")
        node.event("registered", care_of_address=CARE_OF_1)
        yield Filtered(lab, node)


def test_the_filter_of_the_documentation_is_enough_and_each_accept_is_needed(filtered: Filtered) -> None:
    assert filtered.lost(of_page()) == []
    assert list(filtered.unneeded(of_page(), others=("ip6_tunnel", "UMIP"))) == []
    assert filtered.lost(of_page()) == []


def test_a_filter_that_drops_what_is_invalid_drops_nothing_of_a_tunnel(filtered: Filtered) -> None:
    assert filtered.lost(STATEFUL) == []
