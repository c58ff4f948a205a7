# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router run` with the `flow` backend: what it announces, how it mends, and what it says where it cannot.

It compares nothing unless something makes itself heard.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hoaflow.router.flow.kernel import TUNNEL_MAC
from hoaflow.router.flow.record import DEVICE
from tests.kernel.lab import BRIDGE, FlowLab
from tests.support.checkout import CHECKOUT
from tests.support.fake_controller import FakeController
from tests.support.router_lab import AGENT_BY_EVENTS, until
from topologies.waiting import patient


@pytest.fixture(scope="module")
def facts(lab: FlowLab) -> Iterator[dict[str, Any]]:
    """Provide the backend, set up; what the agent has to announce of it."""
    lab.setup()
    flow = lab.facts()
    yield {
        "transmit_port": flow["transmit_port"],
        "receive_port": flow["receive_port"],
        "decapsulation_address": flow["decapsulation_address"],
        "decapsulation_mac": flow["mac"],
        "router_mac": flow["mac"],
        "mtu": 1460,
        "ipv4_problem": None,
    }
    lab.router("teardown", "--bridge", BRIDGE)


@pytest.fixture(scope="module")
def controller(lab: FlowLab) -> Iterator[FakeController]:
    with lab.ovs.inside():
        fake = FakeController()
    with fake:
        yield fake


@pytest.fixture(scope="module")
def log(
    lab: FlowLab, facts: dict[str, Any], controller: FakeController, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Provide the log of a running agent, one for all tests, as it takes long to start under emulation."""
    path = tmp_path_factory.mktemp("agent") / "agent.log"
    arguments = ["run", "--bridge", BRIDGE, "--controller", f"http://127.0.0.1:{controller.port}"]
    command = [sys.executable, "-c", AGENT_BY_EVENTS, *arguments, f"--db=unix:{lab.ovs.database}"]
    with path.open("wb") as output:
        process = subprocess.Popen(lab.ovs.command(*command), stderr=output, stdout=output, cwd=CHECKOUT)
    try:
        until(lambda: controller.acknowledged, "the announcement")
        yield path
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(20)) == 0
    finally:
        process.kill()
        process.wait()


def test_it_announces_the_backend_and_is_silent_without_news(
    facts: dict[str, Any], controller: FakeController, log: Path
) -> None:
    first = dict(controller.acknowledged[0])
    assert facts["router_mac"] in first.pop("router_macs")
    assert first == {"revision": 0, "endpoints": [], "failed": [], "flow": facts}
    until(lambda: controller.last()["revision"] > 0, "the acknowledgement of the list")
    announced, polls = len(controller.acknowledged), len(controller.calls)
    until(lambda: len(controller.calls) > polls + 2, "more polls")
    assert len(controller.acknowledged) == announced
    controller.restart()
    until(lambda: len(controller.acknowledged) > announced, "an announcement to the restarted controller")
    assert controller.last()["flow"] == facts


def test_it_announces_itself_to_a_restarted_controller_that_knows_the_router_from_its_switch(
    facts: dict[str, Any], controller: FakeController, log: Path
) -> None:
    polls = len(controller.calls)
    until(lambda: len(controller.calls) > polls + 1, "polls")
    announced = len(controller.acknowledged)
    controller.restart(switch_first=True)
    until(lambda: len(controller.acknowledged) > announced, "an announcement")
    assert controller.last()["flow"] == facts


def test_it_mends_what_the_kernel_has_lost(lab: FlowLab, controller: FakeController, log: Path) -> None:
    before = log.read_text()
    lab.ip("rt", "link", "del", DEVICE)
    until(lambda: lab.status()["flow"]["problems"] == [], "the tunnel device is back")
    mended = [line for line in log.read_text().removeprefix(before).splitlines() if "event=mended" in line]
    assert any(f"link {DEVICE} is missing" in line for line in mended)


def test_it_hears_of_a_diversion_that_is_gone(lab: FlowLab, log: Path) -> None:
    lab.run("rt", *f"tc filter del dev {DEVICE} ingress".split())
    until(lambda: f"ingress diversion of {DEVICE}" in log.read_text(), "the agent's word")
    until(lambda: lab.status()["flow"]["problems"] == [], "the diversion is back")


def test_it_says_when_the_kernel_stops_to_forward_ipv4(
    lab: FlowLab, facts: dict[str, Any], controller: FakeController, log: Path
) -> None:
    lab.run("rt", "sysctl", "-qw", f"net.ipv4.conf.{BRIDGE}.rp_filter=1")
    try:
        until(lambda: controller.last()["flow"] != facts, "a new announcement")
        assert "rp_filter" in controller.last()["flow"]["ipv4_problem"]
    finally:
        lab.run("rt", "sysctl", "-qw", f"net.ipv4.conf.{BRIDGE}.rp_filter=0")
    until(lambda: controller.last()["flow"] == facts, "the announcement that it does")


def test_it_tells_the_controller_while_a_packet_filter_drops_what_leaves_the_tunnel(
    lab: FlowLab, facts: dict[str, Any], controller: FakeController, log: Path
) -> None:
    rules = "table inet fw { chain forward { type filter hook forward priority 0; policy drop; }; }"
    lab.run("rt", "nft", rules)
    try:
        until(lambda: controller.last()["flow"] != facts, "a new announcement")
        said = "the router's packet filter drops what leaves the tunnel: chain forward of table inet fw: policy drop"
        assert controller.last()["flow"] == facts | {"problem": said}
        lab.run("rt", "nft", "insert", "rule", "inet", "fw", "forward", "ether", "saddr", TUNNEL_MAC, "accept")
        until(lambda: controller.last()["flow"] == facts, "the announcement that it gets through")
    finally:
        lab.run("rt", "nft", "delete", "table", "inet", "fw")


def test_a_port_that_is_gone_from_the_database_comes_back(lab: FlowLab, facts: dict[str, Any], log: Path) -> None:
    lab.ovs.vsctl("del-port", facts["receive_port"])
    until(lambda: f"port {facts['receive_port']} is not on bridge {BRIDGE}" in log.read_text(), "the agent's word")
    until(lambda: lab.status()["flow"]["problems"] == [], "the port is back")


def test_ports_that_are_gone_both_at_once_come_back(lab: FlowLab, facts: dict[str, Any], log: Path) -> None:
    """That is no teardown, which would take the record from the database, too."""
    heard = len(log.read_text())
    lab.ovs.vsctl("del-port", facts["transmit_port"], "--", "del-port", facts["receive_port"])
    until(lambda: "event=mended" in log.read_text()[heard:], "the agent's word")
    until(lambda: lab.status()["flow"]["problems"] == [], "the ports are back")


def test_it_tells_the_controller_while_the_tunnel_cannot_be_mended(
    lab: FlowLab, facts: dict[str, Any], controller: FakeController, log: Path
) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
    try:
        until(lambda: controller.last()["flow"] != facts, "a new announcement")
        assert "sysctl -w net.ipv6.conf.all.forwarding=1" in controller.last()["flow"]["problem"]
        assert log.read_text().count("event=broken") == 1
    finally:
        lab.run("rt", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    until(lambda: controller.last()["flow"] == facts, "the announcement that it carries packets again")
