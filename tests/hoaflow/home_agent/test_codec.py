# SPDX-License-Identifier: Apache-2.0
"""Mobile IPv6 on the wire, against what UMIP sent, and the authentication option against RFC 4285's formula."""

import hashlib
import hmac
import socket
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import MIP6MH_BU, IPv6, IPv6ExtHdrRouting, MIP6OptAltCoA, MIP6OptMsgAuth, Pad1
from scapy.utils import checksum, rdpcap

from hoaflow.mobility import wire
from hoaflow.mobility.authentication import SecurityAssociation
from hoaflow.mobility.extension_headers import MalformedPacketError
from hoaflow.mobility.messages import BindingAcknowledgement, BindingError, BindingUpdate
from hoaflow.mobility.neighbours import claimed_address, dad_solicitation, unsolicited_advertisement
from tests.support.bridge import DATA

ETHERNET = 14
SIGNALLING = [bytes(frame)[ETHERNET:] for frame in rdpcap(str(DATA / "mipv6" / "signalling.pcap"))]
UPDATES = [packet for packet in SIGNALLING if packet[6] == 60 and packet[40] == 135]
ACKNOWLEDGEMENTS = [packet for packet in SIGNALLING if packet[6] == 43 and packet[40] == 135]

UPDATE = BindingUpdate(
    source="2001:db8:2::2",
    destination="2001:db8:99::1",
    home_address="2001:db8:99::100",
    care_of_address="2001:db8:2::2",
    sequence=31552,
    lifetime=60,
)
HOME_UPDATE = replace(UPDATE, source=UPDATE.home_address, care_of_address=UPDATE.home_address, lifetime=0)
ACKNOWLEDGEMENT = BindingAcknowledgement(
    source="2001:db8:99::1",
    destination="2001:db8:2::2",
    home_address="2001:db8:99::100",
    sequence=31552,
    status=0,
    lifetime=60,
)
ASSOCIATION = SecurityAssociation(spi=256, key=bytes(range(16)))


def below_flow_label_and_hop_limit(packet: bytes) -> bytes:
    """All of a packet but what its sender chooses freely and what routers on its way change."""
    return packet[4:7] + packet[8:]


def update_packet(update: BindingUpdate, association: SecurityAssociation | None = None) -> bytes:
    """Return a Binding Update's packet, authenticated when there is an association."""
    header = wire.binding_update_header(update, association.spi if association else None)
    if association is not None:
        covered = wire.authenticated_part(header)
        authenticator = association.authenticator(update.care_of_address, update.home_address, covered)
        header = wire.binding_update_header(update, association.spi, authenticator)
    return wire.binding_update_packet(update, header)


def read_update(packet: bytes) -> BindingUpdate:
    """Return the Binding Update in a packet."""
    return wire.parse_binding_update(wire.parse_packet(packet))


def test_the_capture_has_updates_and_acknowledgements() -> None:
    assert (len(UPDATES), len(ACKNOWLEDGEMENTS)) == (8, 8)


@pytest.mark.parametrize("captured", UPDATES)
def test_binding_updates_come_out_as_umip_sent_them(captured: bytes) -> None:
    update = read_update(captured)
    assert (update.home_address, update.lifetime) == ("2001:db8:99::100", 60)
    assert update.acknowledge
    assert update.home_registration
    assert not update.link_local
    assert not update.key_management
    assert below_flow_label_and_hop_limit(update_packet(update)) == below_flow_label_and_hop_limit(captured)


@pytest.mark.parametrize("captured", ACKNOWLEDGEMENTS)
def test_binding_acknowledgements_come_out_as_umip_sent_them(captured: bytes) -> None:
    acknowledgement = wire.parse_binding_acknowledgement(wire.parse_packet(captured))
    header = wire.binding_acknowledgement_header(acknowledgement)
    built = wire.binding_acknowledgement_packet(acknowledgement, header)
    assert below_flow_label_and_hop_limit(built) == below_flow_label_and_hop_limit(captured)
    assert built[7] == captured[7] == 64


@given(
    sequence=st.integers(0, 0xFFFF),
    units=st.integers(0, 0xFFFF),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    networks=st.lists(st.sampled_from(["2001:db8:aa:1::/64", "2001:db8:bb::/48", "::/0"]), unique=True),
    authenticated=st.booleans(),
)
def test_binding_updates_survive_the_wire(
    sequence: int, units: int, flags: tuple[bool, bool, bool, bool, bool], networks: list[str], authenticated: bool
) -> None:
    acknowledge, home_registration, link_local, key_management, mobile_router = flags
    update = replace(
        UPDATE,
        sequence=sequence,
        lifetime=4 * units,
        acknowledge=acknowledge,
        home_registration=home_registration,
        link_local=link_local,
        key_management=key_management,
        mobile_router=mobile_router,
        mobile_networks=tuple(networks),
    )
    found = read_update(update_packet(update, ASSOCIATION if authenticated else None))
    assert replace(found, authentication=None) == update
    assert (found.authentication is not None) == authenticated


def test_an_update_from_home_has_neither_home_address_option_nor_alternate_care_of_address() -> None:
    packet = update_packet(HOME_UPDATE)
    assert packet[6] == 135
    assert len(packet) == 40 + 16
    assert read_update(packet) == HOME_UPDATE


def test_an_acknowledgement_to_the_home_address_has_no_routing_header() -> None:
    acknowledgement = replace(ACKNOWLEDGEMENT, destination=ACKNOWLEDGEMENT.home_address)
    header = wire.binding_acknowledgement_header(acknowledgement)
    packet = wire.binding_acknowledgement_packet(acknowledgement, header)
    assert packet[6] == 135
    assert wire.parse_binding_acknowledgement(wire.parse_packet(packet)) == acknowledgement


@pytest.mark.parametrize("mobile_router", [True, False])
def test_an_acknowledgement_says_whether_it_is_a_mobile_routers(mobile_router: bool) -> None:
    acknowledgement = replace(ACKNOWLEDGEMENT, mobile_router=mobile_router)
    header = wire.binding_acknowledgement_header(acknowledgement)
    assert bytes(header)[7] == 0x40 * mobile_router  # after K (RFC 3963, section 4.2)
    packet = wire.binding_acknowledgement_packet(acknowledgement, header)
    assert wire.parse_binding_acknowledgement(wire.parse_packet(packet)) == acknowledgement


def test_a_mobile_routers_update_is_what_rfc_3963_says() -> None:
    update = replace(UPDATE, mobile_router=True, mobile_networks=("2001:db8:aa:1::/64",))
    header = bytes(wire.binding_update_header(update))
    assert header[8] == 0b11000100  # A, H and R (section 4.1)
    at = header.index(bytes([6, 18, 0, 64]))  # section 4.3
    assert at % 8 == 4
    assert header[at + 4 : at + 20] == socket.inet_pton(socket.AF_INET6, "2001:db8:aa:1::")
    # What is wrong in the option spoils the message; bits behind the prefix are ignored.
    inside = update_packet(update)
    at += 64
    assert read_update(_patched(inside, at + 19, 1)).mobile_networks == update.mobile_networks
    with pytest.raises(MalformedPacketError, match="expected 18 and up to 128"):
        read_update(_patched(inside, at + 3, 129))


def _patched(packet: bytes, at: int, value: int) -> bytes:
    """Return a Binding Update's packet with another octet, and the checksum for that."""
    home, agent = (socket.inet_pton(socket.AF_INET6, each) for each in (UPDATE.home_address, UPDATE.destination))
    data = packet[:at] + bytes([value]) + packet[at + 1 :]
    header = data[64:68] + b"\0\0" + data[70:]
    total = checksum(home + agent + struct.pack("!II", len(header), 135) + header)
    return data[:68] + struct.pack("!H", total) + data[70:]


def test_binding_error_survives_the_wire() -> None:
    error = BindingError("2001:db8:99::1", "2001:db8:2::2", "2001:db8:99::100", 1)
    assert wire.parse_binding_error(wire.parse_packet(wire.binding_error_packet(error))) == error


@pytest.mark.parametrize("update", [UPDATE, HOME_UPDATE], ids=["away", "home"])
def test_authenticator_of_an_update_is_what_rfc_4285_says(update: BindingUpdate) -> None:
    packet = update_packet(update, ASSOCIATION)
    header = packet[40:] if update.from_home else packet[64:]
    assert len(header) % 8 == 0
    # Type 9, length 17, subtype 1, SPI, authenticator: the last option, with nothing behind it.
    option, authenticator = header[-19:-12], header[-12:]
    assert option == b"\x09\x11\x01" + struct.pack("!I", 256)
    addresses = socket.inet_pton(socket.AF_INET6, update.care_of_address) + socket.inet_pton(
        socket.AF_INET6, update.home_address
    )
    data = addresses + header[:4] + b"\0\0" + header[6:-12]
    assert authenticator == hmac.new(bytes(range(16)), data, hashlib.sha1).digest()[:12]
    # RFC 4285, section 5: the option is aligned at 4n+1.
    assert (len(header) - 19) % 4 == 1


def test_authenticator_of_a_fixed_update_stays_what_openssl_made_of_it() -> None:
    # printf '%s' HEX | xxd -r -p | openssl dgst -sha1 -mac HMAC -macopt hexkey:000102030405060708090a0b0c0d0e0f
    # HEX: care-of address, home address, then the header below with a zero checksum.
    covered = bytes.fromhex(
        "3b0605000000"
        + "7b40c000000f"
        + "0100"
        + "031020010db8000200000000000000000002"
        + "0103000000"
        + "09110100000100"
    )
    assert wire.authenticated_part(wire.binding_update_header(UPDATE, 256)) == covered
    made = ASSOCIATION.authenticator(UPDATE.care_of_address, UPDATE.home_address, covered)
    assert made.hex() == "f1ee1643508666a40c0489e3"


def test_padding_may_follow_the_authentication_option() -> None:
    option = MIP6OptMsgAuth(subtype=1, mspi=256, authdata=b"B" * 12)
    header = MIP6MH_BU(cksum=0, seq=1, flags=0x60, mhtime=15, options=[option, Pad1(), Pad1()])
    update = replace(HOME_UPDATE, lifetime=60)
    found = read_update(wire.binding_update_packet(update, header)).authentication
    assert found is not None
    assert found.authenticator == b"B" * 12
    assert found.covered.endswith(b"\x09\x11\x01\x00\x00\x01\x00")


def test_an_authentication_option_that_is_not_the_last_one_does_not_count() -> None:
    option = MIP6OptMsgAuth(subtype=1, mspi=256, authdata=b"B" * 12)
    other = MIP6OptAltCoA(acoa="2001:db8:3::3")
    header = MIP6MH_BU(cksum=0, seq=1, flags=0x60, mhtime=15, options=[option, other])
    assert read_update(wire.binding_update_packet(HOME_UPDATE, header)).authentication is None


@pytest.mark.parametrize("bit", range(0, 8 * 24, 5))
def test_a_changed_bit_is_not_vouched_for(bit: int) -> None:
    found = read_update(update_packet(UPDATE, ASSOCIATION)).authentication
    assert found is not None
    assert ASSOCIATION.vouches_for(found, UPDATE.care_of_address, UPDATE.home_address)
    changed = bytearray(found.covered)
    changed[bit // 8] ^= 1 << bit % 8
    assert not ASSOCIATION.vouches_for(
        replace(found, covered=bytes(changed)), UPDATE.care_of_address, UPDATE.home_address
    )
    assert not ASSOCIATION.vouches_for(found, "2001:db8:2::3", UPDATE.home_address)
    assert not ASSOCIATION.vouches_for(found, UPDATE.care_of_address, "2001:db8:99::101")
    assert not SecurityAssociation(257, ASSOCIATION.key).vouches_for(found, UPDATE.care_of_address, UPDATE.home_address)


def test_a_wrong_checksum_is_refused() -> None:
    packet = bytearray(UPDATES[0])
    packet[-1] ^= 1
    with pytest.raises(MalformedPacketError, match="checksum"):
        wire.parse_packet(bytes(packet))


def test_a_routing_header_of_another_type_is_refused() -> None:
    packet = IPv6(src="2001:db8::1", dst="2001:db8::2") / IPv6ExtHdrRouting(type=0, addresses=["2001:db8::3"])
    with pytest.raises(MalformedPacketError, match="routing header"):
        wire.parse_packet(bytes(packet))


@given(data=st.data())
def test_damaged_packets_are_refused_or_read_but_never_crash(data: st.DataObject) -> None:
    packet = bytearray(data.draw(st.sampled_from([*UPDATES, *ACKNOWLEDGEMENTS, update_packet(UPDATE, ASSOCIATION)])))
    for _ in range(data.draw(st.integers(0, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    del packet[data.draw(st.integers(0, len(packet))) :]
    try:
        found = wire.parse_packet(bytes(packet))
    except MalformedPacketError:
        return
    read_whatever_it_is(found)


@given(header=st.binary(min_size=8, max_size=88), kind=st.sampled_from([5, 6, 7]))
def test_any_mobility_header_is_refused_or_read_but_never_crashes(header: bytes, kind: int) -> None:
    # Past the checksum, where an attacker's packets come to as well.
    whole = header[: len(header) // 8 * 8]
    header = bytes([59, len(whole) // 8 - 1, kind]) + whole[3:]
    read_whatever_it_is(wire.MobilityPacket("2001:db8::1", "2001:db8::2", None, None, 135, header))


def read_whatever_it_is(packet: wire.MobilityPacket) -> None:
    """Read a packet as everything; only MalformedPacketError may come of it."""
    for read in (
        wire.parse_binding_update,
        wire.parse_binding_acknowledgement,
        wire.parse_binding_error,
    ):
        try:
            read(packet)
        except MalformedPacketError:
            continue


def test_more_options_than_anybody_reads_are_refused() -> None:
    """The header's length leaves room for a thousand. Whoever sends them is not known yet."""
    header = bytes(MIP6MH_BU(cksum=0, seq=1, flags=0xC0, options=[Pad1() for _ in range(204)]))
    packet = wire.MobilityPacket("2001:db8:2::2", "2001:db8:99::1", None, None, 135, header)
    with pytest.raises(MalformedPacketError, match="unreadable Mobility Header: Maximum amount of items"):
        wire.parse_binding_update(packet)


def test_who_claims_an_address() -> None:
    address = "2001:db8:99::100"
    assert claimed_address(dad_solicitation(address)) == address
    advertisement = unsolicited_advertisement("2001:db8:99::100", address, b"\x02\0\0\0\0\1")
    assert claimed_address(advertisement) == address
    resolution = next(p for p in SIGNALLING if p[6] == 58 and p[40] == 135)  # somebody asks for another's address
    assert claimed_address(resolution) is None
    forwarded = bytearray(advertisement)
    forwarded[7] = 254  # has passed a router: not of this link
    assert claimed_address(bytes(forwarded)) is None


def test_the_home_agent_advertises_a_home_address_as_its_mobile_node_would() -> None:
    mac = bytes.fromhex("020000000001")
    packet = unsolicited_advertisement("2001:db8:99::1", "2001:db8:99::100", mac)
    assert (packet[7], packet[8:40]) == (255, _packed("2001:db8:99::1") + _packed("ff02::1"))
    kind, code, _, flags = struct.unpack_from("!BBHI", packet, 40)
    assert (kind, code, flags) == (136, 0, 0x20000000)  # Override; neither Router nor Solicited
    assert packet[48:] == _packed("2001:db8:99::100") + b"\x02\x01" + mac


def test_detection_asks_from_the_unspecified_address() -> None:
    packet = dad_solicitation("2001:db8:99::100")
    assert (packet[7], packet[8:40]) == (255, _packed("::") + _packed("ff02::1:ff00:100"))
    assert (packet[40], packet[48:]) == (135, _packed("2001:db8:99::100"))  # and no option


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)
