# SPDX-License-Identifier: Apache-2.0
"""What a switch tells of packets without flows is read, whatever is in it."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from controller.core.flow_sets import Path
from controller.core.flows import COOKIE_OWNER, Kind
from controller.core.suppressions import Request
from controller.southbound.encoder import Encoder
from controller.southbound.packet_ins import request_of
from hoaflow.addresses import parse_address, parse_prefix

NAMES = Encoder(first_table=3).names
NUMBERS = {name: number for number, name in NAMES.items()}
OURS = COOKIE_OWNER | Kind.PACKET_IN
HOME_ADDRESS, HOME_AGENT, CARE_OF_ADDRESS = "2001:db8:99::100", "2001:db8:99::1", "2001:db8:2::2"
OUTER = IPv6(src=CARE_OF_ADDRESS, dst=HOME_AGENT)
LIMITED = OUTER / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()
OUTER_IPV4 = IP(src="10.2.0.2", dst="10.99.0.1")
INNER, INNER_IPV4 = IPv6(src=HOME_ADDRESS, dst="2001:db8:1::2") / UDP(), IP(src="10.99.0.100", dst="10.1.0.2") / UDP()
DOWN, DOWN_IPV4 = IPv6(src="2001:db8:1::2", dst=HOME_ADDRESS) / UDP(), IP(src="10.1.0.2", dst="10.99.0.100") / UDP()


def message(packet: bytes, table: str, cookie: int = OURS, match: int = 12) -> bytes:
    """Return a PacketIn message with a match of so many octets (OpenFlow 1.3.5, section 7.4.1)."""
    head = struct.pack("!BBHIIHBBQ", 4, 10, 0, 0, 0xFFFFFFFF, len(packet), 1, NUMBERS[table], cookie)
    return head + struct.pack("!HH", 1, match) + bytes((match + 7) // 8 * 8 - 4) + bytes(2) + packet


def frame(packet: Packet, *tags: Packet) -> bytes:
    """Return a packet in a frame, the first 128 octets of it."""
    found = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    for part in (*tags, packet):
        found /= part
    return bytes(found)[:128]


def path(care_of_address: str, home_agent: str, payload: int) -> Path:
    return Path(parse_address(care_of_address), parse_address(home_agent), payload)


@pytest.mark.parametrize("tags", [(), (Dot1Q(vlan=7),)], ids=["untagged", "tagged"])
@pytest.mark.parametrize("match", [12, 16, 21])
@pytest.mark.parametrize(("packet", "home_address"), [(DOWN, HOME_ADDRESS), (DOWN_IPV4, "10.99.0.100")])
def test_a_packet_for_a_mobile_node_asks_for_its_home_address(
    packet: Packet, home_address: str, match: int, tags: tuple[Packet, ...]
) -> None:
    found = request_of(message(frame(packet, *tags), "downlink", match=match), NAMES)
    assert found == Request(parse_prefix(home_address), None)


@pytest.mark.parametrize(
    ("packet", "home_address", "by"),
    [
        (OUTER / INNER, HOME_ADDRESS, path(CARE_OF_ADDRESS, HOME_AGENT, 41)),
        (OUTER / INNER_IPV4, "10.99.0.100", path(CARE_OF_ADDRESS, HOME_AGENT, 4)),
        (OUTER_IPV4 / INNER, HOME_ADDRESS, path("10.2.0.2", "10.99.0.1", 41)),
        (OUTER_IPV4 / INNER_IPV4, "10.99.0.100", path("10.2.0.2", "10.99.0.1", 4)),
        # The Tunnel Encapsulation Limit of RFC 2473, and what may stand before it.
        (OUTER / IPv6ExtHdrDestOpt() / INNER, HOME_ADDRESS, path(CARE_OF_ADDRESS, HOME_AGENT, 41)),
        (
            OUTER / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / INNER_IPV4,
            "10.99.0.100",
            path(CARE_OF_ADDRESS, HOME_AGENT, 4),
        ),
    ],
    ids=["6-in-6", "4-in-6", "6-in-4", "4-in-4", "encapsulation limit", "two extension headers"],
)
def test_a_packet_in_a_tunnel_asks_for_the_home_address_that_it_comes_from(
    packet: Packet, home_address: str, by: Path
) -> None:
    assert request_of(message(frame(packet), "uplink"), NAMES) == Request(parse_prefix(home_address), by)


def test_a_mobile_nodes_link_local_packets_ask_for_nothing() -> None:
    report = OUTER / IPv6(src="fe80::2", dst="ff02::16") / UDP()
    assert request_of(message(frame(report), "uplink"), NAMES) is None


def test_what_another_application_asks_to_be_told_is_not_hoaflows() -> None:
    for cookie in (0, OURS ^ 1 << 63, COOKIE_OWNER | Kind.MISS):
        assert request_of(message(frame(DOWN), "downlink", cookie), NAMES) is None


@pytest.mark.parametrize("packet", [OUTER / UDP(), OUTER / INNER, OUTER / IPv6ExtHdrDestOpt() / INNER], ids=len)
def test_what_is_cut_off_asks_for_nothing_and_breaks_nothing(packet: Packet) -> None:
    whole = frame(packet)
    for octets in range(14, len(whole)):
        found = request_of(message(whole[:octets], "uplink"), NAMES)
        assert found is None or found.home_address == parse_prefix(HOME_ADDRESS)


@given(st.binary(max_size=200))
def test_whatever_a_switch_sends_is_read_or_found_to_be_malformed(data: bytes) -> None:
    for sent in (data, message(data, "uplink"), message(data, "downlink")):
        with suppress(ValueError, struct.error):
            request_of(sent, NAMES)
