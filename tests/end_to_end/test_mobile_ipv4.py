# SPDX-License-Identifier: Apache-2.0
"""IPv4 outside, beside IPv6, with packets, under a real controller and agent: what a home agent would forward is lost.

The mobile node has a tunnel to each home agent's address, which eats what it is sent, so what arrives went direct.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.ipv4_lab import COA4, COA4_2, HA4, address4, mobile_node4
from tests.support.logs import errors_in
from tests.support.ovs import Ovs
from tests.support.router_agent import AgentProcess, narrow
from tests.support.router_lab import CN, CN4, COA, HA, HOA, HOA4, OTHER_HOA, OTHER_HOA4, ROUTER, ROUTER4, RouterLab
from tests.support.waiting import wait_for

ANSWERED, LOST = " 0% packet loss", " 100% packet loss"
IP_IN_IP = 4
NTP = 0xE8F0_0000_8000_0000  # an identification: seconds since 1900, and parts of a second


class Mip4Lab(RouterLab):
    """The router's lab under a controller, with the mobile node's home agent at HA4."""

    def __init__(self, ovs: Ovs, controller: Controller) -> None:
        super().__init__(ovs)
        self.controller = controller
        self.identification = NTP

    def _start(self) -> None:
        super()._start()
        address4(self)
        for home_agent in (HA4, HA):
            self.setup(home_agent=home_agent)
        self.ovs.vsctl("set-controller", self.bridge, f"tcp:127.0.0.1:{OPENFLOW_PORT}")

    def registration(self, home_address: str, care_of_address: str, **more: Any) -> dict[str, Any]:
        """Return the next registration of a home address, with a reverse tunnel."""
        self.identification += 1
        return {
            "protocol": "mipv4",
            "home_address": home_address,
            "care_of_address": care_of_address,
            "home_agent": HA4,
            "lifetime": 65535,
            "identification": self.identification,
            "reverse_tunnel": True,
            **more,
        }

    def register(self, home_address: str, care_of_address: str, **more: Any) -> int:
        """Report a registration and wait until it is active; return the status of the answer."""
        body = self.registration(home_address, care_of_address, **more)
        return self.controller.call("POST", "/v1/bindings?wait=active", body).status

    def goes_both_ways(self, home_address: str, correspondent: str) -> bool:
        """Tell whether pings of the correspondent node and of the mobile node are answered."""
        pings = self.ping("cn", home_address), self.ping("mn", correspondent, "-I", home_address)
        return all(ANSWERED in each for each in pings)

    def ends_of(self, packet: IP) -> list[tuple[str, str]]:
        """Send a packet from the CN; return source and destination of all its headers as they come to the MN."""
        frame = Ether(dst=self.mac("rt", "lan"), src=self.mac("cn", "c0")) / packet / Raw(b"counted")
        with self.tap("mn", "m0") as tap:
            self.inject("cn", "c0", bytes(frame))
            (arrived,) = tap.await_frames(b"counted", 1)
        header, found = IP(arrived[14:]), []
        while isinstance(header, IP):
            found.append((header.src, header.dst))
            header = header.payload if header.proto == IP_IN_IP else None
        return found


@pytest.fixture
def lab(ovs: Ovs, tmp_path: Path) -> Iterator[Mip4Lab]:
    """Provide the lab with a home agent that has no bindings yet, and an agent that serves it."""
    with Controller(ovs, tmp_path) as controller, Mip4Lab(ovs, controller) as lab:
        agent = AgentProcess(lab, [controller.url], tmp_path / "agent.log")
        agent.start()
        try:
            prefixes = ["10.99.0.0/24", "2001:db8:99::/64"]
            announcement = {"home_prefixes": prefixes, "lease": 60, "protocols": ["mipv4", "mipv6"], "group": "home"}
            for home_agent in (HA4, HA):
                controller.put(f"/v1/home-agents/{home_agent}", announcement)
                controller.put(f"/v1/home-agents/{home_agent}/bindings", {"bindings": []})
            yield lab
        finally:
            agent.end()
        assert errors_in(agent.log()) == []
        controller.assert_log_clean()


def test_a_mobile_node_moves_between_links_and_the_home_agent_forwards_nothing(lab: Mip4Lab) -> None:
    dual_stack = {"home_address": HOA, "care_of_address": COA4, "home_agent": HA4, "lifetime": 60, "sequence": 1}
    wait_for("the router is ready", lambda: lab.register(HOA4, COA4) == 200)
    assert lab.controller.call("POST", "/v1/bindings?wait=active", dual_stack).status == 201
    with mobile_node4(lab):
        assert lab.goes_both_ways(HOA4, CN4)
        assert lab.goes_both_ways(HOA, CN)
        # The mobile node can't send for whom it has no binding.
        assert LOST in lab.ping("mn", CN4, "-I", OTHER_HOA4)

    late = lab.registration(HOA4, COA4)
    assert lab.register(HOA4, COA4_2) == 200
    with mobile_node4(lab, COA4_2):
        assert lab.goes_both_ways(HOA4, CN4)
        assert lab.controller.call("POST", "/v1/bindings", late).status == 409
        assert lab.goes_both_ways(HOA4, CN4)
    (found,) = lab.controller.get(f"/v1/bindings?home_address={HOA4}")["bindings"]
    assert (found["state"], found["care_of_address"], found["expires_in"]) == ("active", COA4_2, None)

    # A forged tunnel packet from the home agent's address, and a care-of address that is a home address itself: one
    # header more at each, and no round without end. What the router sends on to home addresses passes by the switch.
    to_care_of_address = [(HA4, COA4_2)]
    inside = (CN4, HOA4)
    forged = IP(src=HA4, dst=HOA4) / IP(src=CN4, dst=HOA4, proto=253)
    assert lab.ends_of(forged) == [*to_care_of_address, (HA4, HOA4), inside]
    lab.ip("rt", "route", "add", HOA4, "via", COA4_2)
    assert lab.ends_of(forged) == [*to_care_of_address, (HA4, HOA4), inside]
    assert lab.register(OTHER_HOA4, HOA4) == 201
    nested = IP(src=CN4, dst=OTHER_HOA4, proto=253)
    assert lab.ends_of(nested) == [*to_care_of_address, (HA4, HOA4), (CN4, OTHER_HOA4)]

    lab.ip("rt", "route", "del", HOA4)
    assert lab.register(HOA4, COA4_2, lifetime=0) == 200
    wait_for("it is back at the home agent, which eats it", lambda: LOST in lab.ping("cn", HOA4))


# Home address, tunnel's ends, correspondent; and the error by which a sender learns of a link of 1400 octets.
COMBINATIONS = {
    "4 in 4": (HOA4, COA4, HA4, CN4, f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1380)"),
    "6 in 4": (HOA, COA4, HA4, CN, f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1380"),
    "4 in 6": (OTHER_HOA4, COA, HA, CN4, f"From {ROUTER4} icmp_seq=1 Frag needed and DF set (mtu = 1360)"),
    "6 in 6": (OTHER_HOA, COA, HA, CN, f"From {ROUTER} icmp_seq=1 Packet too big: mtu=1360"),
}


def packet(source: str, destination: str, payload: Packet) -> Packet:
    """Return a packet of the family of its addresses; what is no packet has a protocol number for experiments."""
    header = IPv6 if ":" in source else IP
    fields = {} if isinstance(payload, IP | IPv6) else {"nh" if header is IPv6 else "proto": 253}
    return header(src=source, dst=destination, **fields) / payload


def test_all_four_combinations_go_direct_and_none_takes_anothers_packets(lab: Mip4Lab) -> None:
    wait_for("the router is ready", lambda: lab.register(HOA4, COA4) == 200)
    for home_address, care_of_address, home_agent, _, _ in COMBINATIONS.values():
        if home_address != HOA4:
            binding = {"home_address": home_address, "care_of_address": care_of_address, "home_agent": home_agent}
            body = {**binding, "lifetime": 60, "sequence": 1}
            assert lab.controller.call("POST", "/v1/bindings?wait=active", body).status == 201
    with mobile_node4(lab, homes=(HOA, HOA4)):
        for home_address, _, _, correspondent, _ in COMBINATIONS.values():
            assert lab.goes_both_ways(home_address, correspondent)

        # To the mobile node: the outer addresses are home agent and care-of address, and nothing is in between.
        for home_address, care_of_address, home_agent, correspondent, _ in COMBINATIONS.values():
            sent = packet(correspondent, home_address, Raw(b"counted"))
            with lab.tap("mn", "m0") as tap:
                lab.inject("cn", "c0", bytes(Ether(dst=lab.mac("rt", "lan"), src=lab.mac("cn", "c0")) / sent))
                (arrived,) = tap.await_frames(b"counted", 1)
            outer = Ether(arrived).payload
            assert (outer.src, outer.dst) == (home_agent, care_of_address)
            assert (outer.payload.src, outer.payload.dst) == (correspondent, home_address)

        # From it: each home address in its own tunnel alone. The right ones follow, and are all that arrive.
        homes = [(home_address, correspondent) for home_address, _, _, correspondent, _ in COMBINATIONS.values()]
        tunnels = {(care_of, home_agent) for _, care_of, home_agent, _, _ in COMBINATIONS.values()}
        own = {home_address: (care_of, home_agent) for home_address, care_of, home_agent, _, _ in COMBINATIONS.values()}
        to_router = Ether(dst=lab.mac("rt", "acc"), src=lab.mac("mn", "m0"))
        with lab.tap("cn", "c0") as tap:
            for right in (False, True):
                for home_address, correspondent in homes:
                    for tunnel in sorted(tunnels):
                        if (own[home_address] == tunnel) == right:
                            inner = packet(home_address, correspondent, Raw(b"sent right" if right else b"sent wrong"))
                            lab.inject("mn", "m0", bytes(to_router / packet(*tunnel, inner)))
            frames = tap.await_frames(b"sent ", len(homes))
        assert {Ether(each).payload.src: b"sent right" in each for each in frames} == dict.fromkeys(own, True)

        narrow(lab, 1400)
        for home_address, _, _, _, told in COMBINATIONS.values():
            assert told in lab.ping("cn", home_address, "-M", "do", "-s", "1400")
