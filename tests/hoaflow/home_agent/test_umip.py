# SPDX-License-Identifier: Apache-2.0
"""What UMIP's mobile node once sent is sent again, octet by octet, and answered as UMIP's home agent answered it."""

import pytest
from scapy.layers.inet6 import ICMPv6MPAdv, ICMPv6NDOptPrefixInfo, IPv6, in6_chksum
from scapy.utils import rdpcap

from tests.support.bridge import DATA
from tests.support.mobility import HOME_ADDRESS, HOME_AGENT, Lab

ETHERNET = 14
CAPTURED = [bytes(frame)[ETHERNET:] for frame in rdpcap(str(DATA / "mipv6" / "signalling.pcap"))]
DESTINATION_OPTIONS, ROUTING, ICMPV6, MOBILITY_HEADER = 60, 43, 58, 135


def captured(first_header: int, inner: int) -> list[bytes]:
    """Return the captured packets with this extension header before this protocol."""
    return [packet for packet in CAPTURED if (packet[6], packet[40]) == (first_header, inner)]


UPDATES, ACKNOWLEDGEMENTS = captured(DESTINATION_OPTIONS, MOBILITY_HEADER), captured(ROUTING, MOBILITY_HEADER)
((SOLICITATION,), (ADVERTISEMENT,)) = captured(DESTINATION_OPTIONS, ICMPV6), captured(ROUTING, ICMPV6)
GATEWAYS = {"2001:db8:2:": ("m1", "2001:db8:2::1"), "2001:db8:3:": ("m2", "2001:db8:3::1")}

# Sends a packet, and prints in hexadecimal what is answered to its source.
SEND_AND_HEAR = """
import ipaddress, select, sys
from hoaflow.mobility.extension_headers import ROUTING
from hoaflow.mobility.packet_io import PacketReceiver, addressed_to, send_packet
packet = bytes.fromhex(sys.argv[1])
receiver = PacketReceiver(addressed_to(str(ipaddress.IPv6Address(packet[8:24])), (ROUTING,)))
send_packet(packet)
assert select.select([receiver], [], [], float(sys.argv[2]))[0], "no answer"
print(next(iter(receiver.packets())).hex())
"""


def answer(lab: Lab, packet: bytes) -> bytes:
    """Have the mobile node send a packet from its source, on that address's link; return what is answered."""
    source = IPv6(packet).src
    link, gateway = next(where for prefix, where in GATEWAYS.items() if source.startswith(prefix))
    lab.link(link, "up")
    lab.run("mn", f"ip address replace {source}/64 dev {link} nodad")
    lab.run("mn", f"ip route replace default via {gateway}")
    return bytes.fromhex(lab.python("mn", SEND_AND_HEAR, packet.hex(), "60"))


def as_sent(packet: bytes) -> bytes:
    """Return a packet without flow label and hop limit, which its sender chooses and routers change."""
    return packet[4:7] + packet[8:]


def exchanged(lab: Lab, numbers: range) -> None:
    """Check that these of the captured updates are acknowledged as UMIP's home agent did it."""
    for number in numbers:
        assert as_sent(answer(lab, UPDATES[number])) == as_sent(ACKNOWLEDGEMENTS[number])


@pytest.fixture(autouse=True)
def home_agent(lab: Lab) -> None:
    lab.home_agent("--insecure", "--max-lifetime", "60", "--advertise", "30", "--default-router")


def test_umips_mobile_node_registers_asks_for_its_home_prefix_and_moves(lab: Lab) -> None:
    exchanged(lab, range(1))
    advertisement, umips = IPv6(answer(lab, SOLICITATION)), IPv6(ADVERTISEMENT)
    assert (advertisement.src, advertisement.dst) == (umips.src, umips.dst) == (HOME_AGENT, IPv6(SOLICITATION).src)
    message, option = advertisement[ICMPv6MPAdv], advertisement[ICMPv6NDOptPrefixInfo]
    assert in6_chksum(ICMPV6, IPv6(src=HOME_AGENT, dst=HOME_ADDRESS), bytes(message)) == 0
    assert (message.id, message.flags) == (umips[ICMPv6MPAdv].id, umips[ICMPv6MPAdv].flags)
    # Lifetimes are the home agents' own.
    option.validlifetime, option.preferredlifetime = 0x1517F, 0x383F
    assert bytes(option) == bytes(umips[ICMPv6NDOptPrefixInfo])
    exchanged(lab, range(1, 5))


def test_it_registers_with_numbers_that_begin_anew_after_it_was_at_home(lab: Lab) -> None:
    exchanged(lab, range(5, 8))
