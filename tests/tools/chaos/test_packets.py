# SPDX-License-Identifier: Apache-2.0
"""What the observer makes of packets."""

from hoaflow.mobility.messages import BindingAcknowledgement, Status
from hoaflow.mobility.wire import binding_acknowledgement_header, binding_acknowledgement_packet
from hoaflow.pmipv6.messages import ProxyBindingAcknowledgement
from hoaflow.pmipv6.wire import build
from tools.chaos.addresses import plan
from tools.chaos.location import octets
from tools.chaos.packets import NOWHERE, RECORD, Kind, Record, forged, parse, payload, unpack

HOME_AGENT, HOME_ADDRESS, CARE_OF_ADDRESS, CN = "2001:db8:99::1", "2001:db8:99::101", "2001:db8:2::101", "2001:db8:1::2"
HOME_NETWORK_PREFIX = "2001:db8:f1:1::/64"
TUNNELLED = forged(CARE_OF_ADDRESS, HOME_AGENT, HOME_ADDRESS, CN, flow=3, number=70_000)


def test_of_a_fragmented_packet_the_first_fragment_is_told() -> None:
    packet = forged(CARE_OF_ADDRESS, HOME_AGENT, HOME_ADDRESS, CN, flow=3, number=5)[40:]

    def fragment(offset: int, more: bool) -> bytes:
        header = bytes([packet[6], 0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4)
        return packet[:6] + bytes([44]) + packet[7:40] + header + packet[40:]

    assert parse(fragment(0, more=True), 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 5)
    assert parse(fragment(170, more=False), 5.0, 2) is None


def test_some_packets_of_each_flow_are_as_large_as_tunnels_carry() -> None:
    down, up, *_ = plan(1).flows()
    assert {40 + 8 + len(payload(down, number)) for number in range(10)} == {58, 1448}
    assert {40 + 8 + len(payload(up, number)) for number in range(10)} == {58, 1360}


def acknowledgement(status: int) -> bytes:
    """Return what the home agent sends to a mobile node that has registered."""
    message = BindingAcknowledgement(HOME_AGENT, CARE_OF_ADDRESS, HOME_ADDRESS, 9, status, 60)
    return binding_acknowledgement_packet(message, binding_acknowledgement_header(message, None))


def test_a_packet_in_a_tunnel_is_told_with_the_tunnels_addresses() -> None:
    tunnel = octets(CARE_OF_ADDRESS), octets(HOME_AGENT)
    assert parse(TUNNELLED, 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000, *tunnel)


def test_a_packet_outside_of_any_tunnel_is_told_without() -> None:
    assert parse(TUNNELLED[40:], 5.0, 2) == Record(5.0, Kind.SEEN, 2, 3, 70_000, NOWHERE, NOWHERE)


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


def test_nothing_else_is_told_and_nothing_is_read_beyond_the_end() -> None:
    for packet in (TUNNELLED, acknowledgement(Status.ACCEPTED)):
        for length in range(len(packet) - 1):
            parse(packet[:length], 0.0, 0)
    assert parse(TUNNELLED.replace(b"caos", b"else"), 0.0, 0) is None


def test_records_are_read_as_they_were_written() -> None:
    records = [Record(1.5, Kind.SENT, 0, 3, 1), Record(1.75, Kind.SEEN, 2, 3, 1, octets(CN), octets(HOME_AGENT))]
    data = b"".join(record.pack() for record in records)
    assert list(unpack(data + bytes(RECORD.size - 1))) == records
