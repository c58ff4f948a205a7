# SPDX-License-Identifier: Apache-2.0
"""Messages by which mobile nodes look for home agents and home prefixes (RFC 6275, sections 6.5 to 6.8)."""

from ipaddress import IPv6Interface, IPv6Network

import pytest
from scapy.layers.inet6 import (
    HAO,
    ICMPv6HAADReply,
    ICMPv6HAADRequest,
    ICMPv6MPAdv,
    ICMPv6MPSol,
    ICMPv6NDOptPrefixInfo,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    in6_chksum,
)

from hoaflow.mobility import wire
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.home_agent_discovery import (
    MOST_ADDRESSES,
    discovery_reply_packet,
    discovery_request_packet,
    home_agents_anycast,
    is_prefix_solicitation,
    parse_discovery_reply,
    parse_discovery_request,
    parse_prefix_solicitation,
    prefix_advertisement_packet,
)
from hoaflow.mobility.router_advertisements import PrefixInformation

HOME_AGENT, HOME_ADDRESS, CARE_OF = "2001:db8:99::1", "2001:db8:99::100", "2001:db8:2::2"


def solicitation(identifier: int = 7, home_address: str = HOME_ADDRESS) -> bytes:
    """Return the packet of a Mobile Prefix Solicitation, as a mobile node away from home sends it."""
    options = IPv6ExtHdrDestOpt(options=[HAO(hoa=home_address)])
    return bytes(IPv6(src=CARE_OF, dst=HOME_AGENT) / options / ICMPv6MPSol(id=identifier))


@pytest.mark.parametrize(
    ("prefix", "anycast"),
    [
        ("2001:db8:99::/64", "2001:db8:99:0:fdff:ffff:ffff:fffe"),
        ("2001:db8:99::/96", "2001:db8:99::ffff:fffe"),
        ("2001:db8:98::/48", "2001:db8:98:ffff:ffff:ffff:ffff:fffe"),
        ("2001:db8:99::/121", "2001:db8:99::7e"),
        ("2001:db8:99::/122", "None"),
    ],
)
def test_the_anycast_address_of_home_agents(prefix: str, anycast: str) -> None:
    assert str(home_agents_anycast(IPv6Network(prefix))) == anycast


def test_a_discovery_request_is_read() -> None:
    assert parse_discovery_request(bytes(ICMPv6HAADRequest(id=0x1234, R=0))) == (0x1234, False)
    for message in (b"", b"\x90\x00\x00\x00\x12", b"\x90\x01" + bytes(6), bytes(ICMPv6HAADReply(id=1))):
        with pytest.raises(MalformedPacketError):
            parse_discovery_request(message)


def test_flag_r_of_mobile_routers_is_the_first_after_the_identifier() -> None:
    assert parse_discovery_request(bytes.fromhex("9000000012348000")) == (0x1234, True)
    assert parse_discovery_request(bytes.fromhex("9000000012347fff")) == (0x1234, False)
    reply = discovery_reply_packet(HOME_AGENT, CARE_OF, 0x1234, [HOME_AGENT], mobile_routers=True)[40:]
    assert (reply[4:8].hex(), parse_discovery_reply(reply)) == ("12348000", (0x1234, [HOME_AGENT]))


def test_a_discovery_reply_has_as_many_addresses_as_every_link_carries() -> None:
    addresses = [f"2001:db8:99::{number:x}" for number in range(1, 100)]
    data = discovery_reply_packet(HOME_AGENT, CARE_OF, 0x1234, addresses)
    assert len(data) == 1280
    packet = IPv6(data)
    assert (packet.src, packet.dst, packet[ICMPv6HAADReply].id) == (HOME_AGENT, CARE_OF, 0x1234)
    assert packet[ICMPv6HAADReply].addresses == addresses[:MOST_ADDRESSES]
    assert in6_chksum(58, packet, data[40:]) == 0


def test_a_mobile_node_reads_what_a_home_agent_answers() -> None:
    asked = IPv6(discovery_request_packet(CARE_OF, HOME_AGENT, 0x1234))
    assert parse_discovery_request(bytes(asked.payload)) == (0x1234, False)
    answer = discovery_reply_packet(HOME_AGENT, CARE_OF, 0x1234, [HOME_AGENT, "2001:db8:99::2"])[40:]
    assert parse_discovery_reply(answer) == (0x1234, [HOME_AGENT, "2001:db8:99::2"])
    for message in (answer[:-1], answer[:4], bytes(asked.payload)):
        with pytest.raises(MalformedPacketError):
            parse_discovery_reply(message)


def test_a_prefix_solicitation_is_read_if_its_checksum_covers_the_home_address() -> None:
    packet = wire.parse_packet(solicitation(0x1234))
    assert is_prefix_solicitation(packet)
    assert parse_prefix_solicitation(packet) == 0x1234
    damaged = bytearray(solicitation())
    damaged[-1] ^= 1
    with pytest.raises(MalformedPacketError, match="wrong checksum"):
        parse_prefix_solicitation(wire.parse_packet(bytes(damaged)))


def test_a_prefix_advertisement_goes_to_the_care_of_address_with_a_routing_header() -> None:
    prefix = PrefixInformation(IPv6Interface("2001:db8:99::1/64"), 7200, 3600, router_address=True)
    data = prefix_advertisement_packet(HOME_AGENT, CARE_OF, HOME_ADDRESS, 0x1234, [prefix])
    packet = IPv6(data)
    assert (packet.src, packet.dst) == (HOME_AGENT, CARE_OF)
    routing, message = packet[IPv6ExtHdrRouting], packet[ICMPv6MPAdv]
    assert (routing.type, routing.segleft, routing.addresses) == (2, 1, [HOME_ADDRESS])
    assert (message.id, message.code) == (0x1234, 0)
    option = packet[ICMPv6NDOptPrefixInfo]
    assert (option.prefix, option.R, option.validlifetime, option.preferredlifetime) == (HOME_AGENT, 1, 7200, 3600)
    # The checksum covers the final destination, the home address (RFC 6275, section 6.4.3).
    assert in6_chksum(58, IPv6(src=HOME_AGENT, dst=HOME_ADDRESS), bytes(message)) == 0
