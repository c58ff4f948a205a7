# SPDX-License-Identifier: Apache-2.0
"""Agent Advertisements and Solicitations, and the packets between mobile nodes and foreign agents."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from hoaflow.mobile_ipv4.advertisements import (
    AgentAdvertisement,
    AgentFlag,
    advertisement_packet,
    is_solicitation,
    parse_advertisement,
    solicitation_packet,
)
from hoaflow.mobile_ipv4.packets import Datagram, Ipv4Packet, parse_ipv4, parse_udp, udp_packet

MAC = b"\x02\0\0\0\0\x01"
AGENT, HOME, COA, OTHER_COA = "10.5.0.1", "10.99.0.100", "10.4.0.2", "10.4.0.3"
FLAGS = AgentFlag.FOREIGN_AGENT | AgentFlag.REVERSE_TUNNEL
ADVERTISEMENT = AgentAdvertisement(AGENT, 30, 7, 1800, FLAGS, (COA, OTHER_COA))
PORTS = (434, 434)


def packet(data: bytes) -> Ipv4Packet:
    found = parse_ipv4(data, MAC)
    assert found is not None
    return found


def test_an_advertisement_has_the_octets_of_the_rfc_and_is_read_back() -> None:
    data = advertisement_packet(ADVERTISEMENT)
    scapy = IP(data)
    assert (scapy.dst, scapy.ttl, scapy[ICMP].type, scapy[ICMP].code) == ("255.255.255.255", 1, 9, 16)
    del scapy.chksum, scapy[ICMP].chksum
    assert bytes(IP(bytes(scapy))) == data  # scapy computes the same checksums
    extension = bytes((16, 14, 0, 7, 0x07, 0x08, 0x11, 0x00, 10, 4, 0, 2, 10, 4, 0, 3))
    assert data[20 + 8 :] == extension
    assert parse_advertisement(packet(data)) == ADVERTISEMENT


def test_what_is_no_agents_advertisement_is_none() -> None:
    router = bytes(IP(src=AGENT, dst="224.0.0.1", ttl=1) / ICMP(type=9))
    assert parse_advertisement(packet(router)) is None
    data = bytearray(advertisement_packet(ADVERTISEMENT))
    data[-1] ^= 1
    assert parse_advertisement(packet(bytes(data))) is None
    assert parse_advertisement(packet(solicitation_packet(HOME))) is None


def test_a_solicitation_is_of_the_link() -> None:
    assert is_solicitation(packet(solicitation_packet(HOME)))
    from_afar = IP(solicitation_packet(HOME))
    from_afar.ttl = 2
    del from_afar.chksum
    assert not is_solicitation(packet(bytes(from_afar)))


def test_a_datagram_with_a_wrong_checksum_is_dropped_and_one_without_or_with_half_of_it_is_not() -> None:
    data = udp_packet(HOME, AGENT, PORTS, b"request", 255)
    assert bytes(IP(src=HOME, dst=AGENT, ttl=255, id=0) / UDP(sport=434, dport=434) / Raw(b"request")) == data
    assert parse_udp(packet(data)) == Datagram(434, 434, b"request")
    # None; that of the pseudo header, which the kernel leaves to the interface to complete; a wrong one.
    pseudo = 0x0A63 + 0x0064 + 0x0A05 + 0x0001 + 17 + 15
    for found, kept in ((0, True), (pseudo, True), (0x1234, False)):
        changed = data[:26] + found.to_bytes(2, "big") + data[28:]
        assert (parse_udp(packet(changed)) is not None) is kept, found


@given(st.binary(max_size=80), st.sampled_from([1, 17]))
def test_any_packet_is_refused_or_read_but_never_crashes(payload: bytes, protocol: int) -> None:
    parse_ipv4(payload, MAC)
    hostile = Ipv4Packet(HOME, AGENT, 1, protocol, payload, MAC)
    parse_advertisement(hostile)
    parse_udp(hostile)
    is_solicitation(hostile)
