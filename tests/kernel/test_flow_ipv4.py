# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend with IPv4 outer headers: what packets meet in it, what it consists of, and who notices changes.

The tunnels' other ends are the kernel's own ipip devices (see tests.kernel.lab), and the flows the controller's, put by
hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from hoaflow.router.flow.declaration import declaration
from hoaflow.router.flow.keeper import FlowKeeper
from hoaflow.router.ovsdb import Ovsdb
from hoaflow.tunnel.declaration import compare
from hoaflow.tunnel.namespace import in_namespace
from tests.kernel.lab import BRIDGE, COA4, HA4, HA4_HOA, HA4_OTHER_HOA, HA_HOP4, FlowLab
from tests.support.capture import capture
from tests.support.frames import Tap, packet_socket
from tests.support.ping import ping
from tests.support.router_lab import CN4, until

TUNNEL = "ip proto 4"
SETUP = ("--home-agent", HA4)
MEGABYTES = 20


@pytest.fixture(scope="module", autouse=True)
def ready(lab: FlowLab) -> Iterator[dict[str, Any]]:
    """Provide the status of the backend, set up without the other family's; the flows are put."""
    lab.setup(*SETUP)
    lab.offload4(lab.backend("flow_ipv4"))
    yield lab.status()["flow_ipv4"]
    lab.router("teardown", "--bridge", BRIDGE)
    lab.home()


def assert_answered(lab: FlowLab, node: str, target: str, *options: str) -> None:
    """Send requests until one is answered: of the first of a connection, an emulated switch may lose one."""
    until(lambda: "1 received" in lab.run(node, *ping(1, 5, *options, target), check=False), f"{target} answers")


def test_both_ways_are_direct_with_the_home_agents_address_as_outer_source(lab: FlowLab) -> None:
    with capture(lab.enter("ha"), "e0", TUNNEL) as at_home_agent, capture(lab.enter("mn"), "e0", TUNNEL) as at_node:
        assert_answered(lab, "cn", HA4_HOA)
        assert_answered(lab, "mn", CN4, "-I", HA4_HOA)
        seen = at_node()
        assert at_home_agent() == ""
    # DF outside (RFC 2003 §3.1), inner hop limit decremented by the router, the outer one by its kernel.
    down = (
        rf"ttl 63, .*flags \[DF\], proto IPIP .*\n? *{HA4} > {COA4}: IP \(.*ttl 63, .*\n? *{CN4} > {HA4_HOA}: ICMP echo"
    )
    assert re.search(down, seen), seen
    assert re.search(rf"{COA4} > {HA4}: IP \(.*\n? *{HA4_HOA} > {CN4}: ICMP echo", seen), seen


def test_a_wrong_inner_source_is_dropped_and_counted(lab: FlowLab) -> None:
    dropped = lab.unverified()
    with capture(lab.enter("cn"), "e0", f"src {HA4_OTHER_HOA}") as seen:
        assert "100% packet loss" in lab.ping("mn", CN4, "-I", HA4_OTHER_HOA)
        assert_answered(lab, "mn", CN4, "-I", HA4_HOA)
        assert seen() == ""
    assert lab.unverified() == dropped + 3


def test_a_wrong_outer_source_is_dropped_at_the_decapsulation_address_itself(
    lab: FlowLab, ready: dict[str, Any]
) -> None:
    dropped = lab.unverified()
    inner = IP(src=HA4_HOA, dst=CN4) / UDP(dport=9) / Raw(b"spoofed")
    outer = IP(src="10.2.0.66", dst=ready["decapsulation_address"]) / inner
    with packet_socket(lab.names["mn"], "e0") as at_node:
        at_node.send(bytes(Ether(dst=lab.mac(BRIDGE), src="02:00:00:00:00:c4") / outer))
        until(lambda: lab.unverified() == dropped + 1, "the packet is counted as nobody's")


def test_what_is_the_home_agents_reaches_it_in_its_tunnel(lab: FlowLab) -> None:
    """Its mark lasts through the tunnel device: by that, flows know whose it is."""
    inner = IP(src=HA4_HOA, dst="224.0.0.251", ttl=5) / UDP(dport=5353) / Raw(b"multicast")
    frame = Ether(dst=lab.mac(BRIDGE), src="02:00:00:00:00:c4") / IP(src=COA4, dst=HA4, ttl=64) / inner
    with packet_socket(lab.names["ha"], "e0") as at_home_agent, packet_socket(lab.names["mn"], "e0") as at_node:
        at_node.send(bytes(frame))
        (arrived,) = Tap(at_home_agent).await_frames(b"multicast", count=1)
    header = IP(arrived[14:])
    assert (header.src, header.dst, header.proto, header.payload.dst) == (COA4, HA4, 4, "224.0.0.251")


def test_an_ipv4_packet_over_the_tunnels_mtu_is_answered_by_the_home_agent(lab: FlowLab) -> None:
    answered = lab.run("cn", *ping(1, 2, "-M", "do", "-s", "1453", HA4_HOA), check=False)
    assert f"From {HA_HOP4} icmp_seq=1 Frag needed and DF set (mtu = 1480)" in answered
    assert_answered(lab, "cn", HA4_HOA, "-M", "do", "-s", "1452")


def test_an_error_about_a_tunnel_packet_goes_to_the_home_agent(lab: FlowLab) -> None:
    """As RFC 2003 has it, which relays what it can use (§4): here only that it arrives."""
    lab.ip("rt", "route", "add", "unreachable", f"{COA4}/32")
    try:
        with packet_socket(lab.names["ha"], "e0") as at_home_agent:
            lab.run("cn", *ping(1, 1, "-p", "686f6166", HA4_HOA), check=False)
            (arrived,) = Tap(at_home_agent).await_frames(bytes.fromhex("686f6166" * 2), count=1)
    finally:
        lab.ip("rt", "route", "del", "unreachable", f"{COA4}/32")
    error = IP(arrived[14:])
    assert (error.dst, error[ICMP].type) == (HA4, 3)


def test_a_tcp_transfer_with_offloads_on_completes_and_the_home_agent_sees_nothing(lab: FlowLab) -> None:
    with capture(lab.enter("ha"), "e0", TUNNEL) as at_home_agent:
        for sender, receiver, source, target in (("cn", "mn", CN4, HA4_HOA), ("mn", "cn", HA4_HOA, CN4)):
            lab.stream(sender, receiver, source, target, MEGABYTES << 20)
        assert at_home_agent() == ""


def test_answers_are_not_invalid_to_the_routers_firewall(lab: FlowLab) -> None:
    chain = "add table ip t; add chain ip t f { type filter hook forward priority 0; }"
    rules = f"{chain}; add rule ip t f ct state invalid drop"
    lab.run("rt", "nft", rules)
    try:
        assert_answered(lab, "cn", HA4_HOA)
        lab.stream("cn", "mn", CN4, HA4_HOA, 1 << 16)
    finally:
        lab.run("rt", "nft", "delete table ip t")


def test_status_and_doctor_say_what_there_is(lab: FlowLab, ready: dict[str, Any]) -> None:
    text = lab.router("status", "--bridge", BRIDGE)
    for fact in (
        ready["transmit_port"],
        ready["receive_port"],
        ready["decapsulation_address"],
        "hoaflow4s and hoaflow4",
    ):
        assert fact in text
    assert (ready["problems"], ready["mtu"]) == ([], 1480)
    assert "--backend route" in ready["ipv6_problem"]
    found = lab.doctor()
    assert {finding["result"] for finding in found.values()} == {"ok"}, found
    assert "came back" in found["self-test packet (IPv4)"]["detail"]


def firewall(lab: FlowLab) -> dict[str, str] | None:
    """Return what the doctor finds of the packet filter; None while it has no verdict, as emulated it is slow."""
    found = lab.doctor()["firewall (IPv4)"]
    return None if found["result"] == "warning" else found


@pytest.mark.parametrize(
    ("hook", "rule", "what"),
    [
        ("input", "ip protocol 4 drop", "tunnel packets from care-of addresses"),
        ("forward", "ip protocol 4 drop", "tunnel packets to care-of addresses"),
    ],
)
def test_what_a_packet_filter_drops_is_named(lab: FlowLab, hook: str, rule: str, what: str) -> None:
    rules = f"add table ip t; add chain ip t c {{ type filter hook {hook} priority 0; }}; add rule ip t c {rule}"
    lab.run("rt", "nft", rules)
    try:
        found = until(lambda: firewall(lab), "a verdict", seconds=60)
        assert (found["result"], what in found["detail"]) == ("failed", True), found
    finally:
        lab.run("rt", "nft", "delete table ip t")


def test_a_second_setup_for_whichever_home_agent_changes_nothing(lab: FlowLab) -> None:
    assert "nothing changed" in lab.setup("--home-agent", "10.97.0.1")
    assert_answered(lab, "cn", HA4_HOA)


def test_both_families_have_their_tunnels_and_teardown_leaves_what_was_there(lab: FlowLab) -> None:
    lab.router("teardown", "--bridge", BRIDGE)
    before = lab.snapshot()
    lab.setup("--home-agent", "2001:db8:99::1", *SETUP)
    status = lab.status()
    assert (status["flow"]["problems"], status["flow_ipv4"]["problems"]) == ([], [])
    lab.router("teardown", "--bridge", BRIDGE)
    assert lab.snapshot() == before
    lab.setup(*SETUP)
    lab.offload4(lab.backend("flow_ipv4"))
    assert_answered(lab, "cn", HA4_HOA)


def test_a_strict_source_check_is_said_with_what_to_do_about_it(lab: FlowLab) -> None:
    """Only the operator may change that."""
    setting = f"net.ipv4.conf.{BRIDGE}.rp_filter"
    lab.run("rt", "sysctl", "-qw", f"{setting}=1")
    try:
        assert any(f"sysctl -w {setting}=2" in problem for problem in lab.status()["flow_ipv4"]["problems"])
    finally:
        lab.run("rt", "sysctl", "-qw", f"{setting}=0")


DROPS_OUTPUT = "add table ip t; add chain ip t o {{ type filter hook output priority 0; policy drop; }}"
# What is done to the backend; {inside}: its namespace, {link}: the link from there.
DAMAGE = (
    "ip link del hoaflow4s",
    "ip link del hoaflow4",
    "ip link set hoaflow4s down",
    # The same device, but made here, where home agents' addresses are no sources.
    "ip link del hoaflow4s; ip link del hoaflow4; ip link add hoaflow4s up type ipip external",
    "ip address del 192.0.0.8/32 dev hoaflow4",
    "tc filter del dev hoaflow4 ingress",
    "ip netns del {inside}",
    "ip link del {link}",
    "ip -4 -n {inside} route del local default dev lo table local",
    "ip -n {inside} rule add pref 0 lookup local",
    f"ip netns exec {{inside}} nft '{DROPS_OUTPUT}'",
    "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{link}.rp_filter=1",
)


def test_whatever_is_done_to_it_is_found_and_mended_and_packets_pass(lab: FlowLab) -> None:
    keeper = FlowKeeper(Ovsdb(f"unix:{lab.ovs.database}"))

    def keep() -> dict[str, object]:
        keeper.take(BRIDGE)
        keeper.keep(BRIDGE)
        return keeper.announcement()["flow_ipv4"]

    def differences() -> list[str]:
        (record,) = keeper.records
        return [found for _, found in compare(declaration(BRIDGE, record, keeper.ovsdb))]

    wrong = []
    assert "problem" not in in_namespace(lab.names["rt"], keep)
    (record,) = keeper.records
    for damage in DAMAGE:
        lab.run("rt", "sh", "-ec", damage.format(inside=record.namespace, link=record.kernel_port))
        if not in_namespace(lab.names["rt"], differences):
            wrong.append(f"{damage}: nothing found")
        if problem := in_namespace(lab.names["rt"], keep).get("problem"):
            wrong.append(f"{damage}: {problem}")
        wrong += [f"{damage}: {left}" for left in in_namespace(lab.names["rt"], differences)]
        assert_answered(lab, "cn", HA4_HOA)
    assert wrong == []
