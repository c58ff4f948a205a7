# SPDX-License-Identifier: Apache-2.0
"""What correspondents are told of the home agent's tunnels: MTUs, unreachable addresses, hop limits."""

import pytest

from tests.support.mobility import CARE_OF_1, CARE_OF_2, CN, HOME_ADDRESS, HOME_AGENT, HOST, Lab
from tests.support.ping import ping
from tests.support.roaming import away_from_home


def test_large_packets_are_told_the_tunnels_mtu(lab: Lab) -> None:
    away_from_home(lab)
    assert lab.ping("cn", HOME_ADDRESS, count=2, size=1452) < 2  # the first is answered by Packet Too Big
    assert "mtu 1460" in lab.run("cn", f"ip -6 route get {HOME_ADDRESS}")
    assert lab.ping("cn", HOME_ADDRESS, size=1412) == 3


@pytest.mark.parametrize("narrow", [("rt", "r1"), ("ha", "u0")], ids=["behind the router", "the home agent's own"])
def test_a_narrow_link_in_the_tunnel_is_told_to_the_correspondent(lab: Lab, narrow: tuple[str, str]) -> None:
    node, interface = narrow
    away_from_home(lab)
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
    away_from_home(lab)
    lab.run("rt", f"ip -6 route add unreachable {CARE_OF_1}/128")
    output = lab.run("cn", " ".join(ping(2, 3, HOME_ADDRESS)), check=False)
    assert f"From {HOME_AGENT}" in output or "From 2001:db8:10::2" in output
    assert "Address unreachable" in output


def test_errors_about_what_no_binding_has_are_told_to_nobody(lab: Lab) -> None:
    away_from_home(lab)
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
    away_from_home(lab)
    expired = lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 2 {HOME_ADDRESS}", check=False)
    assert f"From {HOME_AGENT}" in expired or "From 2001:db8:10::2" in expired
    assert "Time exceeded" in expired
    lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 4 {HOME_ADDRESS}")
    capture = lab.script("rt", TUNNELLED)
    capture.out.wait(lambda line: line == "ready")
    lab.run("cn", f"ping -6 -n -c 1 -W 3 -t 4 {HOME_ADDRESS}")
    assert capture.out.wait(lambda line: line.startswith("outer")) == "outer 64 inner 2"


TUNNELLED = """
import select
from hoaflow.mobility.packet_io import PacketReceiver, addressed_to
receiver = PacketReceiver(addressed_to("2001:db8:2::2", (41,)))
print("ready", flush=True)
while True:
    select.select([receiver], [], [])
    for packet in receiver.packets():
        print("outer", packet[7], "inner", packet[47], flush=True)
"""
