# SPDX-License-Identifier: Apache-2.0
"""Parse and build Mobile IPv6 packets (RFC 6275).

Extension headers are parsed here, within bounds, as the addresses that the Mobility Header's checksum covers depend on
them. Mobility Headers themselves are parsed and built by scapy.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BA,
    MIP6MH_BE,
    MIP6MH_BU,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    MIP6OptAltCoA,
    MIP6OptMsgAuth,
    Pad1,
    PadN,
)
from scapy.packet import Packet
from scapy.utils import checksum

from hoaflow.errors import HoaflowError
from hoaflow.mobility.messages import (
    LIFETIME_UNIT,
    BindingAcknowledgement,
    BindingError,
    BindingUpdate,
    MnHaAuthentication,
)

HOP_BY_HOP, ROUTING, NO_NEXT_HEADER, DESTINATION_OPTIONS, MOBILITY_HEADER = 0, 43, 59, 60, 135
BINDING_UPDATE, BINDING_ACKNOWLEDGEMENT, BINDING_ERROR = 5, 6, 7
HOME_ADDRESS_OPTION = 0xC9
MN_HA_SUBTYPE = 1
AUTHENTICATOR_LENGTH = 12
HOP_LIMIT = 64

# Bits of scapy's FlagsField; A is the highest.
_ACKNOWLEDGE, _HOME_REGISTRATION, _LINK_LOCAL, _KEY_MANAGEMENT = 0x40, 0x20, 0x10, 0x08


class MalformedPacketError(HoaflowError, ValueError):
    """A packet is not a well-formed Mobile IPv6 message. The text says why."""


class _MnHaOption(MIP6OptMsgAuth):
    """The authentication option, aligned so that it ends its header without padding."""

    x = 8
    y = 5  # 8n+5 keeps RFC 4285's 4n+1


@dataclass(frozen=True, slots=True)
class MobilityPacket:
    """An IPv6 packet after its extension headers have been parsed.

    `home_address` is that of the Home Address destination option or the type 2 routing header; None if it has neither.
    `payload` begins with the header that `next_header` names.
    """

    source: str
    destination: str
    home_address: str | None
    next_header: int
    payload: bytes

    @property
    def mobility_type(self) -> int:
        """The MH Type. Raises MalformedPacketError if the payload is not a well-formed Mobility Header."""
        if self.next_header != MOBILITY_HEADER:
            raise MalformedPacketError(f"expected a Mobility Header, got next header {self.next_header}")
        if len(self.payload) < 8 or len(self.payload) != 8 * (self.payload[1] + 1):
            raise MalformedPacketError("the Mobility Header's length is not that of the packet")
        if self.payload[0] != NO_NEXT_HEADER:
            raise MalformedPacketError(f"Payload Proto is {self.payload[0]}, expected 59 (RFC 6275, section 9.2)")
        return self.payload[2]


def parse_packet(data: bytes) -> MobilityPacket:
    """Parse an IPv6 packet, and verify the checksum of its Mobility Header, if it has one.

    Raises MalformedPacketError.
    """
    if len(data) < 40 or data[0] >> 4 != 6:
        raise MalformedPacketError("not an IPv6 packet")
    length = struct.unpack_from("!H", data, 4)[0]
    if len(data) < 40 + length:
        raise MalformedPacketError(f"cut off: payload length {length}, {len(data) - 40} bytes came")
    payload = data[40 : 40 + length]  # the rest is padding of the link layer
    next_header, home_address, routed = data[6], None, None
    while next_header in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        if len(payload) < 8 or len(payload) < (header := 8 * (payload[1] + 1)):
            raise MalformedPacketError(f"extension header {next_header} is longer than its packet")
        if next_header == DESTINATION_OPTIONS:
            home_address = _home_address_option(payload[:header]) or home_address
        elif next_header == ROUTING:
            routed = _type2_home_address(payload[:header])
        next_header, payload = payload[0], payload[header:]
    source, destination = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    if next_header == MOBILITY_HEADER:
        # RFC 6275, sections 6.1.1, 9.3.1 and 6.4.3: the checksum covers home addresses, not care-of addresses.
        pseudo = _pseudo_header(home_address or source, routed or destination, len(payload))
        if checksum(pseudo + payload) != 0:
            raise MalformedPacketError("wrong checksum in the Mobility Header")
    return MobilityPacket(source, destination, home_address or routed, next_header, payload)


def parse_binding_update(packet: MobilityPacket) -> BindingUpdate:
    """Parse the Binding Update in a packet. Raises MalformedPacketError."""
    message = _dissect(packet, MIP6MH_BU, BINDING_UPDATE)
    alternate = next((str(IPv6Address(o.acoa)) for o in message.options if isinstance(o, MIP6OptAltCoA)), None)
    flags = int(message.flags)
    return BindingUpdate(
        source=packet.source,
        destination=packet.destination,
        home_address=packet.home_address or packet.source,
        care_of_address=alternate or packet.source,
        sequence=message.seq,
        lifetime=message.mhtime * LIFETIME_UNIT,
        acknowledge=bool(flags & _ACKNOWLEDGE),
        home_registration=bool(flags & _HOME_REGISTRATION),
        link_local=bool(flags & _LINK_LOCAL),
        key_management=bool(flags & _KEY_MANAGEMENT),
        authentication=_authentication(message, packet.payload),
    )


def parse_binding_acknowledgement(packet: MobilityPacket) -> BindingAcknowledgement:
    """Parse the Binding Acknowledgement in a packet. Raises MalformedPacketError."""
    message = _dissect(packet, MIP6MH_BA, BINDING_ACKNOWLEDGEMENT)
    return BindingAcknowledgement(
        source=packet.source,
        destination=packet.destination,
        home_address=packet.home_address or packet.destination,
        sequence=message.seq,
        status=message.status,
        lifetime=message.mhtime * LIFETIME_UNIT,
        authentication=_authentication(message, packet.payload),
    )


def parse_binding_error(packet: MobilityPacket) -> BindingError:
    """Parse the Binding Error in a packet. Raises MalformedPacketError."""
    message = _dissect(packet, MIP6MH_BE, BINDING_ERROR)
    return BindingError(packet.source, packet.destination, str(IPv6Address(message.ha)), message.status)


def binding_update_header(update: BindingUpdate, spi: int | None = None, authenticator: bytes = b"") -> Packet:
    """Build a Binding Update's Mobility Header, checksum 0, with an authentication option if `spi` is given."""
    flags = (
        _ACKNOWLEDGE * update.acknowledge
        | _HOME_REGISTRATION * update.home_registration
        | _LINK_LOCAL * update.link_local
        | _KEY_MANAGEMENT * update.key_management
    )
    options: list[Packet] = []
    if not update.from_home:
        # RFC 6275, section 11.7.1: without IPsec a home registration names its care-of address in this option.
        options.append(MIP6OptAltCoA(acoa=update.care_of_address))
    options += _authentication_option(spi, authenticator)
    return MIP6MH_BU(
        cksum=0, seq=update.sequence, flags=flags, mhtime=update.lifetime // LIFETIME_UNIT, options=options
    )


def binding_acknowledgement_header(
    acknowledgement: BindingAcknowledgement, spi: int | None = None, authenticator: bytes = b""
) -> Packet:
    """Build a Binding Acknowledgement's Mobility Header, checksum 0. The K bit is 0, as there is no IKE here."""
    return MIP6MH_BA(
        cksum=0,
        status=acknowledgement.status,
        flags=0,
        res2=0,
        seq=acknowledgement.sequence,
        mhtime=acknowledgement.lifetime // LIFETIME_UNIT,
        options=_authentication_option(spi, authenticator),
    )


def authenticated_part(header: Packet) -> bytes:
    """Return the part that the authentication option at a header's end covers (RFC 4285, section 5.1)."""
    return bytes(header)[:-AUTHENTICATOR_LENGTH]


def binding_update_packet(update: BindingUpdate, header: Packet) -> bytes:
    """Build the packet of a Binding Update, with a Home Address option unless it is sent from the home address."""
    packet = IPv6(src=update.source, dst=update.destination, hlim=HOP_LIMIT)
    if not update.from_home:
        packet /= IPv6ExtHdrDestOpt(nh=MOBILITY_HEADER, options=[HAO(hoa=update.home_address)])
    return _with_checksum(packet / header, update.home_address, update.destination)


def binding_acknowledgement_packet(acknowledgement: BindingAcknowledgement, header: Packet) -> bytes:
    """Build the packet of a Binding Acknowledgement, with a type 2 routing header unless sent to the home address."""
    packet = IPv6(src=acknowledgement.source, dst=acknowledgement.destination, hlim=HOP_LIMIT)
    if acknowledgement.destination != acknowledgement.home_address:
        packet /= IPv6ExtHdrRouting(nh=MOBILITY_HEADER, type=2, segleft=1, addresses=[acknowledgement.home_address])
    return _with_checksum(packet / header, acknowledgement.source, acknowledgement.home_address)


def binding_error_packet(error: BindingError) -> bytes:
    """Build the packet of a Binding Error."""
    packet = IPv6(src=error.source, dst=error.destination, hlim=HOP_LIMIT)
    header = MIP6MH_BE(cksum=0, status=error.status, ha=error.home_address)
    return _with_checksum(packet / header, error.source, error.destination)


def _home_address_option(header: bytes) -> str | None:
    at = 2
    while at < len(header):
        if header[at] == 0:  # Pad1
            at += 1
            continue
        if at + 2 > len(header) or at + 2 + header[at + 1] > len(header):
            raise MalformedPacketError("a destination option is longer than its header")
        if header[at] == HOME_ADDRESS_OPTION:
            if header[at + 1] != 16:
                raise MalformedPacketError(f"the Home Address option has length {header[at + 1]}, expected 16")
            return str(IPv6Address(header[at + 2 : at + 18]))
        at += 2 + header[at + 1]
    return None


def _type2_home_address(header: bytes) -> str:
    if header[2] != 2 or header[3] != 1 or len(header) != 24:
        raise MalformedPacketError("the routing header is not of type 2 with one segment left")
    return str(IPv6Address(header[8:24]))


def _pseudo_header(source: str, destination: str, length: int) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return addresses + struct.pack("!II", length, MOBILITY_HEADER)


def _with_checksum(packet: Packet, source: str, destination: str) -> bytes:
    data: bytes = bytes(packet)
    mobility_header: bytes = bytes(packet.lastlayer())
    at = len(data) - len(mobility_header)
    value = checksum(_pseudo_header(source, destination, len(mobility_header)) + mobility_header)
    return data[: at + 4] + struct.pack("!H", value) + data[at + 6 :]


def _dissect(packet: MobilityPacket, layer: type[Packet], expected: int) -> Any:
    if (found := packet.mobility_type) != expected:
        raise MalformedPacketError(f"MH Type {found}, expected {expected}")
    try:
        message = layer(packet.payload)
        # scapy keeps what it cannot dissect as raw bytes.
        whole = all(hasattr(option, "otype") for option in message.options) and not message.payload
    except (struct.error, IndexError, ValueError, TypeError) as error:
        raise MalformedPacketError(f"unreadable Mobility Header: {error}") from error
    if not whole:
        raise MalformedPacketError("unreadable options in the Mobility Header")
    return message


def _authentication_option(spi: int | None, authenticator: bytes) -> list[Packet]:
    if spi is None:
        return []
    data = authenticator or bytes(AUTHENTICATOR_LENGTH)
    return [_MnHaOption(subtype=MN_HA_SUBTYPE, mspi=spi, authdata=data)]


def _authentication(message: Any, header: bytes) -> MnHaAuthentication | None:
    """Return the MN-HA option, which must be the last before any padding (RFC 4285, section 5); None without."""
    options = list(message.options)
    trailing = 0
    while options and isinstance(options[-1], Pad1 | PadN):
        trailing += len(options.pop())
    if not options or not isinstance(options[-1], MIP6OptMsgAuth) or options[-1].subtype != MN_HA_SUBTYPE:
        return None
    option = options[-1]
    if len(option.authdata) != AUTHENTICATOR_LENGTH:
        raise MalformedPacketError(f"the authenticator has {len(option.authdata)} bytes, expected 12")
    end = len(header) - trailing - AUTHENTICATOR_LENGTH
    return MnHaAuthentication(option.mspi, header[:4] + b"\0\0" + header[6:end], bytes(option.authdata))
