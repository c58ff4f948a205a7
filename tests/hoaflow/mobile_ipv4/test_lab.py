# SPDX-License-Identifier: Apache-2.0
"""Home agent and mobile node of Mobile IPv4 in network namespaces: real signalling, real tunnels."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP

from tests.support.mobile_ipv4 import (
    CARE_OF4_1,
    CARE_OF4_2,
    CN4,
    HOME_ADDRESS4,
    HOME_AGENT4,
    HOST4,
    Ipv4Lab,
    key_file4,
)
from tests.support.mobility import Node
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for

# Sends a datagram of octets in hexadecimal to the home agent, and prints the reply's code.
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.bind((sys.argv[1], 0))
s.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[2], 434))
print(s.recv(2000)[1])
"""
SEND_RAW = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.sendto(bytes.fromhex(sys.argv[1]), (sys.argv[2], 0))
"""


METRICS = "127.0.0.1:9109"


@pytest.fixture
def lab() -> Iterator[Ipv4Lab]:
    with Ipv4Lab() as built:
        yield built


def kernel_state(lab: Ipv4Lab) -> str:
    """Return everything that a home agent could leave in the kernel."""
    commands = ("ip rule", "ip -4 route show table all", "ip neigh show proxy", "nft list ruleset", "ls /sys/class/net")
    settings = "sysctl net.ipv4.conf.all.forwarding net.ipv4.conf.hl.rp_filter net.ipv4.conf.hl.forwarding"
    return "".join(lab.run("ha", command) for command in (*commands, settings))


def visits(lab: Ipv4Lab, node: Node, link: str) -> None:
    """Move the mobile node to a link and wait for its registration there."""
    since = len(node.out.lines)
    for each in ("m0", "m1", "m2"):
        lab.link(each, "up" if each == link else "down")
    node.event("moved", since, link=link)
    node.event("deregistered" if link == "m0" else "registered", since)


def dropped(lab: Ipv4Lab) -> int:
    words = lab.run("ha", "nft list counter ip hoaflow dropped").split()
    return int(words[words.index("packets") + 1])


def metrics(lab: Ipv4Lab) -> Scrape:
    """Return what the home agent has counted; it must be ready."""
    assert lab.get("ha", f"http://{METRICS}/readyz") == "ok\n"
    return Scrape(lab.get("ha", f"http://{METRICS}/metrics"))


def test_roaming(lab: Ipv4Lab, tmp_path: Path) -> None:
    before = kernel_state(lab)
    keys = key_file4(tmp_path, 'algorithm = "hmac-sha256"')
    home_agent = lab.home_agent("--keys", keys, "--metrics", METRICS)
    node = lab.mobile_node("--keys", keys)
    agents = lab.run("ha", "cat /sys/class/net/hl/address").strip()

    visits(lab, node, "m1")
    # By gratuitous ARP, and by proxy ARP for who has not heard it.
    wait_for("the home link knows", lambda: lab.ping("hh", HOME_ADDRESS4) == 3)
    assert f"lladdr {agents} " in lab.run("hh", f"ip neigh show {HOME_ADDRESS4}")
    for size, answered in ((1480 - 28, 3), (1480 - 27, 0)):
        assert lab.ping("cn", HOME_ADDRESS4, size=size) == answered
    assert lab.ping("mn", HOME_AGENT4) == 3
    assert "From 10.10.0.2 icmp_seq=1 Time to live exceeded" in lab.run(
        "cn", f"ping -n -c1 -W9 -t2 {HOME_ADDRESS4}", check=False
    )

    visits(lab, node, "m2")
    earlier = metrics(lab)
    assert lab.ping("cn", HOME_ADDRESS4) == 3
    now = metrics(lab)
    assert now("hoaflow_ha_bindings") == 1
    assert now("hoaflow_ha_binding_acknowledgements_total", status="0") >= 2
    for direction in ("uplink", "downlink"):
        # An echo of 56 octets, its ICMP header, and an IPv4 header inside and one outside.
        for kind, each in (("packets", 1), ("bytes", 56 + 8 + 20 + 20)):
            name = f"hoaflow_ha_tunnel_{kind}_total"
            assert now(name, direction=direction) - earlier(name, direction=direction) == 3 * each, (name, direction)
    assert f"coa {CARE_OF4_2} flags --D--T\n".encode() in lab.console("fancy no", "bc")
    home_agent.logged("event=binding-moved", f"care_of_address={CARE_OF4_2}")

    # What is not the mobile node's own is dropped: a home address in another's tunnel, and another's in its own.
    before_forged = dropped(lab)
    for outer, inner in ((CARE_OF4_1, HOME_ADDRESS4), (CARE_OF4_2, HOST4)):
        packet = IP(src=outer, dst=HOME_AGENT4) / IP(src=inner, dst=CN4) / UDP(dport=9)
        lab.python("rt", SEND_RAW, bytes(packet).hex(), HOME_AGENT4)
    wait_for("both are dropped", lambda: dropped(lab) == before_forged + 2)
    assert metrics(lab)("hoaflow_ha_spoofed_packets_total") == before_forged + 2

    # A forged registration, and a request that was recorded.
    request = bytes.fromhex("01220e10") + b"".join(map(_packed, (HOME_ADDRESS4, HOME_AGENT4, CN4))) + bytes(8)
    assert lab.python("cn", ASK, CN4, HOME_AGENT4, (request + b"\x20\x14" + bytes(20)).hex()) == "131\n"
    assert lab.ping("cn", HOME_ADDRESS4) == 3

    visits(lab, node, "m0")
    wait_for("the mobile node is found at home", lambda: lab.ping("hh", HOME_ADDRESS4) == 3)
    assert lab.ping("cn", HOME_ADDRESS4) == 3
    assert home_agent.stop() == 0
    assert kernel_state(lab) == before


def test_what_others_change_is_mended_and_a_mobile_node_without_reverse_tunnel_is_not_decapsulated(
    lab: Ipv4Lab, tmp_path: Path
) -> None:
    home_agent = lab.home_agent("--keys", keys := key_file4(tmp_path))
    node = lab.mobile_node("--keys", keys, "--no-reverse-tunnel")
    visits(lab, node, "m1")
    assert lab.ping("cn", HOME_ADDRESS4) == 0
    assert dropped(lab) == 3  # the answers: they came in a tunnel that was not registered
    node.stop()
    node = lab.mobile_node("--keys", keys)
    node.event("registered")
    assert lab.ping("cn", HOME_ADDRESS4) == 3
    for damage in (
        f"ip route del {HOME_ADDRESS4}",
        "ip link del hoaflow-out",
        "ip rule flush",
        "nft delete table ip hoaflow",
        "tc qdisc del dev hoaflow-in clsact",
        f"ip neigh del proxy {HOME_ADDRESS4} dev hl",
    ):
        since = len(home_agent.log.lines)
        lab.run("ha", damage)
        home_agent.logged("event=mended", since=since)
        wait_for(f"packets pass again after {damage}", lambda: lab.ping("cn", HOME_ADDRESS4) == 3)

    # Until its home link is mended, the next router gets nothing back.
    home_agent.process.send_signal(signal.SIGSTOP)
    lab.run("ha", "ip link set hl down")
    assert "Destination Host Unreachable" in lab.run("cn", f"ping -n -c 1 -W 3 {HOST4}", check=False)


def _packed(address: str) -> bytes:
    return bytes(map(int, address.split(".")))
