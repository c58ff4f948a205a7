# SPDX-License-Identifier: Apache-2.0
"""What packets meet at the tunnel endpoint of a home agent with an IPv4 address."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.support.capture import capture
from tests.support.fake_controller import FakeController
from tests.support.frames import LEFT_TO_THE_HOME_AGENT
from tests.support.ipv4_lab import COA4, COA4_2, HA4, address4, bind4, mobile_node4, steer4
from tests.support.router_agent import AgentProcess, narrow
from tests.support.router_lab import (
    CN,
    CN4,
    HOA,
    HOA4,
    MNP4_HOST,
    OTHER_HOA,
    OTHER_HOA4,
    ROUTER,
    ROUTER4,
    RouterLab,
    sh,
    until,
)

WAYS = pytest.mark.parametrize(
    ("home_address", "correspondent"), [(HOA4, CN4), (HOA, CN), (MNP4_HOST, CN4)], ids=["IPv4", "IPv6", "IPv4 prefix"]
)
BOTH = pytest.mark.parametrize("home_address", [HOA4, HOA], ids=["IPv4", "IPv6"])


@pytest.fixture
def ipv4(lab: RouterLab) -> Iterator[RouterLab]:
    """Provide an endpoint for HA4 with flows to it, and a mobile node with a tunnel at COA4."""
    lab.setup(home_agent=HA4)
    address4(lab)
    steer4(lab)
    with mobile_node4(lab):
        yield lab


@pytest.fixture
def bound4(ipv4: RouterLab) -> RouterLab:
    """Provide that with bindings: HOA4, MNP4 and HOA at COA4."""
    bind4(ipv4)
    return ipv4


def counts(lab: RouterLab) -> tuple[int, int]:
    (endpoint,) = lab.status()["endpoints"]
    return endpoint["accepted"], endpoint["dropped"]


def reach_the_home_agent(lab: RouterLab, home_address: str) -> bool:
    """Tell whether packets for a home address arrive where its home agent is."""
    with capture(["ip", "netns", "exec", lab.names["ha"]], "h0", f"dst {home_address}") as seen:
        lab.ping("cn", home_address)
        return seen().count("echo request") == 3


@WAYS
def test_packets_go_direct_both_ways_without_the_home_agent(
    bound4: RouterLab, home_address: str, correspondent: str
) -> None:
    bound4.ip("ha", "link", "set", "h0", "down")
    mn = ["ip", "netns", "exec", bound4.names["mn"]]
    with capture(mn, "m0", f"src {HA4} and dst {COA4}") as seen:
        assert " 0% packet loss" in bound4.ping("cn", home_address)
        inside = rf"proto IP(IP|v6) \(4?4?1?\).*\s+{re.escape(HA4)} > {re.escape(COA4)}: "
        assert re.search(rf"ttl 63, id \d+, offset 0, flags \[DF\], {inside}", seen())
        assert re.search(rf"{re.escape(correspondent)} > {re.escape(home_address)}: ", seen())
    assert counts(bound4) == (3, 0)


@BOTH
def test_type_of_service_and_ecn_are_copied_to_the_outer_header(bound4: RouterLab, home_address: str) -> None:
    mn = ["ip", "netns", "exec", bound4.names["mn"]]
    with capture(mn, "m0", f"src {HA4}") as seen:
        for service in (0xB8, 0xBB, 0x01, 0x00):
            bound4.run("cn", "ping", "-n", "-c1", "-W1", "-Q", str(service), home_address)
        outer = re.findall(r"^\S+ IP \(tos (0x\w+).*proto IP", seen(), flags=re.MULTILINE)
        assert outer == ["0xb8", "0xbb", "0x1", "0x0"]


@pytest.mark.parametrize(
    ("inner", "arrives"),
    [
        (IP(src=HOA4, dst=CN4, tos=0x02), IP(src=HOA4, dst=CN4, tos=0x03)),
        (IP(src=HOA4, dst=CN4, tos=0xB9), IP(src=HOA4, dst=CN4, tos=0xBB)),
        (IPv6(src=HOA, dst=CN, tc=0x02), IPv6(src=HOA, dst=CN, tc=0x03)),
        (IP(src=HOA4, dst=CN4, tos=0x00), None),
        (IPv6(src=HOA, dst=CN, tc=0x00), None),
    ],
    ids=["IPv4", "IPv4, other bits kept", "IPv6", "IPv4 without ECN", "IPv6 without ECN"],
)
def test_a_congestion_mark_moves_to_the_packet_inside(bound4: RouterLab, inner: Packet, arrives: Packet | None) -> None:
    """RFC 6040 §4.2: what does not understand it is dropped."""
    frame = Ether(dst=bound4.mac("rt", "acc"), src=bound4.mac("mn", "m0"))
    marked = frame / IP(src=COA4, dst=HA4, tos=0x03) / inner / UDP(dport=5004) / b"through the tunnel, marked"
    after = frame / IP(src=COA4, dst=HA4) / inner / UDP(dport=5004) / b"through the tunnel, without a mark"
    with bound4.tap("cn", "c0") as tap:
        bound4.inject("mn", "m0", bytes(marked))
        bound4.inject("mn", "m0", bytes(after))
        (first,) = tap.await_frames(b"through the tunnel", count=1)
    assert first.endswith(b", without a mark") == (arrives is None)
    assert first[14:16] == bytes(arrives or inner)[:2]
    assert counts(bound4) == (2, 0)


@pytest.mark.parametrize(
    ("correspondent", "genuine", "spoofed"), [(CN4, HOA4, OTHER_HOA4), (CN, HOA, OTHER_HOA)], ids=["IPv4", "IPv6"]
)
def test_spoofed_inner_sources_are_dropped_and_counted(
    bound4: RouterLab, correspondent: str, genuine: str, spoofed: str
) -> None:
    cn = ["ip", "netns", "exec", bound4.names["cn"]]
    with capture(cn, "c0", f"src {spoofed}") as seen:
        assert "100% packet loss" in bound4.ping("mn", correspondent, "-I", spoofed)
        assert " 0% packet loss" in bound4.ping("mn", correspondent, "-I", genuine)
        assert seen() == ""
    assert counts(bound4) == (3, 3)


@pytest.mark.parametrize(
    ("home_address", "fits", "answer"),
    [
        (HOA4, 1480 - 28, f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1480)"),
        (HOA, 1480 - 48, f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1480"),
    ],
    ids=["IPv4", "IPv6"],
)
def test_a_packet_over_the_tunnels_mtu_is_answered_with_the_mtu(
    bound4: RouterLab, home_address: str, fits: int, answer: str
) -> None:
    assert " 0% packet loss" in bound4.ping("cn", home_address, "-M", "do", "-s", str(fits))
    assert answer in bound4.ping("cn", home_address, "-M", "do", "-s", str(fits + 1))


def test_an_ipv4_packet_that_may_be_fragmented_arrives_whole(bound4: RouterLab) -> None:
    mn = ["ip", "netns", "exec", bound4.names["mn"]]
    with capture(mn, "m0", f"src {HA4}") as seen:
        assert " 0% packet loss" in bound4.ping("cn", HOA4, "-M", "dont", "-s", "1460")
        assert re.search(r"offset 1\d+, flags \[none\], proto ICMP", seen())


def test_a_time_to_live_that_ends_at_the_router_is_answered(bound4: RouterLab) -> None:
    assert f"From {ROUTER4} icmp_seq=1 Time to live exceeded" in bound4.ping("cn", HOA4, "-t", "1")


def test_without_a_binding_packets_go_on_to_the_home_agent(ipv4: RouterLab) -> None:
    assert reach_the_home_agent(ipv4, HOA4)
    assert reach_the_home_agent(ipv4, HOA)


LEFT = {name: inner for name, inner in LEFT_TO_THE_HOME_AGENT.items() if "IPv4" in name or name == "multicast"}


@pytest.mark.parametrize("inner", LEFT.values(), ids=LEFT)
def test_what_is_the_home_agents_reaches_it_in_its_tunnel(bound4: RouterLab, inner: Packet) -> None:
    outer = IP(src=COA4, dst=HA4, ttl=64) / inner
    frame = Ether(dst=bound4.mac("rt", "acc"), src=bound4.mac("mn", "m0")) / outer
    with bound4.tap("ha", "h0") as tap:
        bound4.inject("mn", "m0", bytes(frame))
        (arrived,) = tap.await_frames(bytes(inner), count=1)
    header = IP(arrived[14:])
    assert (header.src, header.dst, bytes(header.payload)) == (COA4, HA4, bytes(inner))
    assert counts(bound4) == (0, 0)


def test_setup_twice_changes_nothing_and_teardown_leaves_nothing(lab: RouterLab) -> None:
    before = lab.snapshot()
    assert "tunnel program for 10.99.0.1 on tout" in lab.setup(home_agent=HA4)
    assert "nothing changed" in lab.setup(home_agent=HA4)
    doctor = sh(*lab.router_command("doctor", "--bridge", lab.bridge), check=False)
    assert re.search(rf"ok +endpoint for {HA4} +bpf; routes: 0, pairs: 0", doctor)
    assert "drops nothing that goes direct" in doctor
    lab.router("teardown", "--bridge", lab.bridge)
    assert lab.snapshot() == before


@pytest.mark.parametrize(("protocol", "name"), [(4, "ipencap"), (41, "ipv6")])
def test_a_packet_filter_that_drops_one_payload_is_noticed(lab: RouterLab, protocol: int, name: str) -> None:
    lab.setup(home_agent=HA4)
    rule = f"ip protocol {protocol} drop"
    rules = f"table ip fw {{\nchain forward {{\ntype filter hook forward priority 0\n{rule}\n}}\n}}\n"
    sh("ip", "netns", "exec", lab.names["rt"], "nft", "-f", "-", stdin=rules)
    doctor = sh(*lab.router_command("doctor", "--bridge", lab.bridge), check=False)
    dropped = rf"tunnel packets to care-of addresses \(IPv4 protocol {protocol}\)"
    assert re.search(rf"drops {dropped}: chain forward of table ip fw: rule ip protocol ({protocol}|{name})", doctor)


def test_setup_is_refused_where_the_routers_kernel_does_not_forward_ipv4(lab: RouterLab) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    with pytest.raises(RuntimeError, match=r"does not forward IPv4, .*sysctl -w net\.ipv4\.ip_forward=1"):
        lab.setup(home_agent=HA4)


def test_an_agent_carries_the_list_and_tells_correspondents_of_narrow_links(
    ipv4: RouterLab, controller: FakeController, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Killed, it leaves the tunnels; started again, it takes them over and acknowledges."""
    agent = AgentProcess(ipv4, [f"http://127.0.0.1:{controller.port}"], tmp_path_factory.mktemp("agent") / "log")
    agent.start()
    try:
        controller.know(HA4)
        for home_address in (HOA4, HOA):
            controller.bind(home_address, COA4, HA4)
        until(controller.up_to_date, "the bindings are applied")
        assert controller.last()["failed"] == []
        assert " 0% packet loss" in ipv4.ping("cn", HOA4)
        narrow(ipv4, 1400)
        told = ipv4.ping("cn", HOA4, "-M", "do", "-s", "1400")
        assert f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1380)" in told
        assert f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1380" in ipv4.ping("cn", HOA, "-M", "do", "-s", "1400")
        agent.end(9)
        for home_address in (HOA4, HOA):
            assert " 0% packet loss" in ipv4.ping("cn", home_address)
        controller.bind(HOA4, COA4_2, HA4)
        controller.unbind(HOA)
        agent.start()
        until(controller.up_to_date, "the list is applied")
        with capture(["ip", "netns", "exec", ipv4.names["mn"]], "m0", f"dst {COA4_2}") as seen:
            ipv4.ping("cn", HOA4)
            assert seen().count("echo request") == 3
        until(lambda: reach_the_home_agent(ipv4, HOA), "packets without a binding go to the home agent")
    finally:
        agent.end()
