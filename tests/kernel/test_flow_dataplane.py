# SPDX-License-Identifier: Apache-2.0
"""What packets meet in the `flow` backend: direct both ways, spoofing, MTU, hop limit, traffic class, transfers.

The flows are the controller's, put by hand. The tunnels' other ends are the kernel's own ip6tnl devices (see
tests.kernel.lab).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.kernel.lab import (
    BRIDGE,
    CN,
    COA,
    COA_2,
    HA,
    HA_HOP,
    HA_HOP4,
    HOA,
    OTHER_HOA,
    ROUTER,
    STRANGER,
    FlowLab,
)
from tests.support.capture import capture
from tests.support.checkout import CHECKOUT
from tests.support.frames import LEFT_TO_THE_HOME_AGENT, Tap, packet_socket
from tests.support.router_lab import CN4, HOA4, until

TUNNEL = "(ip6 proto 41 or ip6 proto 4)"
SPOOF = [sys.executable, str(CHECKOUT / "topologies" / "spoof.py")]
MEGABYTES = 100
ECT_0, CE = 0x02, 0x03
# Sender, receiver, and the addresses at these.
WAYS = [("cn", "mn", CN, HOA), ("mn", "cn", HOA, CN)]
WAYS4 = [("cn", "mn", CN4, HOA4), ("mn", "cn", HOA4, CN4)]


@pytest.fixture(scope="module")
def ready(lab: FlowLab) -> Iterator[FlowLab]:
    """With the backend set up."""
    lab.setup()
    yield lab
    lab.router("teardown", "--bridge", BRIDGE)
    lab.home()


@pytest.fixture(autouse=True)
def offloaded(ready: FlowLab, lab: FlowLab) -> None:
    """HOA is offloaded to COA."""
    lab.offload()


@pytest.fixture
def unlearned(lab: FlowLab) -> Iterator[None]:
    """Forget what nodes have learnt of their paths' MTUs, which would help the next test."""
    yield
    for node in ("cn", "mn", "ha"):
        for family in ("-6", "-4"):
            lab.ip(node, family, "route", "flush", "cache")


@pytest.mark.parametrize(
    ("correspondent", "home_address", "down", "up"),
    [
        (
            *(CN, HOA),
            # Inner hop limit decremented by the router, no header between the two.
            r"next-header IPv6 \(41\) payload length: 104\) {outer}: IP6 \(.*hlim 63, .* {inner}: .*ICMP6, echo",
            r"{outer}: IP6 \(.* {inner}: .*ICMP6, echo",
        ),
        (
            *(CN4, HOA4),
            r"next-header IPIP \(4\) .*\) {outer}: IP \(.*ttl 63, .*\n? *{inner}: ICMP echo",
            r"{outer}: IP \(.*\n? *{inner}: ICMP echo",
        ),
    ],
    ids=["IPv6", "IPv4"],
)
def test_both_ways_are_direct_with_the_home_agents_address_as_outer_source(
    lab: FlowLab, correspondent: str, home_address: str, down: str, up: str
) -> None:
    with capture(lab.enter("ha"), "e0", TUNNEL) as at_home_agent, capture(lab.enter("mn"), "e0", TUNNEL) as at_node:
        assert " 0% packet loss" in lab.ping("cn", home_address)
        assert " 0% packet loss" in lab.ping("mn", correspondent, "-I", home_address)
        seen = at_node()
        assert at_home_agent() == ""
    assert re.search(down.format(outer=f"{HA} > {COA}", inner=f"{correspondent} > {home_address}"), seen), seen
    assert re.search(up.format(outer=f"{COA} > {HA}", inner=f"{home_address} > {correspondent}"), seen), seen


def test_without_flows_everything_takes_the_home_agent(lab: FlowLab) -> None:
    lab.home()
    with capture(lab.enter("ha"), "e0", f"{TUNNEL} and src {HA}") as at_home_agent:
        assert " 0% packet loss" in lab.ping("cn", HOA)
        assert at_home_agent().count("echo request") == 3


def test_a_handover_in_place_loses_nothing_and_the_old_address_gets_nothing(lab: FlowLab) -> None:
    lab.ip("mn", "-6", "address", "add", f"{COA_2}/64", "dev", "e0", "nodad")
    try:
        lab.ip("mn", "link", "set", "t6", "type", "ip6tnl", "local", COA_2, "remote", HA, "encaplimit", "none")
        lab.offload(COA_2)
        with capture(lab.enter("mn"), "e0", f"{TUNNEL} and dst {COA}") as to_old_address:
            assert " 0% packet loss" in lab.ping("cn", HOA)
            assert to_old_address() == ""
    finally:
        lab.ip("mn", "link", "set", "t6", "type", "ip6tnl", "local", COA, "remote", HA, "encaplimit", "none")
        lab.ip("mn", "-6", "address", "del", f"{COA_2}/64", "dev", "e0")


@pytest.mark.parametrize("inner", LEFT_TO_THE_HOME_AGENT.values(), ids=LEFT_TO_THE_HOME_AGENT)
def test_what_is_the_home_agents_reaches_it_in_its_tunnel(lab: FlowLab, inner: Packet) -> None:
    """As if the router had not been there: from the care-of address to the home agent, nothing within changed."""
    outer = IPv6(src=COA, dst=HA, hlim=64) / inner
    frame = Ether(dst=lab.mac(BRIDGE), src="02:00:00:00:00:c4") / outer
    with packet_socket(lab.names["ha"], "e0") as at_home_agent, packet_socket(lab.names["mn"], "e0") as at_node:
        at_node.send(bytes(frame))
        (arrived,) = Tap(at_home_agent).await_frames(bytes(inner), count=1)
    header = IPv6(arrived[14:])
    assert (header.src, header.dst, header.nh, bytes(header.payload)) == (COA, HA, outer.nh, bytes(inner))


def test_a_wrong_inner_source_is_dropped_and_counted(lab: FlowLab) -> None:
    dropped = lab.unverified()
    with capture(lab.enter("cn"), "e0", f"src {OTHER_HOA}") as seen:
        assert "100% packet loss" in lab.ping("mn", CN, "-I", OTHER_HOA)
        assert " 0% packet loss" in lab.ping("mn", CN, "-I", HOA)
        assert seen() == ""
    assert lab.unverified() == dropped + 3


def test_a_wrong_outer_source_is_dropped_also_at_the_decapsulation_address_itself(lab: FlowLab) -> None:
    flow = lab.facts()
    lab.ip("mn", "-6", "address", "add", f"{STRANGER}/64", "dev", "e0", "nodad")
    lab.ip("mn", "-6", "route", "add", flow["decapsulation_address"], "via", "2001:db8:2::1")
    dropped = lab.unverified()
    try:
        with capture(lab.enter("cn"), "e0", f"udp and src {HOA}") as seen:
            for target in (HA, flow["decapsulation_address"]):
                lab.run(
                    "mn", *SPOOF, *f"send --outer {STRANGER} {target} --inner {HOA} {CN} --label x --count 3".split()
                )
            assert " 0% packet loss" in lab.ping("mn", CN, "-I", HOA)
            assert seen() == ""
        assert lab.unverified() == dropped + 3
    finally:
        lab.ip("mn", "-6", "route", "del", flow["decapsulation_address"])
        lab.ip("mn", "-6", "address", "del", f"{STRANGER}/64", "dev", "e0")


@pytest.mark.usefixtures("unlearned")
def test_a_packet_over_the_tunnels_mtu_is_answered_by_the_router(lab: FlowLab) -> None:
    fits = 1460 - 40 - 8
    assert " 0% packet loss" in lab.ping("cn", HOA, "-M", "do", "-s", str(fits))
    answer = lab.ping("cn", HOA, "-M", "do", "-s", str(fits + 1))
    assert re.search(rf"From {ROUTER} icmp_seq=1 Packet too big: mtu=1460", answer), answer


@pytest.mark.usefixtures("unlearned")
def test_a_narrow_link_of_the_routers_own_is_told_to_the_correspondent(lab: FlowLab) -> None:
    lab.ip("rt", "-6", "route", "add", f"{COA}/128", "dev", BRIDGE, "mtu", "1400")
    try:
        answer = lab.ping("cn", HOA, "-M", "do", "-s", "1400")
        assert re.search(rf"From {ROUTER} icmp_seq=1 Packet too big: mtu=1360", answer), answer
        assert " 0% packet loss" in lab.ping("cn", HOA, "-M", "do", "-s", str(1360 - 48))
    finally:
        lab.ip("rt", "-6", "route", "del", f"{COA}/128", "dev", BRIDGE)


@pytest.mark.usefixtures("unlearned")
def test_an_error_for_a_tunnel_packet_that_the_router_made_is_told_by_the_home_agents_kernel(lab: FlowLab) -> None:
    """Its tunnel device is as UMIP makes it. A router behind ours cannot be told from the mobile node's host here."""
    error = (
        "import socket, struct, sys\n"
        "a = lambda text: socket.inet_pton(socket.AF_INET6, text)\n"
        "home_agent, care_of, home, correspondent = sys.argv[1:]\n"
        # An echo request: Linux learns from an error about it without a socket that takes it.
        "inner = struct.pack('!IHBB', 6 << 28, 1400, 58, 63) + a(correspondent) + a(home) + bytes([128]) + bytes(900)\n"
        "outer = struct.pack('!IHBB', 6 << 28, 1440, 41, 63) + a(home_agent) + a(care_of)\n"
        "icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n"
        "icmp.sendto(struct.pack('!BBHI', 2, 0, 0, 1400) + outer + inner, (home_agent, 0))\n"
    )
    lab.run("mn", sys.executable, "-c", error, HA, COA, HOA, CN)
    until(lambda: "mtu 1360" in lab.ip("cn", "-6", "route", "get", HOA), "the correspondent learns the path's MTU")


def test_answers_are_not_invalid_to_the_routers_firewall(lab: FlowLab) -> None:
    rules = (
        "table inet fw { chain forward { type filter hook forward priority 0; policy accept; "
        "ct state established,related accept; ct state invalid drop; }; }"
    )
    lab.run("rt", "nft", rules)
    try:
        assert " 0% packet loss" in lab.ping("cn", HOA)
        assert " 0% packet loss" in lab.ping("cn", HOA4)
        lab.stream("cn", "mn", CN, HOA, 100_000)
        lab.stream("cn", "mn", CN4, HOA4, 100_000)
    finally:
        lab.run("rt", "nft", "delete", "table", "inet", "fw")


def test_what_goes_into_a_tunnel_never_meets_the_routers_firewall(lab: FlowLab) -> None:
    """Nor does what comes out of one, before OpenFlow has verified it: no probe is needed for these."""
    hooks = ("prerouting", "input", "forward", "output", "postrouting")
    rules = [f"ip6 saddr {CN} ip6 daddr {HOA} drop; ip6 saddr {OTHER_HOA} counter" for _ in hooks]
    chains = (
        f"chain {hook} {{ type filter hook {hook} priority 0; {rule}; }};"
        for hook, rule in zip(hooks, rules, strict=True)
    )
    lab.run("rt", "nft", f"table ip6 fw {{ {' '.join(chains)} }}")
    try:
        assert " 0% packet loss" in lab.ping("cn", HOA)
        lab.ping("mn", CN, "-I", OTHER_HOA)
        assert lab.run("rt", "nft", "list", "table", "ip6", "fw").count("counter packets 0") == len(hooks)
        lab.home()
        assert "100% packet loss" in lab.ping("cn", HOA), "by the home agent they meet it"
    finally:
        lab.run("rt", "nft", "delete", "table", "ip6", "fw")


@pytest.mark.usefixtures("unlearned")
def test_an_ipv4_packet_over_the_tunnels_mtu_is_answered_by_the_home_agent(lab: FlowLab) -> None:
    fits = 1460 - 20 - 8
    with capture(lab.enter("ha"), "e0", TUNNEL) as at_home_agent:
        assert " 0% packet loss" in lab.ping("cn", HOA4, "-M", "do", "-s", str(fits))
        assert at_home_agent() == ""
    answer = lab.ping("cn", HOA4, "-M", "do", "-s", str(fits + 1))
    assert re.search(rf"From {HA_HOP4} icmp_seq=1 Frag needed and DF set \(mtu = 1460\)", answer), answer


@pytest.mark.usefixtures("unlearned")
def test_an_ipv4_packet_over_the_tunnels_mtu_that_may_be_fragmented_arrives(lab: FlowLab) -> None:
    assert " 0% packet loss" in lab.ping("cn", HOA4, "-M", "dont", "-s", str(1500 - 20 - 8))


def test_traceroute_shows_the_path(lab: FlowLab) -> None:
    # Hop limits that end at a router take the home agent's path, so Time Exceeded comes back from each hop of it.
    for hop_limit, hop in ((1, ROUTER), (2, HA_HOP)):
        answer = lab.ping("cn", HOA, "-t", str(hop_limit))
        assert re.search(rf"From {hop} icmp_seq=1 Time exceeded: Hop limit", answer), answer
    assert " 0% packet loss" in lab.ping("cn", HOA, "-t", "3")


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        (0xB8, 0xB8),  # expedited forwarding, not ECN capable
        (0xB8 | ECT_0, 0xB8 | ECT_0),
        (0x01, 0x01),  # ECT(1)
        # Both Open vSwitch and Linux mark the outer header of what is congested already ECT(0), as RFC 3168 has it;
        # the mark itself is in the inner one and stays there.
        (CE, ECT_0),
    ],
)
def test_traffic_class_and_ecn_are_copied_to_the_outer_header(lab: FlowLab, inner: int, outer: int) -> None:
    with capture(lab.enter("mn"), "e0", f"{TUNNEL} and src {HA}") as seen:
        assert " 0% packet loss" in lab.ping("cn", HOA, "-Q", f"{inner:#x}")
        for line in re.findall(r"IP6 \(.*echo request", seen()):
            classes = [int(value, 16) for value in re.findall(r"class 0x([0-9a-f]+)", line)]
            assert classes == [outer, inner], line


def test_congestion_met_before_the_tunnel_reaches_the_receiver(lab: FlowLab) -> None:
    with capture(lab.enter("mn"), "t6", f"icmp6 and dst {HOA}") as seen:
        lab.ping("cn", HOA, "-Q", f"{CE:#x}")
        assert re.search(rf"class 0x0?3,.*{CN} > {HOA}: .*ICMP6, echo request", seen()), seen()


def test_congestion_met_in_the_tunnel_reaches_the_receiver(lab: FlowLab) -> None:
    flow = lab.facts()
    lab.add_flow(
        f"priority=220,ipv6,ipv6_src={COA},ipv6_dst={HA},nw_proto=41,actions=mod_nw_ecn:3,"
        f"set_field:{flow['decapsulation_address']}->ipv6_dst,set_field:{flow['mac']}->eth_dst,LOCAL"
    )
    with capture(lab.enter("cn"), "e0", f"icmp6 and src {HOA}") as seen:
        lab.ping("mn", CN, "-I", HOA, "-Q", f"{ECT_0:#x}")
        assert re.search(rf"class 0x0?3,.*{HOA} > {CN}: .*ICMP6, echo request", seen()), seen()


@pytest.mark.usefixtures("unlearned")
@pytest.mark.parametrize(("sender", "receiver", "source", "target"), WAYS + WAYS4)
def test_a_datagram_that_needs_fragments_arrives(
    lab: FlowLab, sender: str, receiver: str, source: str, target: str
) -> None:
    lab.datagram(sender, receiver, source, target, 4000)


@pytest.mark.usefixtures("unlearned")
@pytest.mark.parametrize(("sender", "receiver", "source", "target"), WAYS + WAYS4)
def test_a_tcp_transfer_with_offloads_on_completes_and_the_home_agent_sees_nothing(
    lab: FlowLab, sender: str, receiver: str, source: str, target: str
) -> None:
    assert "tcp-segmentation-offload: on" in lab.run("cn", "ethtool", "-k", "e0")
    with capture(lab.enter("ha"), "e0", TUNNEL) as at_home_agent:
        lab.stream(sender, receiver, source, target, MEGABYTES << 20)
        assert at_home_agent() == ""


@pytest.mark.usefixtures("unlearned")
@pytest.mark.parametrize(("sender", "receiver", "source", "target"), WAYS + WAYS4)
def test_segments_that_are_too_large_for_the_tunnel_arrive(
    lab: FlowLab, sender: str, receiver: str, source: str, target: str
) -> None:
    # Told of no tunnel, both ends agree on segments that fit into 1500 octets.
    lab.ip("mn", "link", "set", "t6", "mtu", "1500")
    try:
        lab.stream(sender, receiver, source, target, 10 << 20)
    finally:
        lab.ip("mn", "link", "set", "t6", "mtu", "1460")
