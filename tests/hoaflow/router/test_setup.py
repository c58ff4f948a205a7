# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup`, `status` and `teardown` on a real Open vSwitch."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hoaflow.router.cli import main
from hoaflow.router.endpoint import TOUT, Endpoint
from hoaflow.tunnel.spoofing_filter import SpoofingFilter
from tests.support.checkout import CHECKOUT
from tests.support.router_lab import HA, HA_2, HOA, HOA4, ROUTER, RouterLab, sh


def test_teardown_leaves_what_was_there_before_setup(lab: RouterLab) -> None:
    before = lab.snapshot()
    lab.setup()
    lab.setup(home_agent=HA_2)
    assert lab.snapshot() != before
    lab.router("teardown", "--bridge", lab.bridge)
    assert lab.snapshot() == before
    assert "nothing changed" in lab.router("teardown", "--bridge", lab.bridge)


def flush_rules(lab: RouterLab, endpoint: Endpoint) -> None:
    for namespace in (endpoint.namespace, lab.names["rt"]):
        sh("ip", "netns", "exec", namespace, "nft", "flush", "ruleset")


def rename_links(lab: RouterLab, endpoint: Endpoint) -> None:
    for namespace, link in ((endpoint.namespace, TOUT), (lab.names["rt"], endpoint.kernel_port)):
        sh("ip", "-n", namespace, "link", "set", link, "down")
        sh("ip", "-n", namespace, "link", "set", link, "name", "elsewhere")


# What somebody did to an endpoint by hand before it is taken down.
BY_HAND: dict[str, Callable[[RouterLab, Endpoint], object]] = {
    "port deleted": lambda lab, e: lab.ovs.vsctl("del-port", e.port),
    "port's facts removed": lambda lab, e: lab.ovs.vsctl("clear", "Port", e.port, "external_ids"),
    "record removed": lambda lab, _: lab.ovs.vsctl("clear", "Open_vSwitch", ".", "external_ids"),
    "namespace deleted": lambda _, e: sh("ip", "netns", "del", e.namespace),
    "links renamed": rename_links,
    "link to the kernel deleted": lambda lab, e: lab.ip("rt", "link", "del", e.kernel_port),
    "link into another namespace": lambda lab, e: lab.ip("rt", "link", "set", e.kernel_port, "netns", lab.names["ha"]),
    "rules flushed": flush_rules,
}


@pytest.mark.expected_ovs_log("Network is down", "No such device")
def test_teardown_leaves_nothing_of_what_was_changed_by_hand(lab: RouterLab) -> None:
    before = lab.snapshot(), lab.ip("ha", "-br", "link")
    for done, by_hand in BY_HAND.items():
        lab.setup()
        by_hand(lab, lab.endpoint())
        lab.router("teardown", "--bridge", lab.bridge)
        assert (lab.snapshot(), lab.ip("ha", "-br", "link")) == before, done


def test_teardown_leaves_nothing_of_a_setup_that_was_killed(lab: RouterLab) -> None:
    before = lab.snapshot()
    arguments = ["--bridge", lab.bridge, "--home-agent", HA, "--kernel-namespace", lab.names["rt"]]
    steps = lab.setup().count("\n")
    lab.router("teardown", "--bridge", lab.bridge)
    for step in range(1, steps + 1, 9):
        with subprocess.Popen(lab.router_command("setup", *arguments), stdout=subprocess.PIPE, cwd=CHECKOUT) as setup:
            assert setup.stdout is not None
            said = [setup.stdout.readline() for _ in range(step)]
            setup.kill()
        lab.router("teardown", "--bridge", lab.bridge)
        assert lab.snapshot() == before, said[-1]


def test_what_a_bridge_that_was_deleted_has_left_can_be_taken_down(lab: RouterLab) -> None:
    lab.setup()
    lab.ovs.vsctl("del-br", lab.bridge)
    assert f"removed: namespace {lab.endpoint().namespace}" in lab.router("teardown", "--bridge", lab.bridge)
    assert not Path(f"/run/netns/{lab.endpoint().namespace}").exists()
    assert lab.endpoint().kernel_port not in lab.ip("rt", "-br", "link")
    with pytest.raises(RuntimeError, match="there is no bridge"):
        lab.router("teardown", "--bridge", lab.bridge)


def test_a_second_setup_changes_nothing_and_says_so(lab: RouterLab) -> None:
    first = lab.setup()
    assert lab.endpoint().namespace in first
    before = lab.snapshot()
    assert lab.setup() == f"bridge {lab.bridge}, home agent {HA}: everything in place, nothing changed\n"
    assert lab.snapshot() == before


def test_setup_makes_what_is_missing_and_keeps_the_bindings(bound: RouterLab) -> None:
    endpoint = bound.endpoint()
    bound.router("setup", "--bridge", bound.bridge, "--home-agent", HA, "--kernel-namespace", bound.names["rt"])
    bound.ovs.vsctl("del-port", endpoint.port)
    bound.ip("rt", "link", "set", endpoint.kernel_port, "down")
    said = bound.setup()
    assert f"port {endpoint.port} added" in said
    assert f"link {endpoint.kernel_port} up" in said
    assert f"{endpoint.namespace} created" not in said
    assert bound.status()["endpoints"][0]["routes"] == 3


def test_a_port_of_another_bridge_is_left_alone(lab: RouterLab) -> None:
    before = lab.snapshot()
    lab.ovs.vsctl("add-br", "other", "--", "set", "bridge", "other", "datapath_type=netdev")
    lab.ovs.vsctl("add-port", "other", lab.endpoint().port, "--", "set", "interface", lab.endpoint().port, "type=dummy")
    with pytest.raises(RuntimeError, match="on bridge other already"):
        lab.setup()
    lab.ovs.vsctl("del-br", "other")
    assert lab.snapshot() == before


def test_failing_in_the_middle_leaves_nothing(lab: RouterLab) -> None:
    before = lab.snapshot()
    for address in (ROUTER, "2001:db8:2::1", "2001:db8:10::1"):
        device = json.loads(lab.ip("rt", "-j", "-6", "address", "show", "to", address))[-1]["ifname"]
        lab.ip("rt", "address", "del", f"{address}/64", "dev", device)
    missing = lab.snapshot()
    with pytest.raises(RuntimeError, match="--icmp-source") as failure:
        lab.setup()
    assert f"undone: namespace {lab.endpoint().namespace} created" in str(failure.value)
    assert lab.snapshot() == missing != before


def test_a_kernel_that_does_not_forward_is_refused_before_anything_is_done(lab: RouterLab) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
    before = lab.snapshot()
    with pytest.raises(RuntimeError, match=re.escape("sysctl -w net.ipv6.conf.all.forwarding=1")):
        lab.setup()
    assert lab.snapshot() == before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--bridge", "nosuch", "--home-agent", HA], "nosuch"),
        (["--bridge", "{bridge}", "--home-agent", HA, "--kernel-namespace", "nosuch"], "'nosuch' not found"),
        (["--bridge", "{bridge}", "--home-agent", HA, "--mtu", "1279"], "links of 1280"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(lab: RouterLab, options: list[str], reason: str) -> None:
    before = lab.snapshot()
    with pytest.raises(RuntimeError, match=reason) as failure:
        lab.router("setup", *(option.format(bridge=lab.bridge) for option in options))
    assert "Traceback" not in str(failure.value)
    assert lab.snapshot() == before


@pytest.mark.programs
def test_a_database_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    assert main(["status", "--bridge", "br0", "--db", f"unix:{tmp_path}/none.sock"]) == 1
    assert "none.sock" in capsys.readouterr().err


def test_without_ipv4_forwarding_setup_prepares_ipv6_only(lab: RouterLab) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    lab.setup()
    assert lab.status()["endpoints"][0]["carries_ipv4"] is False
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=1")
    assert "net.ipv4.conf.all.forwarding = 1" in lab.setup()
    assert lab.status()["endpoints"][0]["carries_ipv4"] is True
    assert "nothing changed" in lab.setup()


def test_several_bridges_and_home_agents_share_a_host(lab: RouterLab) -> None:
    other = lab.bridge + "o"
    lab.ovs.add_bridge(other, 0xDEF)
    lab.setup()
    lab.setup(home_agent=HA_2)
    lab.router("setup", "--bridge", other, "--home-agent", HA, "--kernel-namespace", lab.names["rt"])
    assert [endpoint["home_agent"] for endpoint in lab.status()["endpoints"]] == [HA_2, HA]
    lab.router("teardown", "--bridge", lab.bridge, "--home-agent", HA)
    assert [endpoint["home_agent"] for endpoint in lab.status()["endpoints"]] == [HA_2]
    assert "problem" not in lab.router("status", "--bridge", other)
    lab.router("teardown", "--bridge", other)


@pytest.mark.expected_ovs_log("Network is down", "No such device")
def test_status_says_what_is_missing(bound: RouterLab) -> None:
    endpoint = bound.endpoint()
    said = bound.router("status", "--bridge", bound.bridge)
    for fact in (HA, endpoint.port, endpoint.mac, endpoint.namespace):
        assert fact in said
    SpoofingFilter(endpoint.namespace).teardown()
    problems = bound.status()["endpoints"][0]["problems"]
    assert any("the check against spoofing is missing" in problem for problem in problems)
    bound.setup()
    sh("ip", "netns", "del", endpoint.namespace)
    (broken,) = bound.status()["endpoints"]
    assert not broken["namespace_present"]
    assert any("setup again" in problem for problem in broken["problems"])
    bound.setup()
    assert bound.status()["endpoints"][0]["problems"] == []


def test_kernel_namespace_by_path(lab: RouterLab) -> None:
    path = f"/run/netns/{lab.names['rt']}"
    lab.router("setup", "--bridge", lab.bridge, "--home-agent", HA, "--kernel-namespace", path)
    assert "nothing changed" in lab.setup()
    with pytest.raises(RuntimeError, match="--kernel-namespace changed"):
        lab.router("setup", "--bridge", lab.bridge, "--home-agent", HA, "--kernel-namespace", lab.names["ha"])
    assert lab.status()["endpoints"][0]["problems"] == []


def test_the_source_of_icmp_errors_can_be_chosen_and_stays(lab: RouterLab) -> None:
    lab.setup("--icmp-source", "2001:db8:7::7")
    assert "nothing changed" in lab.setup()
    assert "ICMPv6 errors from 2001:db8:7::8" in lab.setup("--icmp-source", "2001:db8:7::8")
    lab.steer()
    too_long = ("-M", "do", "-s", "1440")  # hop limits that end here stay with the router's kernel
    assert re.search("From 2001:db8:7::8 icmp_seq=[123] Packet too big", lab.ping("cn", HOA, *too_long))
    lab.ip("rt", "address", "add", "10.7.0.7/32", "dev", "lo")
    assert "ICMPv4 errors from 10.7.0.7" in lab.setup("--icmp-source", "10.7.0.7")
    assert re.search("From 10[.]7[.]0[.]7 icmp_seq=[123] Frag needed", lab.ping("cn", HOA4, *too_long))
    with pytest.raises(RuntimeError, match="one IPv6 and one IPv4 address at most"):
        lab.setup("--icmp-source", "10.7.0.7", "--icmp-source", "10.7.0.8")
