# SPDX-License-Identifier: Apache-2.0
"""What a home agent says of itself, and tells its home link, when what it stands on changes under it."""

import socket

import pytest

from ha_bridge.terminal_client import TerminalClient, TerminalRefused
from hoaflow.tunnel.namespace import in_namespace
from tests.support.mobility import CARE_OF_1, HOME_ADDRESS, HOME_AGENT, TIMEOUT, Lab, Node
from tests.support.sabotage import METRICS, probe, readiness
from tests.support.waiting import wait_for

TERMINAL = "127.0.0.1", 7777
NO_ROUTE = "no route works for 1 of 1 care-of addresses"


def serving(lab: Lab, *options: str) -> Node:
    """Start a home agent, and return it when its one binding is in force."""
    agent = lab.home_agent("--insecure", "--metrics", METRICS, *options)
    node = lab.mobile_node("--insecure")
    lab.link("m1", "up")
    node.event("registered", care_of_address=CARE_OF_1)
    return agent


def ready(lab: Lab) -> str:
    return in_namespace(lab.namespace("ha"), readiness)


def compared(lab: Lab, agent: Node) -> None:
    """Break something, and wait until a comparison has mended it: everything has been compared since."""
    since = len(agent.log.lines)
    lab.run("ha", "sysctl -qw net.ipv6.conf.hl.forwarding=0")
    agent.logged("net.ipv6.conf.hl.forwarding is 0", since=since)


def test_a_care_of_address_that_is_excluded_on_purpose_says_nothing_of_the_home_agent(lab: Lab) -> None:
    agent = serving(lab)
    lab.run("ha", f"ip -6 route add unreachable {CARE_OF_1}/128")
    compared(lab, agent)
    wait_for("ready", lambda: ready(lab) == "ok" or None)
    lab.run("ha", "ip -6 route del default")
    agent.logged("event=not-mended", NO_ROUTE)


def test_an_uplink_without_carrier_is_said_also_when_all_bindings_have_expired(lab: Lab) -> None:
    agent = serving(lab, "--max-lifetime", "8")
    lab.run("rt", "ip link set r9 down")
    agent.logged("event=not-mended", NO_ROUTE)
    assert ready(lab).startswith("503 ")
    assert NO_ROUTE in ready(lab)
    agent.logged("event=binding-removed", "reason=expired")
    compared(lab, agent)
    assert ready(lab).startswith("503 ")
    assert NO_ROUTE in ready(lab)
    since = len(agent.log.lines)
    lab.run("rt", "ip link set r9 up")
    agent.logged("event=as-declared-again", since=since)
    assert ready(lab) == "ok"


def test_a_bridge_takes_a_home_agent_that_cannot_serve_for_one_that_is_down(lab: Lab) -> None:
    agent = serving(lab)
    console = TerminalClient(*TERMINAL)
    with in_namespace(lab.namespace("ha"), lambda: socket.create_connection(TERMINAL, TIMEOUT)) as client:
        assert client.recv(1)
        lab.run("rt", "ip link set r9 down")
        agent.logged("event=not-mended", NO_ROUTE)
        while client.recv(1024):
            pass
    with pytest.raises(TerminalRefused):
        in_namespace(lab.namespace("ha"), console.read)
    since = len(agent.log.lines)
    lab.run("rt", "ip link set r9 up")
    agent.logged("event=as-declared-again", since=since)
    assert [entry.home_address for entry in in_namespace(lab.namespace("ha"), console.read)] == [HOME_ADDRESS]


def test_neighbours_are_told_a_new_mac_address_of_the_home_link(lab: Lab) -> None:
    serving(lab)
    assert lab.ping("hh", HOME_ADDRESS) == lab.ping("hh", HOME_AGENT) == 3
    assert neighbours(lab).keys() >= {HOME_ADDRESS, HOME_AGENT}
    lab.run("ha", "ip link set hl address 02:00:00:00:00:07")
    wait_for("the new MAC address", lambda: {*neighbours(lab).values()} == {"02:00:00:00:00:07"})
    # A host that took the home agent for no router any more would drop its default route by it (RFC 4861, 7.2.5).
    assert "router" in lab.run("hh", f"ip -6 neigh show {HOME_AGENT}")


def neighbours(lab: Lab) -> dict[str, str]:
    """Return the MAC address that the host on the home link has for each neighbour; it asks for none meanwhile."""
    shown = [line.split() for line in lab.run("hh", "ip -6 neigh show").splitlines()]
    return {words[0]: words[words.index("lladdr") + 1] for words in shown if "lladdr" in words}


def test_only_a_loop_that_does_not_turn_is_told_to_be_restarted(lab: Lab) -> None:
    agent = serving(lab)
    lab.run("ha", "ip link set u0 down")
    agent.logged("event=not-mended", NO_ROUTE)
    assert in_namespace(lab.namespace("ha"), lambda: probe("healthz")) == "ok"
