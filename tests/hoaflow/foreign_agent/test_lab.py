# SPDX-License-Identifier: Apache-2.0
"""Foreign agent, home agent and mobile nodes in network namespaces: real signalling, real tunnels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet

from tests.support.foreign_agent import (
    ACCESS_FA,
    CARE_OF_FA,
    METRICS,
    OTHER_HOME_ADDRESS4,
    ForeignAgentLab,
    key_files4,
)
from tests.support.mobile_ipv4 import CN4, HOME_ADDRESS4, HOME_AGENT4, HOST4
from tests.support.scrape import Scrape
from tests.support.waiting import wait_for

# Sends whole IPv4 packets, given in hexadecimal, by a link to a MAC address.
SEND_FRAMES = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
for packet in sys.argv[3:]:
    s.sendto(bytes.fromhex(packet), (sys.argv[1], 0x0800, 0, 0, bytes.fromhex(sys.argv[2])))
"""


@pytest.fixture
def lab() -> Iterator[ForeignAgentLab]:
    with ForeignAgentLab() as built:
        yield built


def kernel_state(lab: ForeignAgentLab) -> str:
    """Return everything that a foreign agent could leave in the kernel."""
    commands = ("ip rule", "ip -4 route show table all", "ip -4 neigh show nud permanent", "nft list ruleset")
    return "".join(lab.run("fa", command) for command in (*commands, "ls /sys/class/net"))


def metrics(lab: ForeignAgentLab) -> Scrape:
    """Return what the foreign agent has counted; it must be ready."""
    assert lab.get("fa", f"http://{METRICS}/readyz") == "ok\n"
    return Scrape(lab.get("fa", f"http://{METRICS}/metrics"))


def inject(lab: ForeignAgentLab, name: str, interface: str, *packets: Packet) -> None:
    """Have a node send packets to the foreign agent's MAC address, whoever they say that they are from."""
    mac = lab.run("fa", f"cat /sys/class/net/{'u1' if name == 'rt' else 'acc'}/address").strip().replace(":", "")
    lab.python(name, SEND_FRAMES, interface, mac, *(bytes(packet).hex() for packet in packets))


def test_visitors_are_carried_both_ways_and_nobody_sends_in_their_name(lab: ForeignAgentLab, tmp_path: Path) -> None:
    before, keys = kernel_state(lab), key_files4(tmp_path)
    home_agent, agent = lab.home_agent("--keys", keys), lab.foreign_agent()
    node = lab.visitor("mn", HOME_ADDRESS4, "m3", "--keys", keys)
    node.event("agent-found", agent=ACCESS_FA, care_of_address=CARE_OF_FA)
    without = lab.visitor("mn2", OTHER_HOME_ADDRESS4, "n3", "--keys", keys, "--no-reverse-tunnel")
    for home_address, tunnel in ((HOME_ADDRESS4, "both ways"), (OTHER_HOME_ADDRESS4, "from the home agent")):
        assert lab.ping("cn", home_address) == 3
        shown = lab.console("fancy no", "visitors", name="fa").decode().split("hoa ")
        assert [tunnel in each for each in shown if each.startswith(f"{home_address} ha {HOME_AGENT4}")] == [True]
    # With the tunnel's MTU, both ways; the echo of what fits fits.
    for size, answered in ((1480 - 28, 3), (1480 - 27, 0)):
        assert lab.ping("mn", CN4, source=HOME_ADDRESS4, size=size) == answered
    without.stop()
    lab.visitor("mn2", OTHER_HOME_ADDRESS4, "n3", "--keys", keys)
    assert lab.ping("mn", OTHER_HOME_ADDRESS4, source=HOME_ADDRESS4) == 3  # by their home agent
    assert metrics(lab)("hoaflow_fa_visitors") == 2

    # A neighbour in the visitor's name, and in that of nobody; a tunnel of its own.
    earlier = metrics(lab)
    tunnel = IP(src=HOME_AGENT4, dst=CARE_OF_FA) / IP(src=CN4, dst=HOME_ADDRESS4) / UDP(dport=9)
    reply = IP(src=HOME_AGENT4, dst=CARE_OF_FA) / UDP(sport=434, dport=40000)
    forged = [IP(src=each, dst=CN4) / UDP(dport=9) for each in (HOME_ADDRESS4, "10.77.0.1")]
    inject(lab, "mn2", "n3", *forged, reply, tunnel)
    # Tunnel packets from another one than the home agent, and for no visitor.
    for outer, inner in ((CN4, HOME_ADDRESS4), (HOME_AGENT4, HOST4)):
        inject(lab, "rt", "r3", IP(src=outer, dst=CARE_OF_FA) / IP(src=CN4, dst=inner) / UDP(dport=9))
    for name, more in (("spoofed", 3), ("foreign_tunnel", 3)):
        metric = f"hoaflow_fa_{name}_packets_total"
        wait_for(f"{name} packets are dropped", lambda: metrics(lab)(metric) == earlier(metric) + more)  # noqa: B023

    # What somebody else changes is mended.
    taken = {
        f"ip neigh del {HOME_ADDRESS4} dev acc": "1 neighbours missing",
        f"ip route del {HOME_ADDRESS4} table 252": "1 routes of table 252 missing",
        "ip route flush table 200": "1 routes of table 200 missing",
        "ip rule del pref 6": "rule 6 to table 252 is missing",
        "nft flush set ip hoaflow_fa tunnels": "2 pairs of home agent and home address missing",
        "tc qdisc del dev hoaflow-in clsact": "the tunnel program on hoaflow-in is missing",
    }
    for command, said in taken.items():
        since = len(agent.log.lines)
        lab.run("fa", command)
        agent.logged("event=mended", said, since=since)
    assert lab.ping("cn", HOME_ADDRESS4) == 3
    assert lab.ping("mn", CN4, source=HOME_ADDRESS4) == 3

    # Killed and started again: the new sequence of advertisements has both register again, and nothing was left.
    agent.stop(kill=True)
    since, fixed = len(node.out.lines), "10.5.0.77 dev acc lladdr 02:00:00:00:00:77"
    lab.run("fa", f"ip neigh replace {fixed} nud permanent")
    agent = lab.foreign_agent()
    node.event("registered", since)
    assert lab.ping("cn", HOME_ADDRESS4) == 3
    assert fixed in lab.run("fa", "ip -4 neigh show nud permanent")  # it is the administrator's
    lab.run("fa", "ip neigh del 10.5.0.77 dev acc")

    # Nobody listens at the home agent: the network says so, and the visitor learns it.
    assert home_agent.stop() == 0
    node.stop()
    refused = lab.start_visitor("mn", HOME_ADDRESS4, "m3", "--keys", keys)
    refused.event("refused", code=82)
    assert agent.stop() == 0
    assert kernel_state(lab) == before
