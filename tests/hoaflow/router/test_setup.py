# SPDX-License-Identifier: Apache-2.0
"""`hoaflow-router setup`, `status` and `teardown` on a real Open vSwitch, and what packets meet there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6, IPv6ExtHdrDestOpt, PadN
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from hoaflow.router.cli import main
from hoaflow.router.endpoint import KERNEL_SIDE, TOUT, Endpoint
from hoaflow.tunnel.outer_header import set_outer_header
from hoaflow.tunnel.pairs import PairFilter
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.frames import LEFT_TO_THE_HOME_AGENT
from tests.support.ovs import Ovs
from tests.support.router_lab import (
    CHECKOUT,
    CN,
    CN4,
    COA,
    COA_2,
    HA,
    HA_2,
    HOA,
    HOA4,
    MNP4,
    MNP4_HOST,
    OTHER_HOA,
    OTHER_HOA4,
    ROUTER,
    ROUTER4,
    RouterLab,
    capture,
    sh,
)


@pytest.fixture
def lab(ovs: Ovs) -> Iterator[RouterLab]:
    with RouterLab(ovs) as running:
        yield running


@pytest.fixture
def bound(lab: RouterLab) -> RouterLab:
    """Provide an endpoint with flows to it and three bindings: HOA, HOA4 and MNP4 at COA."""
    lab.setup()
    lab.steer()
    with Seg6Routes(lab.endpoint().namespace) as routes:
        assert routes.encapsulate_all(dict.fromkeys((HOA, HOA4, MNP4), COA), KERNEL_SIDE, TOUT) == {}
    PairFilter(lab.endpoint().namespace, HA).add((COA, home) for home in (HOA, HOA4, MNP4))
    return lab


def echo_requests(lab: RouterLab) -> int:
    """Return the IPv4 echo requests that have reached the mobile node whole."""
    names, values = re.findall(r"^Icmp: (.*)", lab.run("mn", "cat", "/proc/net/snmp"), flags=re.MULTILINE)
    return int(dict(zip(names.split(), values.split(), strict=True))["InEchos"])


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


def test_packets_for_a_home_address_reach_the_care_of_address_and_answers_come_back(bound: RouterLab) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", "ip6 proto 41 and inbound") as seen:
        assert " 0% packet loss" in bound.ping("cn", HOA)
        # inner hop limit decremented by the router, outer one the tunnel's, no header between the two
        assert re.search(
            rf"hlim 63, next-header IPv6 \(41\) payload length: 104\) {HA} > {COA}: "
            rf"IP6 \(.*hlim 63, next-header ICMPv6 \(58\) .*\) {CN} > {HOA}: ",
            seen(),
        )
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


@pytest.mark.parametrize("home_address", [HOA4, MNP4_HOST])
def test_ipv4_packets_take_the_ipv6_tunnel_both_ways(bound: RouterLab, home_address: str) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", "ip6 proto 4 and inbound") as seen:
        assert " 0% packet loss" in bound.ping("cn", home_address)
        assert re.search(
            rf"hlim 63, next-header IPIP \(4\) payload length: 84\) {HA} > {COA}: "
            rf"IP \(.* ttl 63, .* proto ICMP .*\)\s+{CN4} > {home_address}: ICMP echo request",
            seen(),
        )
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (3, 0)


@pytest.mark.parametrize("home_address", [HOA, HOA4])
def test_a_care_of_address_that_is_a_home_address_gets_no_second_tunnel(bound: RouterLab, home_address: str) -> None:
    with Seg6Routes(bound.endpoint().namespace) as routes:
        routes.encapsulate(COA, COA_2, KERNEL_SIDE, TOUT)
    assert " 0% packet loss" in bound.ping("cn", home_address)


def test_spoofed_ipv4_inner_sources_are_dropped_and_counted(bound: RouterLab) -> None:
    cn = ["ip", "netns", "exec", bound.names["cn"]]
    with capture(cn, "c0", f"src {OTHER_HOA4}") as seen:
        assert "100% packet loss" in bound.ping("mn", CN4, "-I", OTHER_HOA4)
        assert " 0% packet loss" in bound.ping("mn", CN4, "-I", HOA4)
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


def test_an_ipv4_packet_over_the_tunnels_mtu_is_answered_fragmentation_needed(bound: RouterLab) -> None:
    fits = 1460 - 20 - 8
    assert " 0% packet loss" in bound.ping("cn", HOA4, "-M", "do", "-s", str(fits))
    answer = bound.ping("cn", HOA4, "-M", "do", "-s", str(fits + 1))
    assert f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1460)" in answer


def test_an_ipv4_packet_that_may_be_fragmented_arrives_in_pieces(bound: RouterLab) -> None:
    mn = ["ip", "netns", "exec", bound.names["mn"]]
    with capture(mn, "m0", f"ip6 proto 4 and inbound and src {HA}") as seen:
        bound.ping("cn", HOA4, "-M", "dont", "-s", "1450")
        assert re.search(r"offset 1\d+, flags \[none\]", seen())
    assert echo_requests(bound) == 3


def test_a_ttl_that_ends_at_the_router_is_answered_time_exceeded(bound: RouterLab) -> None:
    assert f"From {ROUTER4} icmp_seq=1 Time to live exceeded" in bound.ping("cn", HOA4, "-t", "1")
    assert f"From {ROUTER4} icmp_seq=1 Time to live exceeded" in bound.ping("mn", CN4, "-I", HOA4, "-t", "1")


def test_the_router_itself_reaches_an_ipv4_home_address(bound: RouterLab) -> None:
    """Its address is the endpoint's, too: none of the packet's stations may take it for a martian."""
    bound.ip("rt", "route", "replace", "10.99.0.0/16", "via", CN4)
    assert " 0% packet loss" in bound.ping("mn", ROUTER4, "-I", HOA4)
    assert " 0% packet loss" in bound.ping("rt", HOA4)


def test_without_ipv4_forwarding_setup_prepares_ipv6_only(lab: RouterLab) -> None:
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=0")
    lab.setup()
    assert lab.status()["endpoints"][0]["carries_ipv4"] is False
    lab.run("rt", "sysctl", "-qw", "net.ipv4.conf.all.forwarding=1")
    assert "net.ipv4.conf.all.forwarding = 1" in lab.setup()
    assert lab.status()["endpoints"][0]["carries_ipv4"] is True
    assert "nothing changed" in lab.setup()


def test_spoofed_inner_sources_are_dropped_and_counted(bound: RouterLab) -> None:
    cn = ["ip", "netns", "exec", bound.names["cn"]]
    with capture(cn, "c0", f"src {OTHER_HOA}") as seen:
        assert "100% packet loss" in bound.ping("mn", CN, "-I", OTHER_HOA)
        assert " 0% packet loss" in bound.ping("mn", CN, "-I", HOA)
        assert seen() == ""
    (endpoint,) = bound.status()["endpoints"]
    assert (endpoint["accepted"], endpoint["dropped"]) == (3, 3)


def test_a_packet_over_the_tunnels_mtu_is_answered_packet_too_big(bound: RouterLab) -> None:
    fits = 1460 - 40 - 8
    assert " 0% packet loss" in bound.ping("cn", HOA, "-M", "do", "-s", str(fits))
    answer = bound.ping("cn", HOA, "-M", "do", "-s", str(fits + 1))
    assert f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1460" in answer


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


def test_a_hop_limit_that_ends_at_the_router_is_answered_time_exceeded(bound: RouterLab) -> None:
    set_outer_header(bound.names["mn"], COA)  # as a mobile node's tunnel has a hop limit of its own
    assert f"From {ROUTER} icmp_seq=1 Time exceeded: Hop limit" in bound.ping("cn", HOA, "-t", "1")
    assert f"From {ROUTER} icmp_seq=1 Time exceeded: Hop limit" in bound.ping("mn", CN, "-I", HOA, "-t", "1")


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
    PairFilter(endpoint.namespace).teardown()
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
    assert "From 2001:db8:7::8 icmp_seq=1 Packet too big" in lab.ping("cn", HOA, *too_long)
    lab.ip("rt", "address", "add", "10.7.0.7/32", "dev", "lo")
    assert "ICMPv4 errors from 10.7.0.7" in lab.setup("--icmp-source", "10.7.0.7")
    assert "From 10.7.0.7 icmp_seq=1 Frag needed" in lab.ping("cn", HOA4, *too_long)
    with pytest.raises(RuntimeError, match="one IPv6 and one IPv4 address at most"):
        lab.setup("--icmp-source", "10.7.0.7", "--icmp-source", "10.7.0.8")


@pytest.mark.parametrize("inner", LEFT_TO_THE_HOME_AGENT.values(), ids=LEFT_TO_THE_HOME_AGENT)
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
