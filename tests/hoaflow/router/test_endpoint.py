# SPDX-License-Identifier: Apache-2.0
"""What packets meet at a router's tunnel endpoint, which `hoaflow-router setup` has made."""

from __future__ import annotations

import re

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from hoaflow.router.endpoint import KERNEL_SIDE, TOUT
from hoaflow.tunnel.outer_header import set_outer_header
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.capture import capture
from tests.support.frames import LEFT_TO_THE_HOME_AGENT, WITHOUT_SOURCE
from tests.support.router_lab import (
    CN,
    CN4,
    COA,
    COA_2,
    HA,
    HOA,
    HOA4,
    MNP4_HOST,
    OTHER_HOA,
    OTHER_HOA4,
    ROUTER,
    ROUTER4,
    RouterLab,
    until,
)


def echo_requests(lab: RouterLab) -> int:
    """Return the IPv4 echo requests that have reached the mobile node whole."""
    names, values = re.findall(r"^Icmp: (.*)", lab.run("mn", "cat", "/proc/net/snmp"), flags=re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["InEchos"])


INNER_IPV6 = rf"IPv6 \(41\) payload length: 104\) {HA} > {COA}: IP6 \(.*hlim 63, next-header ICMPv6 \(58\) .*\) "
INNER_IPV4 = rf"IPIP \(4\) payload length: 84\) {HA} > {COA}: IP \(.* ttl 63, .* proto ICMP .*\)\s+"


@pytest.mark.parametrize(
    ("home_address", "correspondent", "inner"),
    [(HOA, CN, INNER_IPV6), (HOA4, CN4, INNER_IPV4), (MNP4_HOST, CN4, INNER_IPV4)],
    ids=["IPv6", "IPv4", "IPv4 prefix"],
)
def test_packets_for_a_home_address_reach_the_care_of_address_and_answers_come_back(
    bound: RouterLab, home_address: str, correspondent: str, inner: str
) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", f"ip6 src {HA} and dst {COA}") as seen:
        assert " 0% packet loss" in bound.ping("cn", home_address)
        # inner hop limit decremented by the router, outer one the tunnel's, no header between the two
        assert re.search(rf"hlim 63, next-header {inner}{correspondent} > {home_address}: ", seen())
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (3, 0)


@pytest.mark.parametrize("home_address", [HOA, HOA4])
def test_traffic_class_and_ecn_are_copied_to_the_outer_header(bound: RouterLab, home_address: str) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", f"ip6 src {HA}") as seen:
        for traffic_class in (0xB8, 0xBB, 0x01, 0x00):
            bound.run("cn", "ping", "-n", "-c1", "-W1", "-Q", str(traffic_class), home_address)
        headers = [line for line in seen().splitlines() if f"{HA} > {COA}" in line]
        outer = [re.search(r"^\S+ IP6 \((?:class (0x\w+), )?", line) for line in headers]
        assert [match and match[1] for match in outer] == ["0xb8", "0xbb", "0x01", None]


@pytest.mark.parametrize("home_address", [HOA, HOA4])
def test_a_care_of_address_that_is_a_home_address_gets_no_second_tunnel(bound: RouterLab, home_address: str) -> None:
    with Seg6Routes(bound.endpoint().namespace) as routes:
        routes.encapsulate(COA, COA_2, KERNEL_SIDE, TOUT)
    # On a busy machine the first one may wait too long for neighbours.
    until(lambda: " 0% packet loss" in bound.ping("cn", home_address), "it arrives at its care-of address")


@pytest.mark.parametrize(
    ("correspondent", "genuine", "spoofed"), [(CN, HOA, OTHER_HOA), (CN4, HOA4, OTHER_HOA4)], ids=["IPv6", "IPv4"]
)
def test_spoofed_inner_sources_are_dropped_and_counted(
    bound: RouterLab, correspondent: str, genuine: str, spoofed: str
) -> None:
    cn = ["ip", "netns", "exec", bound.names["cn"]]
    with capture(cn, "c0", f"src {spoofed}") as seen:
        assert "100% packet loss" in bound.ping("mn", correspondent, "-I", spoofed)
        assert " 0% packet loss" in bound.ping("mn", correspondent, "-I", genuine)
        assert seen() == ""
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (3, 3)


def test_what_jumbo_links_bring_is_answered_or_fragmented(bound: RouterLab) -> None:
    for number, node, interface in ((1, "cn", "c0"), (2, "rt", "lan")):
        bound.ovs.run("ip", "link", "set", f"s{number}", "mtu", "9000")
        bound.ip(node, "link", "set", interface, "mtu", "9000")
    for sent, size in enumerate(("1600", "8900"), start=1):
        assert "Packet too big: mtu=1460" in bound.ping("cn", HOA, "-M", "do", "-s", size)
        assert "Frag needed and DF set (mtu = 1460)" in bound.ping("cn", HOA4, "-M", "do", "-s", size)
        bound.ip("cn", "route", "flush", "cache")
        bound.ip("cn", "-6", "route", "flush", "cache")
        bound.ping("cn", HOA4, "-M", "dont", "-s", size)
        assert echo_requests(bound) == 3 * sent


def test_only_frames_for_the_router_come_to_the_tunnel(bound: RouterLab) -> None:
    """A frame for another router is seen by this one's bridge when a switch floods it."""
    echo = ICMPv6EchoRequest(data=b"frame for another router")
    for (node, interface), gateway, packet in (
        (("cn", "c0"), "lan", IPv6(src=CN, dst=HOA) / echo),
        (("mn", "m0"), "acc", IPv6(src=COA, dst=HA) / IPv6(src=HOA, dst=CN) / echo),
    ):
        with bound.tap("rt", gateway) as tap:
            bound.inject(node, interface, bytes(Ether(dst="02:00:00:00:00:99", src="02:00:00:00:00:c1") / packet))
            tap.await_frames(bytes(echo.data), count=1)


@pytest.mark.parametrize("limit", [1, 2], ids=["one tag read", "two tags read"])
@pytest.mark.parametrize("tags", [(), (10,), (0,), (20, 10)], ids=["untagged", "tagged", "priority-tagged", "QinQ"])
def test_frames_come_to_the_tunnel_without_their_tags(bound: RouterLab, tags: tuple[int, ...], limit: int) -> None:
    """Of frames with two tags Open vSwitch sees what they carry only if it is set to; else they are not taken."""
    bound.ovs.vsctl("set", "Open_vSwitch", ".", f"other_config:vlan-limit={limit}")
    echo = ICMPv6EchoRequest(data=b"frame with tags " * 4)
    correspondent, mobile = ("cn", "c0"), ("mn", "m0")
    for near_end, gateway, far_end, packet in (
        (correspondent, "lan", mobile, IPv6(src=CN, dst=HOA) / echo),
        (mobile, "acc", correspondent, IPv6(src=COA, dst=HA) / IPv6(src=HOA, dst=CN) / echo),
    ):
        frame = Ether(dst=bound.mac("rt", gateway), src="02:00:00:00:00:c1")
        for tag in tags:
            frame /= Dot1Q(vlan=tag)
        taken = len(tags) <= limit
        with bound.tap(*(far_end if taken else ("rt", gateway))) as tap:
            bound.inject(*near_end, bytes(frame / packet), count=5)
            tap.await_frames(bytes(echo.data), count=5)


@pytest.mark.parametrize(
    ("home_address", "fits", "answer"),
    [
        (HOA, 1460 - 40 - 8, f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1460"),
        (HOA4, 1460 - 20 - 8, f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1460)"),
    ],
    ids=["IPv6", "IPv4"],
)
def test_a_packet_over_the_tunnels_mtu_is_answered_with_the_mtu(
    bound: RouterLab, home_address: str, fits: int, answer: str
) -> None:
    whole = ("-M", "do", "-s", str(fits))
    until(lambda: " 0% packet loss" in bound.ping("cn", home_address, *whole), "what fits passes")
    assert answer in bound.ping("cn", home_address, "-M", "do", "-s", str(fits + 1))


def test_an_ipv4_packet_that_may_be_fragmented_arrives_in_pieces(bound: RouterLab) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", f"ip6 proto 4 and src {HA}") as seen:
        bound.ping("cn", HOA4, "-M", "dont", "-s", "1450")
        assert re.search(r"offset 1\d+, flags \[none\]", seen())
    assert echo_requests(bound) == 3


def test_the_router_itself_reaches_an_ipv4_home_address(bound: RouterLab) -> None:
    """Its address is the endpoint's, too: none of the packet's stations may take it for a martian."""
    bound.ip("rt", "route", "replace", "10.99.0.0/16", "via", CN4)
    assert " 0% packet loss" in bound.ping("mn", ROUTER4, "-I", HOA4)
    assert " 0% packet loss" in bound.ping("rt", HOA4)


def test_over_links_of_1280_what_does_not_fit_takes_the_home_agents_path(bound: RouterLab) -> None:
    bound.setup("--mtu", "1280")
    assert "nothing changed" in bound.setup("--mtu", "1280")
    bound.ip("rt", "link", "set", "acc", "mtu", "1280")
    ha = ["ip", "netns", "exec", bound.names["ha"]]
    for home_address, headers in ((HOA, 48), (HOA4, 28)):
        assert " 0% packet loss" in bound.ping("cn", home_address, "-M", "do", "-s", str(1240 - headers))
        for size in (1241, 1280):
            with capture(ha, "h0", f"dst {home_address}") as seen:
                bound.ping("cn", home_address, "-M", "do", "-s", str(size - headers))
                assert seen().count("echo request") == 3
    bound.setup("--mtu", "1500")
    assert "nothing changed" in bound.setup("--mtu", "1500")


@pytest.mark.parametrize(
    ("correspondent", "home_address", "answer"),
    [
        (CN, HOA, f"From {ROUTER} icmp_seq=1 Time exceeded: Hop limit"),
        (CN4, HOA4, f"From {ROUTER4} icmp_seq=1 Time to live exceeded"),
    ],
    ids=["IPv6", "IPv4"],
)
def test_a_hop_limit_that_ends_at_the_router_is_answered_time_exceeded(
    bound: RouterLab, correspondent: str, home_address: str, answer: str
) -> None:
    set_outer_header(bound.names["mn"], COA)  # as a mobile node's tunnel has a hop limit of its own
    assert answer in bound.ping("cn", home_address, "-t", "1")
    assert answer in bound.ping("mn", correspondent, "-I", home_address, "-t", "1")


def test_without_a_binding_packets_go_on_to_the_home_agent(bound: RouterLab) -> None:
    with Seg6Routes(bound.endpoint().namespace) as routes:
        routes.remove(HOA)
    ha = ["ip", "netns", "exec", bound.names["ha"]]
    with capture(ha, "h0", f"dst {HOA}") as seen:
        bound.ping("cn", HOA)
        assert seen().count("echo request") == 3


def test_flooding_does_not_reach_the_endpoint(lab: RouterLab) -> None:
    lab.setup()
    number = lab.status()["endpoints"][0]["ofport"]
    lab.ovs.ofctl("add-flow", lab.bridge, "priority=500,actions=NORMAL")
    flooded = lab.ovs.trace(lab.bridge, "in_port=1,dl_src=02:00:00:00:00:99,dl_dst=ff:ff:ff:ff:ff:ff")
    datapath_numbers = dict(re.findall(r"^ +\S+ (\d+)/(\d+):", lab.ovs.appctl("dpif/show"), flags=re.MULTILINE))
    outputs = flooded.rpartition("Datapath actions: ")[2].strip().split(",")
    assert datapath_numbers["2"] in outputs
    assert datapath_numbers[str(number)] not in outputs


LEFT = LEFT_TO_THE_HOME_AGENT | WITHOUT_SOURCE


@pytest.mark.parametrize("inner", LEFT.values(), ids=LEFT)
def test_what_is_the_home_agents_reaches_it_in_its_tunnel(bound: RouterLab, inner: Packet) -> None:
    """As if the router had not been there: with its outer header, and whatever its source is."""
    outer = IPv6(src=COA, dst=HA, hlim=64) / inner
    frame = Ether(dst=bound.mac("rt", "acc"), src=bound.mac("mn", "m0")) / outer
    with bound.tap("ha", "h0") as tap:
        bound.inject("mn", "m0", bytes(frame))
        (arrived,) = tap.await_frames(bytes(inner), count=1)
    header = IPv6(arrived[14:])
    assert (header.src, header.dst, header.nh, bytes(header.payload)) == (COA, HA, outer.nh, bytes(inner))
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (0, 0)


def test_other_packets_behind_an_extension_header_go_direct(bound: RouterLab) -> None:
    inner = IPv6(src=HOA, dst=CN, hlim=64) / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(20))])
    inner /= UDP(dport=5004) / b"a datagram with options"
    frame = Ether(dst=bound.mac("rt", "acc"), src=bound.mac("mn", "m0")) / IPv6(src=COA, dst=HA, hlim=64) / inner
    with bound.tap("cn", "c0") as tap:
        bound.inject("mn", "m0", bytes(frame))
        tap.await_frames(b"a datagram with options", count=1)
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (1, 0)
