# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from router.flow.record import DEVICE
from tests.kernel.lab import BRIDGE, FlowLab


@pytest.fixture(autouse=True)
def prepared(lab: FlowLab) -> Iterator[None]:
    """The flow backend, whole again for every test."""
    lab.setup()
    yield
    lab.router("teardown", "--bridge", BRIDGE)


def test_a_healthy_router_passes_and_its_self_test_packet_comes_back(lab: FlowLab) -> None:
    status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
    assert status == 0, said
    assert {finding["result"] for finding in lab.doctor().values()} == {"ok"}
    assert "came back" in lab.doctor()["self-test packet"]["detail"]
    assert said.splitlines()[-1] == f"bridge {BRIDGE} can take traffic off its home agents"


def test_the_kernel_alone_can_be_checked(lab: FlowLab) -> None:
    status, said, _ = lab.router_status("doctor")
    assert (status, said.count("works")) == (0, 4)
    assert said.splitlines()[-1].startswith("this kernel can run the flow backend")


@pytest.mark.parametrize(
    ("damage", "repair", "check", "help"),
    [
        (
            "nft add table ip6 t; add chain ip6 t c { type filter hook input priority 0; }; "
            "add rule ip6 t c ip6 nexthdr 41 drop",
            "nft delete table ip6 t",
            "self-test packet",
            "nft list ruleset",
        ),
        (f"ip link set {DEVICE} down", "true", "tunnel", "run setup again"),
        (
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
            f"sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.{BRIDGE}.forwarding=1",
            "IPv6 forwarding (all)",
            "sysctl -w net.ipv6.conf.all.forwarding=1",
        ),
    ],
)
def test_what_breaks_the_tunnel_fails_with_help(lab: FlowLab, damage: str, repair: str, check: str, help: str) -> None:
    command = ["nft", damage.removeprefix("nft ")] if damage.startswith("nft") else damage.split()
    lab.run("rt", *command)
    try:
        status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
        assert status == 1, said
        found = lab.doctor()[check]
        assert found["result"] == "failed"
        assert help in found["help"]
        assert help in said
        assert re.search(r"^\d of \d+ checks failed: ", said.splitlines()[-1])
    finally:
        lab.run("rt", *repair.split())


@pytest.mark.parametrize(
    ("damage", "repair", "check", "help"),
    [
        (
            f"sysctl -qw net.ipv4.conf.{BRIDGE}.rp_filter=1",
            f"sysctl -qw net.ipv4.conf.{BRIDGE}.rp_filter=0",
            "rp_filter",
            f"sysctl -w net.ipv4.conf.{BRIDGE}.rp_filter=2",
        ),
        (
            f"sysctl -qw net.ipv4.conf.{BRIDGE}.forwarding=0",
            f"sysctl -qw net.ipv4.conf.{BRIDGE}.forwarding=1",
            f"IPv4 forwarding ({BRIDGE})",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        ("ip link set s1 mtu 9000", "ip link set s1 mtu 1500", "MTU", "mtu_request=9000"),
        (
            f"ip link set {BRIDGE} mtu 1400",
            f"ip link set {BRIDGE} mtu 1500",
            "MTU in tunnels",
            f"hoaflow-router setup --bridge {BRIDGE} --mtu 1400",
        ),
    ],
)
def test_what_may_do_harm_is_a_warning(lab: FlowLab, damage: str, repair: str, check: str, help: str) -> None:
    lab.run("rt", *damage.split())
    try:
        status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
        assert status == 0, said
        assert re.search(r"home agents, with \d warnings?$", said.splitlines()[-1])
        found = lab.doctor()[check]
        assert found["result"] == "warning"
        assert help in found["help"]
    finally:
        lab.run("rt", *repair.split())


def test_without_backend_it_says_to_set_one_up(lab: FlowLab) -> None:
    lab.router("teardown", "--bridge", BRIDGE)
    status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
    assert status == 1
    assert f"hoaflow-router setup --bridge {BRIDGE}" in said
    assert lab.doctor()["backend"]["result"] == "failed"
