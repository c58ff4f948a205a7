# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router doctor`: what it finds, and what it says to do."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hoaflow.router.flow.record import DEVICE
from tests.kernel.lab import BRIDGE, FlowLab
from tests.support.router_lab import until


@pytest.fixture(scope="module", autouse=True)
def prepared(lab: FlowLab) -> Iterator[None]:
    """Set up the flow backend; each test leaves it whole."""
    lab.setup()
    yield
    lab.router_status("teardown", "--bridge", BRIDGE)


def finding(result: str, check: str, help: str) -> str:
    """Return a regular expression for what the doctor says of one check."""
    return rf"(?m)^{result:7}  {re.escape(check)} .*\n +→ .*{re.escape(help)}"


def test_a_healthy_router_passes_and_its_self_test_packet_comes_back(lab: FlowLab) -> None:
    status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
    assert status == 0, said
    found = lab.doctor()
    assert {finding["result"] for finding in found.values()} == {"ok"}
    assert "came back" in found["self-test packet"]["detail"]
    assert said.splitlines()[-1] == (
        f"bridge {BRIDGE} can take traffic off its home agents. "
        f"Next, unless it runs: hoaflow-router run --bridge {BRIDGE} --controller URL"
    )


def test_the_kernel_alone_can_be_checked(lab: FlowLab) -> None:
    status, said, _ = lab.router_status("doctor")
    assert (status, said.count("works")) == (0, 5)
    assert said.splitlines()[-1] == ("this kernel can run the flow backend. Next: hoaflow-router setup --bridge BRIDGE")


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
        (f"ip link set {DEVICE} down", None, "tunnel", "run setup again"),
        (
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
            f"sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.{BRIDGE}.forwarding=1",
            "tunnel",
            "sysctl -w net.ipv6.conf.all.forwarding=1",
        ),
    ],
)
def test_what_breaks_the_tunnel_fails_with_help(
    lab: FlowLab, damage: str, repair: str | None, check: str, help: str
) -> None:
    command = ["nft", damage.removeprefix("nft ")] if damage.startswith("nft") else damage.split()
    lab.run("rt", *command)
    try:
        status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
        assert status == 1, said
        assert re.search(finding("failed", check, help), said), said
        assert re.search(r"^\d of \d+ checks failed: ", said.splitlines()[-1])
    finally:
        if repair is None:
            lab.setup()
        else:
            lab.run("rt", *repair.split())


# What a rule drops: hook, rule, what is said to be dropped, and a rule that helps (as the help has it).
DROPPED = {
    "forward": ("forward", "tcp dport 50000 drop", "what leaves the tunnel", f"iifname {BRIDGE} ether saddr"),
    "input": ("input", "ip6 nexthdr 41 drop", "tunnel packets from care-of addresses", "ip6 daddr fd"),
    "output": ("output", "ip6 nexthdr 41 drop", "tunnel packets to care-of addresses", "meta l4proto { 4, 41 }"),
    "postrouting": ("postrouting", "ip6 nexthdr 41 drop", "tunnel packets to care-of addresses", "l4proto"),
    "prerouting": ("prerouting", "ip6 nexthdr 41 drop", "tunnel packets from care-of addresses", "ip6 daddr fd"),
}


def firewall(lab: FlowLab) -> dict[str, str]:
    """Return what the doctor finds of the packet filter; emulated, it may not be in time for an answer."""
    found: dict[str, str] = until(
        lambda: found if (found := lab.doctor()["firewall"])["result"] != "warning" else None, "a verdict", seconds=60
    )
    return found


@pytest.mark.parametrize(("hook", "rule", "what", "help"), DROPPED.values(), ids=DROPPED)
def test_what_a_packet_filter_drops_is_named_with_the_rule(
    lab: FlowLab, hook: str, rule: str, what: str, help: str
) -> None:
    chain = f"chain c {{ type filter hook {hook} priority 0; {rule}; }}"
    lab.run("rt", "nft", f"table ip6 fw {{ {chain}; }}")
    try:
        found = firewall(lab)
        assert found["result"] == "failed", found
        assert found["detail"].startswith(f"drops {what}"), found
        assert f"chain c of table ip6 fw: rule {rule.removesuffix(' drop').split()[0]}" in found["detail"], found
        assert help in found["help"], found
        assert f"warning: the router's packet filter drops {what}" in lab.setup()
    finally:
        lab.run("rt", "nft", "delete", "table", "ip6", "fw")
    assert firewall(lab)["result"] == "ok"


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
        assert re.search(r"home agents, with \d warnings?\. Next, ", said.splitlines()[-1])
        assert re.search(finding("warning", check, help), said), said
    finally:
        lab.run("rt", *repair.split())


def test_without_backend_it_says_to_set_one_up(lab: FlowLab) -> None:
    lab.router("teardown", "--bridge", BRIDGE)
    status, said, _ = lab.router_status("doctor", "--bridge", BRIDGE)
    assert status == 1
    assert re.search(finding("failed", "backend", f"hoaflow-router setup --bridge {BRIDGE}"), said), said
