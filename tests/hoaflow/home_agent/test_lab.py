# SPDX-License-Identifier: Apache-2.0
"""Home agent and mobile node in network namespaces: real signalling, real tunnels, real attackers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mobility import CARE_OF_1, CARE_OF_2, CN, HOME_ADDRESS, HOME_AGENT, HOST, TIMEOUT, Lab, Node
from tests.support.scrape import Scrape

KEY = "000102030405060708090a0b0c0d0e0f"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as built:
        yield built


def key_file(directory: Path, key: str = KEY, name: str = "keys.toml") -> str:
    """Return a key file for the mobile node."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(f'["{HOME_ADDRESS}"]\nspi = 256\nkey = "{key}"\n')
    return str(path)


def neighbour(lab: Lab) -> str:
    """Return the link-layer address that the host on the home link has for the home address."""
    return lab.run("hh", f"ip -6 neigh show {HOME_ADDRESS} nud all").partition("lladdr ")[2].split(" ")[0]


def mac(lab: Lab, name: str, interface: str) -> str:
    return lab.run(name, f"cat /sys/class/net/{interface}/address").strip()


def received(lab: Lab) -> int:
    """Reverse-tunnelled packets that the home agent dropped."""
    listing = lab.run("ha", "nft list counter ip6 hoaflow dropped")
    return int(listing.partition("packets ")[2].split()[0])


def registers(lab: Lab, node: Node, interface: str, care_of_address: str) -> None:
    """Move the mobile node onto a link, where it registers."""
    since = len(node.out.lines)
    for other in ("m0", "m1", "m2"):
        if other != interface:
            lab.link(other, "down")
    lab.link(interface, "up")
    node.event("registered", since, care_of_address=care_of_address)


def comes_home(lab: Lab, node: Node) -> None:
    """Move the mobile node home, where it deregisters."""
    since = len(node.out.lines)
    lab.link("m1", "down")
    lab.link("m2", "down")
    lab.link("m0", "up")
    node.event("deregistered", since)


def reachable(lab: Lab) -> None:
    """Check that correspondent node, home link and home address reach each other."""
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.ping("hh", HOME_ADDRESS) == 3
    assert lab.ping("mn", CN) == 3
    assert lab.ping("mn", HOST) == 3


def kernel_state(lab: Lab, name: str) -> str:
    """Everything that a home agent or mobile node could leave in the kernel."""
    commands = (
        "ip -6 rule",
        "ip -6 route show table main proto 16",
        "ip -6 route show table 41",
        "ip -6 route show table 42",
        "ip -6 route show table 78",
        "ip -6 neigh show proxy",
        "nft list ruleset",
        "ip -o link",
        "sysctl net.ipv6.conf.all.forwarding",
    )
    return "".join(lab.run(name, command, check=False) for command in commands)


def test_roaming(lab: Lab, tmp_path: Path) -> None:
    before = {name: kernel_state(lab, name) for name in ("ha", "mn")}
    keys = key_file(tmp_path)
    home_agent = lab.home_agent("--keys", keys)
    node = lab.mobile_node("--keys", keys, "--lifetime", "60")
    own, agents = mac(lab, "mn", "m0"), mac(lab, "ha", "hl")

    lab.link("m0", "up")
    node.event("moved", link="m0")
    reachable(lab)
    assert neighbour(lab) == own

    registers(lab, node, "m1", CARE_OF_1)
    assert neighbour(lab) == agents  # by the unsolicited advertisement: nobody has asked yet
    reachable(lab)
    assert lab.ping("mn", HOME_AGENT) == 3
    acknowledged = home_agent.logged("event=binding-ack-sent", "status=0", f"care_of_address={CARE_OF_1}")
    assert acknowledged.endswith(" lifetime=60")
    assert b"coa 2001:db8:2:0:0:0:0:2 flags AH--\n" in lab.console("bc")
    # Nothing is sent untunnelled, and what comes from the tunnel has lost one hop only.
    assert "counter packets 0" in lab.run("mn", "nft list chain ip6 hoaflow_mn postrouting")

    registers(lab, node, "m2", CARE_OF_2)
    reachable(lab)
    assert b"coa 2001:db8:3:0:0:0:0:2 flags AH--\n" in lab.console("bc")

    comes_home(lab, node)
    reachable(lab)
    assert neighbour(lab) == own
    assert lab.console("bc") == b"mip6d> mip6d> \0"

    registers(lab, node, "m1", CARE_OF_1)
    reachable(lab)

    assert node.stop() == 0
    assert home_agent.stop() == 0
    lab.link("m1", "down")
    assert {name: kernel_state(lab, name) for name in ("ha", "mn")} == before | {"mn": kernel_state(lab, "mn")}
    assert "2001:db8" not in kernel_state(lab, "mn") + lab.run("mn", "ip -6 address")


SCRAPE = "import sys,urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())"


def test_metrics_tell_what_it_carries(lab: Lab, tmp_path: Path) -> None:
    before = kernel_state(lab, "ha")
    keys = key_file(tmp_path)
    home_agent = lab.home_agent("--keys", keys, "--metrics", "127.0.0.1:9109")
    node = lab.mobile_node("--keys", keys)
    registers(lab, node, "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.python("ha", SCRAPE, "http://127.0.0.1:9109/readyz") == "ok\n\n"

    now = Scrape(lab.python("ha", SCRAPE, "http://127.0.0.1:9109/metrics"))
    assert now("hoaflow_ha_bindings") == 1
    assert now("hoaflow_ha_binding_updates_total") >= 1
    assert now("hoaflow_ha_binding_acknowledgements_total", status="0") == 1
    for direction in ("uplink", "downlink"):
        assert now("hoaflow_ha_tunnel_packets_total", direction=direction) == 3, direction
        # An echo of 56 bytes, its ICMPv6 header, and an IPv6 header inside and one outside.
        assert now("hoaflow_ha_tunnel_bytes_total", direction=direction) == 3 * (56 + 8 + 40 + 40), direction
    assert now("hoaflow_ha_spoofed_packets_total") == 0
    assert "2001:db8" not in now.text
    assert home_agent.stop() == 0
    assert kernel_state(lab, "ha") == before


def test_large_packets_are_told_the_tunnels_mtu(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS, count=2, size=1452) < 2  # the first is answered by Packet Too Big
    assert "mtu 1460" in lab.run("cn", f"ip -6 route get {HOME_ADDRESS}")
    assert lab.ping("cn", HOME_ADDRESS, size=1412) == 3


@pytest.mark.parametrize("narrow", [("rt", "r1"), ("ha", "u0")], ids=["behind the router", "the home agent's own"])
def test_a_narrow_link_in_the_tunnel_is_told_to_the_correspondent(lab: Lab, narrow: tuple[str, str]) -> None:
    node, interface = narrow
    lab.home_agent("--insecure")
    registers(lab, lab.mobile_node("--insecure"), "m1", CARE_OF_1)
    assert lab.ping("cn", HOME_ADDRESS, size=1400) == 3
    lab.run(node, f"ip link set {interface} mtu 1400")
    sink = lab.script(
        "mn",
        "import socket\n"
        f"server = socket.create_server(('{HOME_ADDRESS}', 5001), family=socket.AF_INET6)\n"
        "print('listening', flush=True)\n"
        "connection, total = server.accept()[0], 0\n"
        "while part := connection.recv(65536): total += len(part)\n"
        "connection.sendall(str(total).encode())\n",
    )
    sink.out.wait(lambda line: line == "listening")
    sent = lab.python(
        "cn",
        "import socket\n"
        f"connection = socket.create_connection(('{HOME_ADDRESS}', 5001), 20)\n"
        "connection.sendall(bytes(200_000))\n"
        "connection.shutdown(socket.SHUT_WR)\n"
        "print(connection.recv(99).decode())",
    )
    assert sent.strip() == "200000"
    assert "mtu 1360" in lab.run("cn", f"ip -6 route get {HOME_ADDRESS}")


def test_an_unreachable_care_of_address_is_told_to_the_correspondent(lab: Lab) -> None:
    lab.home_agent("--insecure")
    registers(lab, lab.mobile_node("--insecure"), "m1", CARE_OF_1)
    lab.run("rt", f"ip -6 route add unreachable {CARE_OF_1}/128")
    output = lab.run("cn", f"ping -6 -n -c 2 -i 0.3 -W 3 {HOME_ADDRESS}", check=False)
    assert f"From {HOME_AGENT}" in output or "From 2001:db8:10::2" in output
    assert "Address unreachable" in output


def test_errors_about_what_no_binding_has_are_told_to_nobody(lab: Lab) -> None:
    lab.home_agent("--insecure")
    registers(lab, lab.mobile_node("--insecure"), "m1", CARE_OF_1)
    told = lab.script(
        "cn",
        "import socket\n"
        "icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n"
        "icmp.setsockopt(socket.IPPROTO_ICMPV6, 1, (0xFFFFFFFF & ~4).to_bytes(4, 'little') + b'\\xff' * 28)\n"
        "print('listening', flush=True)\n"
        "while True: print(icmp.recv(2000)[4:8].hex(), flush=True)\n",
    )
    told.out.wait(lambda line: line == "listening")
    forged = (
        "import socket, struct, sys\n"
        "a = lambda text: socket.inet_pton(socket.AF_INET6, text)\n"
        "home_agent, care_of, home, correspondent, mtu = sys.argv[1:]\n"
        "inner = struct.pack('!IHBB', 6 << 28, 1400, 17, 64) + a(correspondent) + a(home) + bytes(900)\n"
        "outer = struct.pack('!IHBB', 6 << 28, 1440, 41, 64) + a(home_agent) + a(care_of)\n"
        "icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)\n"
        "icmp.sendto(struct.pack('!BBHI', 2, 0, 0, int(mtu)) + outer + inner, (home_agent, 0))\n"
    )
    lab.python("rt", forged, HOME_AGENT, CARE_OF_2, HOME_ADDRESS, CN, "1391")  # an earlier care-of address
    lab.python("rt", forged, HOME_AGENT, CARE_OF_1, HOST, CN, "1392")  # nobody's home address
    lab.python("rt", forged, HOST, CARE_OF_1, HOME_ADDRESS, CN, "1393")  # not from this home agent
    lab.python("rt", forged, HOME_AGENT, CARE_OF_1, HOME_ADDRESS, CN, "1394")
    assert told.out.wait(lambda line: line != "listening") == f"{1394 - 40:08x}"


def test_the_hop_limit_counts_the_home_agent_but_not_the_tunnel(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    expired = lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 2 {HOME_ADDRESS}", check=False)
    assert f"From {HOME_AGENT}" in expired or "From 2001:db8:10::2" in expired
    assert "Time exceeded" in expired
    lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 4 {HOME_ADDRESS}")
    capture = lab.script("rt", TUNNELLED)
    capture.out.wait(lambda line: line == "ready")
    lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 4 {HOME_ADDRESS}")
    assert capture.out.wait(lambda line: line.startswith("outer")) == "outer 64 inner 2"


def test_a_binding_expires_when_its_mobile_node_is_gone(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure", "--max-lifetime", "4")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    node.stop(kill=True)
    home_agent.logged("event=binding-removed", "reason=expired")
    assert lab.run("ha", "ip -6 route show proto 16") == ""
    assert lab.run("ha", "ip -6 neigh show proxy") == ""


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


def test_a_link_that_goes_down_and_up_at_once_is_taken_anew(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    since = len(node.out.lines)
    lab.run("mn", "ip -batch /dev/stdin", stdin="link set m1 down\nlink set m1 up\n")
    node.event("registered", since)
    assert lab.ping("cn", HOME_ADDRESS) == 3


REPLAY = """
import socket, sys
packet = bytes.fromhex(sys.argv[1])
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
    raw.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
"""

RECORD = """
import socket
from hoaflow.home_agent.packet_io import ETH_P_IPV6
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
    for _ in range(12):
        node = lab.mobile_node("--keys", keys)
        registers(lab, node, "m1", CARE_OF_1)
        node.stop(kill=True)
        if any("sequence-corrected" in line for line in node.out.lines):
            break
    else:
        pytest.fail("12 random numbers in a row were newer than the one before (1 in 4096)")
    home_agent.logged("event=binding-ack-sent", "status=135")


def test_spoofed_reverse_tunnelling_is_dropped(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    spoof = (
        "import socket, sys\n"
        "from scapy.layers.inet6 import IPv6, UDP, IPv6ExtHdrDestOpt\n"
        "outer, inner, option = sys.argv[1:]\n"
        "packet = IPv6(src=outer, dst='2001:db8:99::1')\n"
        "packet = packet / IPv6ExtHdrDestOpt() if option == 'option' else packet\n"
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
    assert "packets 0 " in lab.run("cn", "nft list counter ip6 t seen")
    lab.python("rt", spoof, CARE_OF_1, HOME_ADDRESS, "")
    assert "packets 1 " in lab.run("cn", "nft list counter ip6 t seen")
    assert lab.ping("mn", CN) == 3


def test_the_mobile_node_takes_tunnel_packets_from_its_home_agent_only(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
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


def test_a_second_home_agent_leaves_the_first_one_alone(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    before = lab.run("ha", "ip -6 rule"), lab.run("ha", "ip -6 neigh show proxy"), lab.run("ha", "nft list tables")
    second = lab.start_home_agent("--insecure", "--no-console")
    assert second.process.wait(TIMEOUT) == 1
    second.logged("cannot start", "runs in this network namespace already")
    assert before == (
        lab.run("ha", "ip -6 rule"),
        lab.run("ha", "ip -6 neigh show proxy"),
        lab.run("ha", "nft list tables"),
    )
    reachable(lab)


def test_killed_and_started_again(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure", "--lifetime", "8")
    registers(lab, node, "m1", CARE_OF_1)
    home_agent.stop(kill=True)
    assert lab.ping("cn", HOME_ADDRESS) == 3  # its kernel goes on
    since = len(node.out.lines)
    restarted = lab.home_agent("--insecure")
    # What the killed one left is gone: there is no binding for it.
    assert lab.run("ha", "ip -6 route show proto 16") == ""
    assert lab.run("ha", "ip -6 neigh show proxy") == ""
    node.event("registered", since)
    reachable(lab)
    assert restarted.stop() == 0
    assert "hoaflow" not in kernel_state(lab, "ha")


def test_killed_and_started_again_with_its_state(lab: Lab, tmp_path: Path) -> None:
    journal = str(tmp_path / "journal")
    home_agent = lab.home_agent("--insecure", "--journal", journal)
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    home_agent.stop(kill=True)
    since = len(node.out.lines)
    lab.home_agent("--insecure", "--journal", journal)
    assert not any("registered" in line for line in node.out.lines[since:])  # it did not have to register again
    assert b"coa 2001:db8:2:0:0:0:0:2 flags AH--\n" in lab.console("bc")
    assert lab.ping("cn", HOME_ADDRESS) == 3
    assert lab.ping("mn", CN) == 3


def test_tunnels_survive_their_uplink(lab: Lab) -> None:
    lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    lab.run("ha", "ip link set u0 down")
    lab.run("ha", "ip link set u0 up")
    lab.run("ha", "ip -6 address replace 2001:db8:10::2/64 dev u0 nodad")
    lab.run("ha", "ip -6 route replace default via 2001:db8:10::1")
    assert lab.ping("cn", HOME_ADDRESS) > 0


def test_a_route_that_somebody_removed_comes_back(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    lab.run("ha", f"ip -6 route del {HOME_ADDRESS} proto 16")
    lab.run("ha", "ip link set u0 mtu 1400")  # any event of an interface has it look
    home_agent.logged("event=mended", f"routes of table 254 missing, as {HOME_ADDRESS}")


def test_a_handover_is_taken_just_after_the_ruleset_was_flushed(lab: Lab) -> None:
    home_agent = lab.home_agent("--insecure")
    node = lab.mobile_node("--insecure")
    registers(lab, node, "m1", CARE_OF_1)
    os.kill(home_agent.process.pid, signal.SIGSTOP)  # so that the Binding Update comes before it can have looked
    lab.run("ha", "nft flush ruleset")
    since = len(node.out.lines)
    lab.link("m1", "down")
    lab.link("m2", "up")
    node.event("binding-update-sent", since, care_of_address=CARE_OF_2)
    os.kill(home_agent.process.pid, signal.SIGCONT)
    node.event("registered", since, care_of_address=CARE_OF_2)
    assert not any("event=binding-failed" in line for line in home_agent.log.lines)
    reachable(lab)


TUNNELLED = """
import select
from hoaflow.home_agent.packet_io import PacketReceiver, addressed_to
receiver = PacketReceiver(addressed_to("2001:db8:2::2", (41,)))
print("ready", flush=True)
while True:
    select.select([receiver], [], [])
    for packet in receiver.packets():
        print("outer", packet[7], "inner", packet[47], flush=True)
"""

ERRORS = (
    "import select, socket, sys, time\n"
    "from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, HAO, ICMPv6EchoRequest, MIP6MH_HoTI\n"
    "from hoaflow.home_agent import mobility\n"
    "from hoaflow.home_agent.packet_io import PacketReceiver, addressed_to\n"
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
    "        error = mobility.parse_binding_error(mobility.parse_packet(data))\n"
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
    home_agent.logged("reason=binding_errors_suppressed")
    sent = sum("event=binding-error-sent" in line for line in home_agent.log.lines)
    assert 20 <= sent < 100
