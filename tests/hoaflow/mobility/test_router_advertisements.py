# SPDX-License-Identifier: Apache-2.0
"""Router Advertisements, also those of home agents (RFC 4861, section 4.2; RFC 6275, sections 7.1, 7.2 and 7.4)."""

import struct
from ipaddress import IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptHAInfo, ICMPv6NDOptPrefixInfo, IPv6, in6_chksum

from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.router_advertisements import (
    HomeAgentInformation,
    PrefixInformation,
    RouterAdvertisement,
    parse_router_advertisement,
    router_advertisement_packet,
)

ROUTER, MAC = "fe80::1", bytes.fromhex("020000000001")
HOME_PREFIX = PrefixInformation(IPv6Interface("2001:db8:99::1/64"), 7200, 3600, autonomous=False, router_address=True)

prefixes = st.builds(
    PrefixInformation,
    st.builds(lambda address, length: IPv6Interface((address, length)), st.ip_addresses(v=6), st.integers(0, 128)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
advertisements = st.builds(
    RouterAdvertisement,
    st.just(ROUTER),
    st.integers(0, 0xFFFF),
    st.lists(prefixes, max_size=4).map(tuple),
    st.booleans(),
    st.none() | st.builds(HomeAgentInformation, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.booleans()),
)


@given(advertisements)
def test_what_was_sent_is_read(advertisement: RouterAdvertisement) -> None:
    packet = router_advertisement_packet(advertisement, MAC, mtu=1400)
    assert parse_router_advertisement(ROUTER, packet[40:]) == advertisement


def test_a_home_agents_advertisement_on_the_wire() -> None:
    advertisement = RouterAdvertisement(ROUTER, 0, (HOME_PREFIX,), True, HomeAgentInformation(7, 90))
    packet = IPv6(router_advertisement_packet(advertisement, MAC))
    assert (packet.src, packet.dst, packet.hlim) == (ROUTER, "ff02::1", 255)
    message = packet[ICMPv6ND_RA]
    # A router that is no default router says nothing of preference (RFC 4191, section 2.2) or hop limits.
    assert (message.H, message.routerlifetime, message.prf, message.chlim) == (1, 0, 0, 0)
    option = packet[ICMPv6NDOptPrefixInfo]
    assert (option.prefix, option.prefixlen, option.L, option.A, option.R) == ("2001:db8:99::1", 64, 1, 0, 1)
    assert (packet[ICMPv6NDOptHAInfo].pref, packet[ICMPv6NDOptHAInfo].lifetime) == (7, 90)
    assert in6_chksum(58, packet, bytes(message)) == 0


def test_a_home_agent_that_takes_mobile_routers_says_so_in_its_option() -> None:
    advertisement = RouterAdvertisement(ROUTER, 0, (), True, HomeAgentInformation(7, 90, mobile_routers=True))
    assert router_advertisement_packet(advertisement, MAC)[-8:].hex() == "080180000007005a"  # RFC 3963, section 7.3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (b"\x03\x00" + bytes(30), "an option has length 0"),
        (b"\x03\x05" + bytes(30), "an option has length 40"),
        (b"\x03", "an option has length 0"),
        (b"\x03\x01" + bytes(6), "a Prefix Information option has 8 bytes"),
        (b"\x03\x04\x81" + bytes(29), "prefix length 129"),
        (b"\x08\x02" + bytes(14), "a Home Agent Information option has 16 bytes"),
    ],
)
def test_damaged_options_are_refused(options: bytes, said: str) -> None:
    with pytest.raises(MalformedPacketError, match=said):
        parse_router_advertisement(ROUTER, struct.pack("!BBHBBHII", 134, 0, 0, 0, 0x20, 90, 0, 0) + options)


def test_what_is_no_advertisement_is_refused() -> None:
    for message in (b"", bytes(16), b"\x86\x01" + bytes(14), b"\x86\x00" + bytes(13)):
        with pytest.raises(MalformedPacketError, match="not a Router Advertisement"):
            parse_router_advertisement(ROUTER, message)
