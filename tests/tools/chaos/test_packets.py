# SPDX-License-Identifier: Apache-2.0
"""What the observer makes of packets."""

import struct

import pytest

from hoaflow.mobile_ipv4 import wire as ipv4_wire
from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT, Code, RegistrationReply
from hoaflow.mobility.messages import BindingAcknowledgement, Status
from hoaflow.mobility.wire import binding_acknowledgement_header, binding_acknowledgement_packet
from hoaflow.pmipv6.messages import ProxyBindingAcknowledgement
from hoaflow.pmipv6.wire import build
from tools.chaos.addresses import IN_IPV4, Flow, plan
from tools.chaos.packets import NOWHERE, RECORD, Kind, Record, forged, octets, parse, payload, unpack
from topologies.spoof import ipv4

HOME_AGENT, HOME_ADDRESS, CARE_OF_ADDRESS, CN = "2001:db8:99::1", "2001:db8:99::101", "2001:db8:2::101", "2001:db8:1::2"
HOME_NETWORK_PREFIX = "2001:db8:f1:1::/64"
IPV4_PAIR, IPV4_ENDS = ("10.2.0.109", "10.96.0.1"), ("10.96.0.109", "10.1.0.2")
IPV4_TUNNELLED = forged(*IPV4_PAIR, *IPV4_ENDS, flow=3, number=70_000)
TUNNELLED = forged(CARE_OF_ADDRESS, HOME_AGENT, HOME_ADDRESS, CN, flow=3, number=70_000)


def test_of_a_fragmented_packet_the_first_fragment_is_told() -> None:
    packet = forged(CARE_OF_ADDRESS, HOME_AGENT, HOME_ADDRESS, CN, flow=3, number=5)[40:]

    def fragment(offset: int, more: bool) -> bytes:
        header = bytes([packet[6], 0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4)
        return packet[:6] + bytes([44]) + packet[7:40] + header + packet[40:]

    assert parse(fragment(0, more=True), 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 5)
    assert parse(fragment(170, more=False), 5.0, 2) is None


def test_of_a_fragmented_packet_of_ipv4_the_first_fragment_is_told() -> None:
    packet = IPV4_TUNNELLED[20:]
    first, second = (packet[:6] + struct.pack("!H", offset) + packet[8:] for offset in (0x2000, 0x20AA))
    assert parse(first, 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000)
    assert parse(second, 5.0, 2) is None


def flows_with(number: int) -> tuple[Flow, Flow]:
    """Return the flows to and from the correspondent node of a mobile node."""
    down, up = (flow for flow in plan().flows() if {flow.source, flow.destination} == {"cn", f"mn{number}"})
    return down, up


@pytest.mark.parametrize(("number", "header"), [(1, 40), (IN_IPV4[0], 20)])
def test_some_packets_of_each_flow_are_as_large_as_tunnels_carry(number: int, header: int) -> None:
    down, up = flows_with(number)
    assert {header + 8 + len(payload(down, each)) for each in range(10)} == {header + 18, 1448}
    assert {header + 8 + len(payload(up, each)) for each in range(10)} == {header + 18, 1360}


def acknowledgement(status: int) -> bytes:
    """Return what the home agent sends to a mobile node that has registered."""
    message = BindingAcknowledgement(HOME_AGENT, CARE_OF_ADDRESS, HOME_ADDRESS, 9, status, 60)
    return binding_acknowledgement_packet(message, binding_acknowledgement_header(message, None))


def test_a_packet_in_a_tunnel_is_told_with_the_tunnels_addresses() -> None:
    tunnel = octets(CARE_OF_ADDRESS), octets(HOME_AGENT)
    assert parse(TUNNELLED, 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000, *tunnel)


def test_a_packet_in_an_ipv4_tunnel_is_told_with_the_tunnels_addresses() -> None:
    assert parse(IPV4_TUNNELLED, 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000, *map(octets, IPV4_PAIR))


@pytest.mark.parametrize("packet", [TUNNELLED[40:], IPV4_TUNNELLED[20:]], ids=["ipv6", "ipv4"])
def test_a_packet_outside_of_any_tunnel_is_told_without(packet: bytes) -> None:
    assert parse(packet, 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000, NOWHERE, NOWHERE)


def test_an_acknowledgement_that_accepts_is_told() -> None:
    addresses = octets(HOME_ADDRESS), octets(CARE_OF_ADDRESS)
    assert parse(acknowledgement(Status.ACCEPTED), 5.0, 2) == Record(5.0, Kind.REGISTERED, 2, 0, 60, *addresses)
    assert parse(acknowledgement(Status.SEQUENCE_OUT_OF_WINDOW), 5.0, 2) is None


def proxy_acknowledgement(lifetime: int) -> bytes:
    """Return what a local mobility anchor sends to a gateway."""
    message = ProxyBindingAcknowledgement(HOME_AGENT, CARE_OF_ADDRESS, 9, 0, lifetime, "mn8", (HOME_NETWORK_PREFIX,))
    return build(message, None)


def test_a_proxys_acknowledgement_is_told_with_the_home_network_prefix() -> None:
    prefix = octets(HOME_NETWORK_PREFIX.partition("/")[0])
    found = parse(proxy_acknowledgement(60), 5.0, 2)
    assert found == Record(5.0, Kind.REGISTERED, 2, 0, 60, prefix, octets(CARE_OF_ADDRESS))
    assert parse(proxy_acknowledgement(0), 5.0, 2) is None, "a former gateway's registration has ended"


def registration_reply(code: Code, port: int = REGISTRATION_PORT) -> bytes:
    """Return what a home agent of Mobile IPv4 sends to a mobile node that has registered."""
    reply = ipv4_wire.reply(RegistrationReply(code, 60, IPV4_ENDS[0], IPV4_PAIR[1], 7))
    return ipv4(IPV4_PAIR[1], IPV4_PAIR[0], 17, struct.pack("!HHHH", port, 434, 8 + len(reply), 0) + reply)


def test_a_registration_reply_that_accepts_is_told() -> None:
    addresses = octets(IPV4_ENDS[0]), octets(IPV4_PAIR[0])
    for code in (Code.ACCEPTED, Code.ACCEPTED_WITHOUT_SIMULTANEOUS):
        found = parse(registration_reply(code), 5.0, 2)
        assert found == Record(5.0, Kind.REGISTERED, 2, 0, 60, *addresses)
    assert parse(registration_reply(Code.IDENTIFICATION_MISMATCH), 5.0, 2) is None
    assert parse(registration_reply(Code.ACCEPTED, port=4340), 5.0, 2) is None


def test_nothing_else_is_told_and_nothing_is_read_beyond_the_end() -> None:
    for packet in (
        TUNNELLED, IPV4_TUNNELLED, acknowledgement(Status.ACCEPTED), registration_reply(Code.ACCEPTED),
    ):  # fmt: skip
        for length in range(len(packet) - 1):
            parse(packet[:length], 0.0, 0)
    assert parse(TUNNELLED.replace(b"caos", b"else"), 0.0, 0) is None


def test_records_are_read_as_they_were_written() -> None:
    records = [Record(1.5, Kind.SENT, 0, 3, 1), Record(1.75, Kind.SEEN, 2, 3, 1, octets(CN), octets(HOME_AGENT))]
    data = b"".join(record.pack() for record in records)
    assert list(unpack(data + bytes(RECORD.size - 1))) == records
