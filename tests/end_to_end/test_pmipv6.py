# SPDX-License-Identifier: Apache-2.0
"""Proxy Mobile IPv6 with packets, under a real controller and agent: what the LMA would forward is lost.

Two MAGs have the addresses of their mobile nodes themselves. The LMA eats what it is sent, so what arrives went direct.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from hoaflow.tunnel.local_decapsulation import decapsulate_local
from hoaflow.tunnel.seg6 import Seg6Routes
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.frames import ends_of
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_agent import AgentProcess
from tests.support.router_lab import CN, COA, HA, MN_TABLE, MN_UPLINK_RULE, RouterLab
from tests.support.waiting import wait_for

LMA, POOL = HA, "2001:db8:99::/64"
MAG_1, MAG_2 = COA, "2001:db8:3::2"
HNP_1, HNP_2, HNP_3 = (f"2001:db8:99:0:{number}::/80" for number in (1, 2, 3))
NODES = {MAG_1: "mn", MAG_2: "mag2"}  # of the lab, by Proxy-CoA
ANSWERED, LOST = " 0% packet loss", " 100% packet loss"


def mobile_node(prefix: str) -> str:
    """Return the address of the mobile node that has a home network prefix."""
    return prefix.replace("/80", "a")


class ProxyLab(RouterLab):
    """The router's lab with a second MAG: `mn` is the first."""

    def __init__(self, ovs: Ovs, controller: Controller) -> None:
        super().__init__(ovs)
        self.names["mag2"] = f"{ovs.netns}-mag2"
        self.controller = controller
        self.time = 0

    def _start(self) -> None:
        super()._start()
        self._port(6, "mag2", "g0")
        self._port(7, "rt", "acc2")
        for node, interface, address in (
            ("mag2", "g0", f"{MAG_2}/64"),
            ("mag2", "g0", "fe80::8/64"),
            ("rt", "acc2", "2001:db8:3::1/64"),
            ("rt", "acc2", "fe80::9/64"),
        ):
            self.ip(node, "-6", "address", "add", address, "dev", interface, "nodad")
        self.ip("mag2", "-6", "route", "add", "default", "via", "2001:db8:3::1")
        for number in (6, 7):
            request = ["set", "interface", f"s{number}", f"ofport_request={number}"]
            self.ovs.vsctl("add-port", self.bridge, f"s{number}", "--", *request)
        for entry, exit_ in ((6, 7), (7, 6)):
            self.ovs.ofctl("add-flow", self.bridge, f"priority=1,in_port={entry},actions={exit_}")
        decapsulate_local(self.names["mag2"], MAG_2, "g0", lookup_table=255)
        with Seg6Routes(self.names["mag2"]) as routes:
            routes.set_source(MAG_2)
            routes.encapsulate("::/0", LMA, via="2001:db8:3::1", dev="g0", table=MN_TABLE)
        self.ovs.vsctl("set-controller", self.bridge, f"tcp:127.0.0.1:{OPENFLOW_PORT}")

    def attach(self, prefix: str, proxy_coa: str) -> None:
        """Attach the mobile node of a prefix to a MAG."""
        self._change("add", prefix, proxy_coa)

    def detach(self, prefix: str, proxy_coa: str) -> None:
        """Detach it."""
        self._change("del", prefix, proxy_coa)

    def _change(self, verb: str, prefix: str, proxy_coa: str) -> None:
        node = NODES[proxy_coa]
        self.ip(node, "-6", "address", verb, f"{mobile_node(prefix)}/128", "dev", "lo")
        rule = f"from {prefix} lookup {MN_TABLE} pref {MN_UPLINK_RULE}"
        self.ip(node, "-6", "rule", verb, *rule.split())

    def registration(self, prefix: str, proxy_coa: str, lifetime: int = 60) -> dict[str, Any]:
        """Return the next registration of a prefix, as an LMA's bridge reports it."""
        self.time += 65536
        return {
            "protocol": "pmipv6",
            "home_address": prefix,
            "care_of_address": proxy_coa,
            "home_agent": LMA,
            "lifetime": lifetime,
            "timestamp": self.time,
        }

    def register(self, prefix: str, proxy_coa: str, lifetime: int = 60) -> int:
        """Report a registration; return the status of the answer."""
        return self.controller.call("POST", "/v1/bindings", self.registration(prefix, proxy_coa, lifetime)).status

    def is_active(self, prefix: str, proxy_coa: str) -> bool:
        """Tell whether the packets for a prefix go to a MAG."""
        (found,) = self.controller.get(f"/v1/bindings?home_address={prefix}")["bindings"]
        return (found["state"], found["care_of_address"]) == ("active", proxy_coa)

    def reaches(self, prefix: str) -> str:
        """Ping the mobile node of a prefix from the correspondent node; return what ping says."""
        return self.ping("cn", mobile_node(prefix))

    def first_to_arrive(self, *packets: tuple[str, str]) -> str:
        """Let MAGs send a packet each, from a source address; return the source of the first that the CN sees."""
        with self.tap("cn", "c0") as tap:
            for proxy_coa, source in packets:
                send = (
                    f"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('{source}', 0));"
                    f"s.sendto(b'sent from {source}', ('{CN}', 9))"
                )
                self.run(NODES[proxy_coa], "python3", "-c", send)
            (frame,) = tap.await_frames(b"sent from ", 1)
        return frame.rpartition(b"sent from ")[2].decode()

    def ends_of_a_packet_to(self, address: str, node: str, interface: str) -> list[tuple[str, str]]:
        """Send a packet from the CN; return source and destination of all its IPv6 headers as they come to a node."""
        send = f"import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'counted', ('{address}', 9))"
        with self.tap(node, interface) as tap:
            self.run("cn", "python3", "-c", send)
            (frame,) = tap.await_frames(b"counted", 1)
        return ends_of(frame)

    def ends_of_a_forged_packet_to(self, address: str, node: str, interface: str) -> list[tuple[str, str]]:
        """Do so with a packet that pretends to be a tunnel packet of the LMA's."""
        forged = IPv6(src=LMA, dst=address) / IPv6(src=CN, dst=address) / UDP(dport=9) / b"forged"
        frame = Ether(src=self.mac("cn", "c0"), dst=self.mac("rt", "lan")) / forged
        with self.tap(node, interface) as tap:
            self.inject("cn", "c0", bytes(frame))
            (arrived,) = tap.await_frames(b"forged", 1)
        return ends_of(arrived)


@pytest.fixture
def lab(ovs: Ovs, tmp_path: Path) -> Iterator[ProxyLab]:
    """Provide the lab with two mobile nodes at the first MAG, whose traffic goes direct."""
    with Controller(ovs, tmp_path) as controller, ProxyLab(ovs, controller) as lab:
        lab.setup()
        agent = AgentProcess(lab, [controller.url], tmp_path / "agent.log")
        agent.start()
        try:
            announcement = {"home_prefixes": [POOL], "lease": 60, "protocols": ["mipv6", "pmipv6"]}
            controller.put(f"/v1/home-agents/{LMA}", announcement)
            for prefix in (HNP_1, HNP_2):
                lab.attach(prefix, MAG_1)
            registered = [lab.registration(prefix, MAG_1) for prefix in (HNP_1, HNP_2)]
            controller.put(f"/v1/home-agents/{LMA}/bindings", {"bindings": registered})
            wait_for("both are active", lambda: lab.is_active(HNP_1, MAG_1) and lab.is_active(HNP_2, MAG_1))
            yield lab
        finally:
            agent.end()
        assert errors_in(agent.log()) == []
        controller.assert_log_clean()


def test_a_mobile_node_moves_between_gateways_and_the_lma_forwards_nothing(lab: ProxyLab) -> None:
    assert ANSWERED in lab.reaches(HNP_1)
    assert ANSWERED in lab.reaches(HNP_2)
    lab.detach(HNP_1, MAG_1)
    lab.attach(HNP_1, MAG_2)
    assert lab.register(HNP_1, MAG_2) == 200
    wait_for("the handover is active", lambda: lab.is_active(HNP_1, MAG_2))
    assert ANSWERED in lab.reaches(HNP_1)
    assert ANSWERED in lab.reaches(HNP_2)

    # Neither the former gateway nor another may send for a prefix that it does not serve.
    lab.attach(HNP_1, MAG_1)
    lab.attach(HNP_3, MAG_1)
    spoofed = [(MAG_1, mobile_node(prefix)) for prefix in (HNP_1, HNP_3)]
    honest = mobile_node(HNP_2)
    assert lab.first_to_arrive(*spoofed, (MAG_1, honest)) == honest
    lab.detach(HNP_1, MAG_1)

    # Mobile IPv6 over Proxy Mobile IPv6 (RFC 6612, scenario A.1): a care-of address within a home network prefix.
    home, care_of_address = mobile_node(HNP_3), mobile_node(HNP_2)
    # What the router sends on towards the LMA passes by the switch again, which it does not in this lab.
    lab.ip("rt", "-6", "route", "add", HNP_2, "via", MAG_1)
    away = {"home_address": home, "care_of_address": care_of_address, "home_agent": LMA, "lifetime": 60, "sequence": 1}
    assert lab.controller.call("POST", "/v1/bindings?wait=active", away).status == 201
    assert lab.ends_of_a_packet_to(home, "mn", "m0") == [(LMA, MAG_1), (LMA, care_of_address), (CN, home)]
    # What pretends to be in a tunnel of the LMA's does not go round.
    forged = lab.ends_of_a_forged_packet_to(care_of_address, "mn", "m0")
    assert forged == [(LMA, MAG_1), (LMA, care_of_address), (CN, care_of_address)]
    # Two headers leave 80 octets less to the correspondent, who is told so though the LMA tells nobody.
    assert "Packet too big: mtu=1420" in lab.ping("cn", home, "-M", "do", "-s", "1400")
    # Scenario A.2: one address by both protocols. At home again, it takes the gateway's path.
    assert lab.register(f"{home}/128", MAG_2) == 201
    assert lab.ends_of_a_packet_to(home, "mn", "m0")[1] == (LMA, care_of_address)
    assert lab.controller.call("POST", "/v1/bindings", {**away, "lifetime": 0, "sequence": 2}).status == 200
    wait_for("the gateway has it", lambda: lab.is_active(home, MAG_2))
    assert lab.ends_of_a_packet_to(home, "mag2", "g0") == [(LMA, MAG_2), (CN, home)]
    # The prefix's own packets were nobody else's meanwhile.
    assert ANSWERED in lab.reaches(HNP_2)

    # A former gateway's late deregistration changes nothing; the end of all of the serving one's does.
    assert lab.register(HNP_1, MAG_1, lifetime=0) == 409
    assert ANSWERED in lab.reaches(HNP_1)
    ended = lab.controller.call("POST", f"/v1/home-agents/{LMA}/bindings", {"care_of_address": MAG_2, "lifetime": 0})
    assert ended.body["removed"] == 2
    wait_for("it is back at the LMA, which eats it", lambda: LOST in lab.reaches(HNP_1))
    assert ANSWERED in lab.reaches(HNP_2)
