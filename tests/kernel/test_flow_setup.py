# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup`, `status`, `teardown` of the `flow` backend, on the kernel's datapath."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hoaflow.router.flow.record import DEVICE
from tests.kernel.lab import BRIDGE, HA, CommandFailed, FlowLab

TRANSMIT, RECEIVE = "genev_sys_6941", "genev_sys_6943"


@pytest.fixture(scope="module", autouse=True)
def torn_down(lab: FlowLab) -> Iterator[None]:
    """Take away the backend afterwards, which tests hand on to each other as making it is slow under emulation."""
    yield
    lab.router_status("teardown", "--bridge", BRIDGE)


@pytest.fixture
def bare(lab: FlowLab) -> None:
    """Without backend."""
    lab.router("teardown", "--bridge", BRIDGE)


@pytest.mark.usefixtures("bare")
def test_teardown_leaves_what_was_there_before_setup(lab: FlowLab) -> None:
    lab.ip("rt", "link", "set", BRIDGE, "down")
    try:
        before = lab.snapshot()
        said = lab.setup()
        assert "backend flow, because" in said
        assert lab.snapshot() != before
        lab.router("teardown", "--bridge", BRIDGE)
        assert lab.snapshot() == before
        assert "nothing changed" in lab.router("teardown", "--bridge", BRIDGE)
    finally:
        lab.ip("rt", "link", "set", BRIDGE, "up")


def test_a_second_setup_changes_nothing_and_says_so(lab: FlowLab) -> None:
    lab.setup("--backend", "flow")
    before = lab.snapshot()
    assert lab.setup() == f"bridge {BRIDGE}, flow backend: everything in place, nothing changed\n"
    assert lab.setup("--backend", "flow") == f"bridge {BRIDGE}, flow backend: everything in place, nothing changed\n"
    assert lab.snapshot() == before


def test_a_second_setup_brings_a_port_back_that_somebody_has_moved(lab: FlowLab) -> None:
    lab.setup()
    port = lab.status()["flow"]["transmit_port"]
    facts = "external_ids:hoaflow-backend=flow external_ids:hoaflow-role=transmit"
    tunnel = "type=geneve options:remote_ip=flow options:local_ip=flow options:key=0 options:dst_port=6941"
    moved = f"-- add-br br2 -- add-port br2 {port} -- set Port {port} {facts} -- set Interface {port} {tunnel}"
    lab.ovs.vsctl("del-port", port, *moved.split())
    try:
        assert f"port {port} added to bridge {BRIDGE}" in lab.setup()
        assert lab.status()["flow"]["problems"] == []
    finally:
        lab.ovs.vsctl("del-br", "br2")


@pytest.mark.parametrize(
    ("damage", "problem", "repaired"),
    [
        (f"ip link del {DEVICE}", f"link {DEVICE} is missing", f"link {DEVICE} added"),
        (f"ip link set {DEVICE} down", f"link {DEVICE} is down", f"link {DEVICE} up"),
        (
            f"tc qdisc del dev {TRANSMIT} clsact",
            "egress diversion of",
            f"what leaves {TRANSMIT}",
        ),
        (
            f"tc filter del dev {DEVICE} ingress",
            "ingress diversion of",
            f"comes in at {RECEIVE}",
        ),
        ("nft flush ruleset", "table ip6 hoaflow_flow is missing", "nftables table ip6 hoaflow_flow set up"),
        (f"ip link set {BRIDGE} down", f"link {BRIDGE} is down", f"link {BRIDGE} up"),
    ],
)
def test_status_says_what_is_missing_and_setup_makes_it(lab: FlowLab, damage: str, problem: str, repaired: str) -> None:
    lab.setup()
    assert lab.status()["flow"]["problems"] == []
    before = lab.snapshot()["qdiscs"]
    lab.run("rt", *damage.split())
    try:
        assert any(problem in found for found in lab.status()["flow"]["problems"])
        assert repaired in lab.setup()
        assert lab.status()["flow"]["problems"] == []
        assert lab.snapshot()["qdiscs"] == before
    finally:
        lab.ip("rt", "link", "set", BRIDGE, "up")


def test_teardown_leaves_the_bridge_up_that_only_a_repair_has_set_up(lab: FlowLab) -> None:
    lab.setup()
    lab.ip("rt", "link", "set", BRIDGE, "down")
    try:
        lab.setup()
        lab.router("teardown", "--bridge", BRIDGE)
        assert f"{BRIDGE}: <BROADCAST,MULTICAST,UP" in lab.ip("rt", "link", "show", BRIDGE)
    finally:
        lab.ip("rt", "link", "set", BRIDGE, "up")


@pytest.mark.usefixtures("bare")
def test_status_shows_the_backend(lab: FlowLab) -> None:
    assert "no backend" in lab.router("status", "--bridge", BRIDGE)
    assert (lab.status()["backend"], lab.status()["flow"]) == (None, None)
    lab.setup()
    flow = lab.status()["flow"]
    assert lab.status()["backend"] == "flow"
    assert flow["mac"] == lab.mac(BRIDGE)
    text = lab.router("status", "--bridge", BRIDGE)
    for fact in (flow["transmit_port"], flow["receive_port"], flow["decapsulation_address"], flow["mac"]):
        assert fact in text


def test_the_mtu_of_the_links_can_be_given_and_changed(lab: FlowLab) -> None:
    lab.setup()
    assert lab.status()["flow"]["mtu"] == 1460
    lab.setup("--mtu", "1400")
    assert lab.status()["flow"]["mtu"] == 1360
    refused(lab, "links of 1320", "--mtu", "1300")
    lab.setup("--mtu", "1500")


def test_status_says_when_ipv4_cannot_be_carried(lab: FlowLab) -> None:
    lab.setup()
    assert lab.status()["flow"]["ipv4_problem"] is None
    lab.run("rt", "sysctl", "-qw", f"net.ipv4.conf.{BRIDGE}.forwarding=0")
    try:
        assert "sysctl -w net.ipv4.ip_forward=1" in lab.router("status", "--bridge", BRIDGE)
    finally:
        lab.run("rt", "sysctl", "-qw", f"net.ipv4.conf.{BRIDGE}.forwarding=1")


def test_the_bridges_mac_address_stays_when_ports_come(lab: FlowLab) -> None:
    lab.setup()
    mac = lab.status()["flow"]["mac"]
    # Open vSwitch takes the lowest address of all ports that is not locally administered.
    lab.ip("rt", "link", "add", "nic", "address", "00:00:5e:00:53:01", "type", "dummy")
    try:
        lab.ovs.vsctl("add-port", BRIDGE, "nic")
        assert lab.mac(BRIDGE) == mac
    finally:
        lab.ovs.vsctl("del-port", BRIDGE, "nic")
        lab.ip("rt", "link", "del", "nic")


def refused(lab: FlowLab, reason: str, *options: str) -> None:
    """Check that setup refuses for that reason, in one line, and leaves everything as it was."""
    before = lab.snapshot()
    with pytest.raises(CommandFailed, match=reason) as failure:
        lab.setup("--backend", "flow", *options)
    assert "Traceback" not in str(failure.value)
    assert lab.snapshot() == before


@pytest.mark.usefixtures("bare")
def test_a_udp_port_of_another_geneve_port_is_refused(lab: FlowLab) -> None:
    lab.ovs.vsctl(
        *f"add-port {BRIDGE} other -- set interface other type=geneve".split(),
        "options:remote_ip=2001:db8:1::77",
        "options:dst_port=6943",
    )
    try:
        refused(lab, "UDP port 6943 is taken by Geneve port other.*--receive-udp")
        assert "backend flow" in lab.setup("--receive-udp", "6945")
        refused(lab, "with UDP ports 6941 and 6945, not 6941 and 6946", "--receive-udp", "6946")
        assert "qdisc clsact" not in lab.run("rt", "tc", "qdisc", "show", "dev", RECEIVE)
        lab.router("teardown", "--bridge", BRIDGE)
    finally:
        lab.ovs.vsctl("del-port", BRIDGE, "other")


def test_somebody_elses_diversion_is_refused(lab: FlowLab) -> None:
    lab.setup()
    lab.run("rt", *f"tc filter add dev {TRANSMIT} egress pref 5 matchall action pass".split())
    lab.run("rt", *f"tc filter del dev {TRANSMIT} egress pref 6941".split())
    try:
        refused(lab, f"tc at egress of interface {TRANSMIT} belongs to someone else")
    finally:
        lab.router("teardown", "--bridge", BRIDGE)


@pytest.mark.usefixtures("bare")
def test_another_tunnel_device_of_the_kind_is_refused(lab: FlowLab) -> None:
    lab.ip("rt", "link", "add", "theirs", "type", "ip6tnl", "external")
    try:
        refused(lab, "has a collect-metadata ip6tnl device already.*remove it")
    finally:
        lab.ip("rt", "link", "del", "theirs")


@pytest.mark.usefixtures("bare")
def test_a_kernel_that_does_not_forward_is_refused(lab: FlowLab) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
    try:
        refused(lab, re.escape("sysctl -w net.ipv6.conf.all.forwarding=1"))
    finally:
        lab.run("rt", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")


@pytest.mark.usefixtures("bare")
def test_a_userspace_bridge_is_refused_and_auto_says_why_it_takes_route(lab: FlowLab) -> None:
    lab.ovs.vsctl("add-br", "usr", "--", "set", "bridge", "usr", "datapath_type=netdev")
    try:
        before = lab.snapshot()
        with pytest.raises(CommandFailed, match=r"the netdev datapath.*datapath_type=system"):
            lab.router("setup", "--bridge", "usr", "--backend", "flow")
        with pytest.raises(CommandFailed, match="name them with --home-agent"):
            lab.router("setup", "--bridge", "usr")
        assert lab.snapshot() == before
        said = lab.router("setup", "--bridge", "usr", "--home-agent", HA)
        assert "backend route, because: the flow backend is not possible here: bridge usr has the netdev" in said
        assert "nothing changed" in lab.router("setup", "--bridge", "usr", "--home-agent", HA)
        lab.router("teardown", "--bridge", "usr")
        assert lab.snapshot() == before
    finally:
        lab.ovs.vsctl("del-br", "usr")


def test_a_second_bridge_and_a_second_backend_are_refused(lab: FlowLab) -> None:
    lab.setup()
    lab.ovs.vsctl("add-br", "br2")
    try:
        with pytest.raises(CommandFailed, match=f"bridge {BRIDGE} has the flow backend, and a host has it once"):
            lab.router("setup", "--bridge", "br2", "--backend", "flow")
        with pytest.raises(CommandFailed, match="run teardown first"):
            lab.setup("--backend", "route", "--home-agent", HA)
        # Of a bridge without backend, teardown leaves the other bridge's alone.
        assert "nothing changed" in lab.router("teardown", "--bridge", "br2")
        assert lab.status()["flow"]["problems"] == []
    finally:
        lab.ovs.vsctl("del-br", "br2")
