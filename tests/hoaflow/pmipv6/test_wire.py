# SPDX-License-Identifier: Apache-2.0
"""Proxy Mobile IPv6 on the wire: against what OAI PMIPv6 sent, and there and back."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import MIP6MH_BU, MIP6OptMNID
from scapy.utils import rdpcap

from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.wire import MobilityPacket, parse_packet
from hoaflow.pmipv6.messages import (
    ANY_PREFIX,
    Heartbeat,
    Message,
    ProxyBindingAcknowledgement,
    ProxyBindingUpdate,
    Revocation,
    RevocationAcknowledgement,
)
from hoaflow.pmipv6.wire import build, parse, vouched_for
from tests.support.proxy_mobility import DATA

ETHERNET = 14
MAD = DATA.parent / "mad" / "signalling.pcap"
CAPTURED = [bytes(frame)[ETHERNET:] for frame in rdpcap(str(DATA / "signalling.pcap"))]
UPDATES = [packet for packet in CAPTURED if (packet[6], packet[42]) == (135, 5)]
ACKNOWLEDGEMENTS = [packet for packet in CAPTURED if (packet[6], packet[42]) == (135, 6)]
ASSOCIATION = SecurityAssociation(spi=256, key=bytes(range(16)))
ENDS = ("2001:db8:2::2", "2001:db8:98::1")
PREFIXES = ("2001:db8:f1:1::/64", "2001:db8:f1:2::/64")

octets16, octets32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
identifiers = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=1, max_size=60)
timestamps = st.none() | st.integers(0, 2**64 - 1)
registrations = {
    "sequence": octets16,
    "lifetime": octets16.map(lambda units: 4 * units),
    "identifier": st.just("") | identifiers,
    "prefixes": st.sampled_from([(), ("::/0",), PREFIXES[:1], PREFIXES]),
    "handoff": st.none() | st.integers(0, 255),
    "access_technology": st.none() | st.integers(0, 255),
    "link_layer": st.binary(max_size=8),
    "link_local": st.sampled_from([None, "::", "fe80::1"]),
    "timestamp": timestamps,
    "group": st.none() | octets32,
}
messages = st.one_of(
    st.builds(ProxyBindingUpdate, *map(st.just, ENDS), **registrations),
    st.builds(ProxyBindingAcknowledgement, *map(st.just, ENDS), status=st.integers(0, 255), **registrations),
    st.builds(
        Heartbeat,
        *map(st.just, ENDS),
        sequence=octets32,
        response=st.booleans(),
        unsolicited=st.booleans(),
        restart_counter=st.none() | octets32,
        timestamp=timestamps,
    ),
    st.builds(
        Revocation,
        *map(st.just, ENDS),
        sequence=octets16,
        trigger=st.integers(0, 255),
        identifier=st.just("") | identifiers,
        prefixes=st.just(PREFIXES),
        everything=st.booleans(),
        timestamp=timestamps,
    ),
    st.builds(
        RevocationAcknowledgement,
        *map(st.just, ENDS),
        sequence=octets16,
        status=st.integers(0, 255),
        identifier=st.just("") | identifiers,
        everything=st.booleans(),
        timestamp=timestamps,
    ),
)


def read(packet: bytes) -> Message | None:
    return parse(parse_packet(packet))


def whole(captured: bytes, flags: int = 0) -> bytes:
    """Return a captured Mobility Header with the last padding, which OAI omits, the right length, and no checksum.

    OAI's headers are no multiple of 8 octets long, so that the last option exceeds the length that they tell.
    """
    header = bytearray(captured[40:] + bytes([1, 2, 0, 0]))
    assert header[1] == len(header) // 8 - 2
    header[1] += 1
    header[4:6] = bytes(2)
    header[7] |= flags
    return bytes(header)


def built(message: Message) -> bytes:
    """Return the Mobility Header that is made of a message, without its checksum."""
    packet = build(message, None)
    return packet[40:44] + bytes(2) + packet[46:]


def test_the_capture_has_updates_and_acknowledgements() -> None:
    assert (len(UPDATES), len(ACKNOWLEDGEMENTS)) == (11, 10)


@pytest.mark.parametrize("captured", UPDATES)
def test_updates_come_out_as_oai_sent_them(captured: bytes) -> None:
    update = parse(MobilityPacket(*ENDS, None, None, 135, whole(captured)))
    assert isinstance(update, ProxyBindingUpdate)
    assert (update.prefixes, update.handoff, update.access_technology) == (("2001:db8:f1:1::/128",), 3, 4)
    assert update.link_layer == bytes.fromhex("000000fffe000a01")
    assert built(update) == whole(captured)


@pytest.mark.parametrize("captured", ACKNOWLEDGEMENTS)
def test_acknowledgements_come_out_as_oai_sent_them_but_for_flag_p(captured: bytes) -> None:
    """RFC 5213, section 8.2. Without it they are Mobile IPv6's."""
    assert parse(MobilityPacket(*ENDS, None, None, 135, whole(captured))) is None
    flagged = whole(captured, flags=0x20)
    acknowledgement = parse(MobilityPacket(*ENDS, None, None, 135, flagged))
    assert isinstance(acknowledgement, ProxyBindingAcknowledgement)
    assert acknowledgement.accepted
    assert built(acknowledgement) == flagged


@pytest.mark.parametrize("captured", UPDATES[:1])
def test_a_header_that_is_longer_than_it_tells_is_refused(captured: bytes) -> None:
    with pytest.raises(MalformedPacketError, match="checksum"):
        read(captured)


def test_what_mad_sends_is_refused() -> None:
    """Its headers are longer than they tell, too, and have options of its own."""
    packets = [bytes(frame)[ETHERNET:] for frame in rdpcap(str(MAD))]
    signalling = [packet for packet in packets if packet[6] == 135]
    assert len(signalling) == 6
    for packet in signalling:
        with pytest.raises(MalformedPacketError):
            read(packet)


@given(messages, st.booleans())
def test_messages_come_back_as_they_were(message: Message, authenticated: bool) -> None:
    found = read(build(message, ASSOCIATION if authenticated else None))
    assert found is not None
    assert vouched_for(found, ASSOCIATION) is authenticated
    assert replace(found, authentication=None) == message


@given(messages, st.data())
def test_a_message_that_was_changed_is_not_vouched_for(message: Message, data: st.DataObject) -> None:
    packet = bytearray(build(message, ASSOCIATION))
    found = read(bytes(packet))
    assert found is not None
    assert not vouched_for(found, SecurityAssociation(256, bytes(16)))
    # As if sent back to its sender.
    assert not vouched_for(replace(found, source=ENDS[1], destination=ENDS[0]), ASSOCIATION)
    at = data.draw(st.integers(43, len(packet) - 1).filter(lambda octet: octet not in (44, 45)))
    packet[at] ^= data.draw(st.integers(1, 255))
    for changed in read_whatever(packet):
        assert not vouched_for(changed, ASSOCIATION)


@given(messages, st.binary(max_size=64), st.integers(0, 120))
def test_whatever_comes_is_read_or_refused(message: Message, junk: bytes, at: int) -> None:
    packet = bytearray(build(message, None))
    packet[48 + at : 48 + at + len(junk)] = junk
    list(read_whatever(packet))


def read_whatever(packet: bytes | bytearray) -> Iterator[Message]:
    """Yield what is read from a Mobility Header, whatever its checksum; nothing if it is refused."""
    payload = bytes(packet[40:])
    try:
        found = parse(MobilityPacket(*ENDS, None, None, 135, payload))
    except MalformedPacketError:
        return
    if found is not None:
        yield found


def test_the_flags_of_a_revocation() -> None:
    """RFC 5846, section 5.1: P, V and G are the first bits after the sequence number."""
    for everything, flags in ((False, 0x80), (True, 0xA0)):
        header = built(Revocation(*ENDS, 7, 128, everything=everything))
        assert header[6:12] == bytes([1, 128, 0, 7, flags, 0])


def test_flag_b_comes_with_the_group() -> None:
    """RFC 6602, sections 4.1 to 4.3."""
    option, padding = bytes([50, 6, 1, 0, 0, 0, 1, 2]), bytes([1, 2, 0, 0])
    updated = built(ProxyBindingUpdate(*ENDS, 7, 60, group=0x102))
    assert updated[6:] == bytes([0, 7, 0x82, 0x40, 0, 15]) + option + padding
    assert built(ProxyBindingUpdate(*ENDS, 7, 60))[6:] == bytes([0, 7, 0x82, 0, 0, 15]) + padding
    acknowledged = built(ProxyBindingAcknowledgement(*ENDS, 7, 175, 60, group=0x102))
    assert acknowledged[6:] == bytes([175, 0x28, 0, 7, 0, 15]) + option + padding
    # Without the flag, or of another subtype, an option is of no group.
    for at, octet in ((9, 0), (14, 2)):
        changed = bytearray(built(ProxyBindingUpdate(*ENDS, 7, 60, group=0x102)))
        changed[at] = octet
        update = parse(MobilityPacket(*ENDS, None, None, 135, bytes(changed)))
        assert isinstance(update, ProxyBindingUpdate)
        assert update.group is None


@pytest.mark.parametrize("length", [0, 64, 128])
def test_the_prefix_of_zeros_asks_for_one_whatever_its_length(length: int) -> None:
    update = read(build(ProxyBindingUpdate(*ENDS, 1, 60, "mn1", (f"::/{length}",)), None))
    assert isinstance(update, ProxyBindingUpdate)
    assert update.prefixes == (ANY_PREFIX,)


def test_more_prefixes_than_an_answer_has_room_for_are_refused() -> None:
    """They may come without the padding that an answer puts between them."""
    options = bytes([22, 18, 0, 64, 0x20, 1, 0xD, 0xB8, *bytes(12)]) * 98
    header = bytes(MIP6MH_BU(cksum=0, seq=1, flags=0x41)) + options
    header = header[:1] + bytes([len(header) // 8 - 1]) + header[2:]
    with pytest.raises(MalformedPacketError, match="98 home network prefixes, expected at most 32"):
        parse(MobilityPacket(*ENDS, None, None, 135, header))


def with_identifier(subtype: int, octets: bytes) -> MobilityPacket:
    """Return the packet of an update with this Mobile Node Identifier option."""
    option = MIP6OptMNID(subtype=subtype, id=octets)
    return MobilityPacket(*ENDS, None, None, 135, bytes(MIP6MH_BU(cksum=0, seq=1, flags=0x41, options=[option])))


def test_an_identifier_that_is_not_utf_8_is_refused() -> None:
    """Its answer would have to repeat it, and escapes of its octets find no room in the option."""
    with pytest.raises(MalformedPacketError, match="not UTF-8"):
        parse(with_identifier(1, b"\xff" * 200))


def test_an_identifier_of_another_kind_names_nobody() -> None:
    for subtype, identifier in ((1, "mn1"), (2, "")):  # 2: an IPv6 address (RFC 8371)
        update = parse(with_identifier(subtype, b"mn1"))
        assert isinstance(update, ProxyBindingUpdate)
        assert update.identifier == identifier


def test_an_option_of_a_wrong_length_is_refused() -> None:
    packet = bytearray(build(ProxyBindingUpdate(*ENDS, 1, 60, "a", timestamp=1), None))
    at = packet.index(bytes([27, 8]))
    packet[at + 1] = 4
    with pytest.raises(MalformedPacketError, match="option 27 has length 4"):
        parse(MobilityPacket(*ENDS, None, None, 135, bytes(packet[40:])))
