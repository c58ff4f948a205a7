# SPDX-License-Identifier: Apache-2.0
"""Home agent and mobile node among attackers: forged, replayed and spoofed packets."""

from pathlib import Path

import pytest

from tests.support.mobility import CARE_OF_1, CARE_OF_2, CN, HOME_ADDRESS, HOME_AGENT, Lab
from tests.support.roaming import away_from_home, comes_home, key_file, reachable, registers


def received(lab: Lab) -> int:
    """Reverse-tunnelled packets that the home agent dropped."""
    listing = lab.run("ha", "nft list counter ip6 hoaflow dropped")
    return int(listing.partition("packets ")[2].split()[0])


def test_a_home_address_that_somebody_has_is_refused(lab: Lab) -> None:
    lab.home_agent("--insecure")
    lab.run("hh", f"ip address add {HOME_ADDRESS}/64 dev e0 nodad")
    node = lab.mobile_node("--insecure")
    lab.link("m1", "up")
    assert node.event("refused")["status"] == 134
    assert lab.run("ha", "ip -6 neigh show proxy") == ""


def test_what_is_not_authenticated_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    home_agent = lab.home_agent("--keys", key_file(tmp_path))
    stranger = lab.mobile_node("--keys", key_file(tmp_path, "ff" * 16, "wrong.toml"))
    lab.link("m1", "up")
    # Its key is not the home agent's, so the answer (146) is not authentic for it either.
    assert stranger.event("acknowledgement-ignored")["status"] == 146
    assert lab.console("bc") == b"mip6d> mip6d> \0"
    stranger.stop()
    lab.link("m1", "down")
    nobody = lab.mobile_node("--insecure")
    lab.link("m1", "up")
    nobody.event("binding-update-sent")
    home_agent.logged("reason=discarded", "no authentication option")
    assert lab.console("bc") == b"mip6d> mip6d> \0"


REPLAY = """
import socket, sys
packet = bytes.fromhex(sys.argv[1])
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    raw.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
"""


RECORD = """
import socket
from hoaflow.mobility.packet_io import ETH_P_IPV6
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IPV6)) as tap:
    tap.settimeout(20)
    print("ready", flush=True)
    while True:
        packet = tap.recv(2000)
        if packet[6] == 60:
            print(packet.hex(), flush=True)
            break
"""


def test_a_recorded_update_cannot_be_replayed(lab: Lab, tmp_path: Path) -> None:
    keys, journal = key_file(tmp_path), str(tmp_path / "journal")
    home_agent = lab.home_agent("--keys", keys, "--journal", journal)
    node = lab.mobile_node("--keys", keys)
    recorder = lab.script("rt", RECORD)
    recorder.out.wait(lambda line: line == "ready")
    registers(lab, node, "m1", CARE_OF_1)
    recorded = recorder.out.wait(lambda line: line != "ready")

    comes_home(lab, node)
    since = len(home_agent.log.lines)
    lab.python("rt", REPLAY, recorded)
    home_agent.logged("event=binding-ack-sent", "status=135", since=since)
    assert lab.console("bc") == b"mip6d> mip6d> \0"
    reachable(lab)

    home_agent.stop(kill=True)
    restarted = lab.home_agent("--keys", keys, "--journal", journal)
    lab.python("rt", REPLAY, recorded)
    restarted.logged("event=binding-ack-sent", "status=135")
    assert lab.console("bc") == b"mip6d> mip6d> \0"


def test_a_mobile_node_that_forgot_its_sequence_number_is_told(lab: Lab, tmp_path: Path) -> None:
    keys = key_file(tmp_path)
    home_agent = lab.home_agent("--keys", keys)
    for _ in range(40):  # one in two starts from an older number
        node = lab.mobile_node("--keys", keys)
        registers(lab, node, "m1", CARE_OF_1)
        node.stop(kill=True)
        if any("sequence-corrected" in line for line in node.out.lines):
            break
    else:
        pytest.fail("40 random numbers in a row were each newer than the one before (1 in 2**39)")
    home_agent.logged("event=binding-ack-sent", "status=135")


def test_spoofed_reverse_tunnelling_is_dropped(lab: Lab) -> None:
    away_from_home(lab)
    spoof = (
        "import socket, sys\n"
        "from scapy.layers.inet6 import IPv6, UDP, IPv6ExtHdrDestOpt\n"
        "outer, inner, option = sys.argv[1:]\n"
        "packet = IPv6(src=outer, dst='2001:db8:99::1')\n"
        "packet = packet / IPv6ExtHdrDestOpt() if option == 'option' else packet\n"
        "packet = packet / IPv6(src='2001:db8:99::100', dst='2001:db8:99::1') if option == 'tunnel' else packet\n"
        "packet = packet / IPv6(src=inner, dst='2001:db8:1::2') / UDP(dport=9)\n"
        "raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
        "raw.sendto(bytes(packet), ('2001:db8:99::1', 0))\n"
    )
    lab.run("cn", "nft add table ip6 t")
    lab.run("cn", "nft add counter ip6 t seen")
    lab.run("cn", "nft add chain ip6 t in { type filter hook input priority 0 ; }")
    lab.run("cn", "nft add rule ip6 t in udp dport 9 counter name seen")
    other = "2001:db8:99::101"
    for outer, inner, option in (
        (CARE_OF_2, HOME_ADDRESS, ""),
        (CARE_OF_1, other, ""),
        ("2001:db8:66::1", "2001:db8:66::2", ""),
        (CARE_OF_1, other, "option"),
    ):
        lab.python("rt", spoof, outer, inner, option)
    assert received(lab) == 4
    # In a tunnel inside the mobile node's own.
    lab.python("rt", spoof, CARE_OF_1, other, "tunnel")
    assert "packets 0 " in lab.run("cn", "nft list counter ip6 t seen")
    lab.python("rt", spoof, CARE_OF_1, HOME_ADDRESS, "")
    assert "packets 1 " in lab.run("cn", "nft list counter ip6 t seen")
    assert lab.ping("mn", CN) == 3


def test_the_mobile_node_takes_tunnel_packets_from_its_home_agent_only(lab: Lab) -> None:
    away_from_home(lab)
    tunnelled = (
        "import socket, sys\n"
        "from scapy.layers.inet6 import IPv6, ICMPv6EchoRequest\n"
        "inner = IPv6(src='2001:db8:1::2', dst='2001:db8:99::100') / ICMPv6EchoRequest()\n"
        "packet = IPv6(src=sys.argv[1], dst='2001:db8:2::2') / inner\n"
        "raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
        "raw.sendto(bytes(packet), ('2001:db8:2::2', 0))\n"
    )
    answered = "Icmp6OutEchoReplies"

    def replies() -> int:
        counters = dict(line.split() for line in lab.run("mn", "cat /proc/self/net/snmp6").splitlines())
        return int(counters[answered])

    lab.python("rt", tunnelled, "2001:db8:2::1")
    assert replies() == 0
    lab.python("rt", tunnelled, HOME_AGENT)
    assert replies() == 1


def test_an_unregistered_mobile_node_does_not_leak(lab: Lab) -> None:
    # No home agent runs: it will never be registered.
    node = lab.mobile_node("--insecure")
    lab.run("rt", "nft add table ip6 t")
    lab.run("rt", "nft add counter ip6 t leaked")
    lab.run("rt", "nft add chain ip6 t in { type filter hook prerouting priority 0 ; }")
    lab.run("rt", f"nft add rule ip6 t in ip6 saddr {HOME_ADDRESS} counter name leaked")
    lab.link("m1", "up")
    node.event("binding-update-sent")
    for destination in (CN, "2001:db8:2::1", "2001:db8:3::1"):
        assert lab.ping("mn", destination, count=1, source=HOME_ADDRESS) == 0
    assert "packets 0 " in lab.run("rt", "nft list counter ip6 t leaked")


ERRORS = (
    "import select, socket, sys, time\n"
    "from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, HAO, ICMPv6EchoRequest, MIP6MH_HoTI\n"
    "from hoaflow.mobility import wire\n"
    "from hoaflow.mobility.packet_io import PacketReceiver, addressed_to\n"
    "receiver = PacketReceiver(addressed_to('2001:db8:10::1', (135, 58)))\n"
    "base = IPv6(src='2001:db8:10::1', dst='2001:db8:99::1')\n"
    "option = base / IPv6ExtHdrDestOpt(options=[HAO(hoa='2001:db8:99::100')]) / ICMPv6EchoRequest()\n"
    "home_test = base / MIP6MH_HoTI()\n"
    "raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)\n"
    "for _ in range(int(sys.argv[1])):\n"
    "    for packet in (option, home_test):\n"
    "        raw.sendto(bytes(packet), ('2001:db8:99::1', 0))\n"
    "raw.sendto(bytes(base / ICMPv6EchoRequest(id=7)), ('2001:db8:99::1', 0))\n"
    "deadline = time.monotonic() + 15\n"
    "found = []\n"
    "while time.monotonic() < deadline and not ('done' in found and len(found) > 2):\n"
    "    select.select([receiver], [], [], 0.5)\n"
    "    for data in receiver.packets():\n"
    "        if data[6] == 58:\n"
    "            found += ['done'] if data[40] == 129 else [f'icmp {data[40]}'] if data[40] < 128 else []\n"
    "            continue\n"
    "        error = wire.parse_binding_error(wire.parse_packet(data))\n"
    "        found.append(f'{error.status} {error.home_address}')\n"
    "print('\\n'.join(found))\n"
)


def test_binding_errors(lab: Lab) -> None:
    lab.home_agent("--insecure")
    found = lab.python("rt", ERRORS, "1").split("\n")
    assert "1 2001:db8:99::100" in found
    assert "2 ::" in found
    # And the kernel says nothing of its own about either.
    assert not [line for line in found if line.startswith("icmp")]


def test_binding_errors_are_rate_limited(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure")
    lab.python("rt", ERRORS, "100")
    home_agent.logged("reason=errors_suppressed")
    sent = sum("event=binding-error-sent" in line for line in home_agent.log.lines)
    assert 20 <= sent < 100
