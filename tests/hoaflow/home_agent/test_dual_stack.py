# SPDX-License-Identifier: Apache-2.0
"""Dual-stack mobile nodes (RFC 5555): an IPv4 home address, and a care-of address on a link with IPv6 only."""

from collections.abc import Iterator

import pytest

from tests.support.dual_stack import CN, HOST, IPV4_HOME_ADDRESS, DualStackLab
from tests.support.mobility import CARE_OF_1, CARE_OF_2
from tests.support.roaming import comes_home, reachable, registers
from tests.support.waiting import wait_for


@pytest.fixture
def lab() -> Iterator[DualStackLab]:
    with DualStackLab() as built:
        yield built


def ipv4_reachable(lab: DualStackLab) -> None:
    """Check that correspondent node, home link and IPv4 home address reach each other."""
    assert lab.ping("cn", IPV4_HOME_ADDRESS) == 3
    assert lab.ping("hh", IPV4_HOME_ADDRESS) == 3
    assert lab.ping("mn", CN) == 3
    assert lab.ping("mn", HOST) == 3


def test_an_ipv4_home_address_is_reached_wherever_its_mobile_node_is(lab: DualStackLab) -> None:
    home_agent = lab.dual_stack_home_agent()
    node = lab.dual_stack_node()
    lab.link("m0", "up")
    node.event("moved", link="m0")
    ipv4_reachable(lab)

    registers(lab, node, "m1", CARE_OF_1)
    ipv4_reachable(lab)
    reachable(lab)
    assert f" IPv4-HoA: {IPV4_HOME_ADDRESS}\n".encode() in lab.console("bc")
    # 1,460 octets fit into the tunnel with IPv4's and ICMP's header, one more does not: the kernel says so.
    assert lab.ping("cn", IPV4_HOME_ADDRESS, size=1460 - 28) == 3
    assert lab.ping("cn", IPV4_HOME_ADDRESS, size=1460 - 27) == 0

    registers(lab, node, "m2", CARE_OF_2)
    ipv4_reachable(lab)

    comes_home(lab, node)
    ipv4_reachable(lab)
    assert b"IPv4-HoA" not in lab.console("bc")
    assert node.stop() == 0
    assert home_agent.stop() == 0
    assert IPV4_HOME_ADDRESS not in lab.run("ha", "ip -4 route show table all") + lab.run("ha", "ip neigh show proxy")
    assert "mended" not in "\n".join(home_agent.log.lines)


def ipv4_state(lab: DualStackLab) -> str:
    """Return everything of IPv4 that a home agent could leave in the kernel."""
    settings = ("all.forwarding", "hl.forwarding", "hl.rp_filter")
    commands = (
        "ip -4 rule",
        "ip -6 rule show pref 4",
        "ip -4 route show table all proto 16",
        "ip -4 route show table all proto 104",
        "ip -4 route show table all proto 105",
        "ip -6 route show table 43",
        "ip neigh show proxy",
        f"sysctl {' '.join(f'net.ipv4.conf.{each}' for each in settings)}",
    )
    return "".join(lab.run("ha", command, check=False) for command in commands)


def test_without_ipv4_a_home_agent_leaves_nothing_of_a_killed_one_with_it(lab: DualStackLab) -> None:
    lab.run("ha", "sysctl -qw net.ipv4.ip_forward=0")
    before = ipv4_state(lab)
    home_agent = lab.dual_stack_home_agent()
    node = lab.dual_stack_node()
    registers(lab, node, "m1", CARE_OF_1)
    wait_for("the IPv4 home address", lambda: lab.ping("cn", IPV4_HOME_ADDRESS) == 3 or None)
    home_agent.stop(kill=True)
    assert ipv4_state(lab) != before
    lab.home_agent("--insecure")
    assert ipv4_state(lab) == before
