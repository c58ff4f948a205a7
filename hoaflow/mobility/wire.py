# SPDX-License-Identifier: Apache-2.0
"""Parse and build Mobile IPv6 packets (RFC 6275), also of mobile routers (RFC 3963) and dual-stack nodes (RFC 5555).

Mobility Headers are parsed and built by scapy, the extension headers before them are parsed by
`hoaflow.mobility.extension_headers`.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from typing import Any

from scapy.error import Scapy_Exception
from scapy.layers.inet6 import (
    HAO,
    MIP6MH_BA,
    MIP6MH_BE,
    MIP6MH_BU,
    ICMPv6ParamProblem,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrRouting,
    MIP6OptAltCoA,
    MIP6OptMobNetPrefix,
    MIP6OptMsgAuth,
    Pad1,
    PadN,
)
from scapy.packet import Packet, Raw
from scapy.utils import checksum

from hoaflow.mobility.extension_headers import (
    ERRONEOUS_FIELD,
    MalformedPacketError,
    ParameterProblemError,
    parse_extension_headers,
)
from hoaflow.mobility.ipv4_options import LENGTH, Ipv4AddressAcknowledgementOption, Ipv4HomeAddressOption
from hoaflow.mobility.messages import (
    LIFETIME_UNIT,
    BindingAcknowledgement,
    BindingError,
    BindingUpdate,
    Ipv4AddressAcknowledgement,
    MnHaAuthentication,
)

NO_NEXT_HEADER, MOBILITY_HEADER = 59, 135
BINDING_UPDATE, BINDING_ACKNOWLEDGEMENT, BINDING_ERROR = 5, 6, 7
LEAST_LENGTHS = {1: 1, 2: 1, 3: 2, 4: 2, BINDING_UPDATE: 1, BINDING_ACKNOWLEDGEMENT: 1, BINDING_ERROR: 2}
"""Header Len at least, by MH Type (RFC 6275, section 6.1)."""
MN_HA_SUBTYPE = 1
AUTHENTICATOR_LENGTH = 12
HOP_LIMIT = 64
MINIMUM_MTU = 1280

# Bits of scapy's FlagsField; A is the highest.
_ACKNOWLEDGE, _HOME_REGISTRATION, _LINK_LOCAL, _KEY_MANAGEMENT, _MOBILE_ROUTER = 0x40, 0x20, 0x10, 0x08, 0x02


class _MnHaOption(MIP6OptMsgAuth):
    """The authentication option, aligned so that it ends its header without padding."""

    x = 8
    y = 5  # 8n+5 keeps RFC 4285's 4n+1


@dataclass(frozen=True, slots=True)
class MobilityPacket:
    """An IPv6 packet after its extension headers have been parsed.

    `home_address` is that of the Home Address destination option, `routed_to` that of the type 2 routing header; None
    if there is none. `payload` begins with the header that `next_header` names, `offset` octets after the packet's
    start. A Mobility Header's ends where that header does.
    """

    source: str
    destination: str
    home_address: str | None
    routed_to: str | None
    next_header: int
    payload: bytes
    offset: int = 40

    @property
    def mobility_type(self) -> int:
        """The MH Type. Raises MalformedPacketError if the payload is no Mobility Header."""
        if self.next_header != MOBILITY_HEADER:
            raise MalformedPacketError(f"expected a Mobility Header, got next header {self.next_header}")
        return self.payload[2]

    def check_mobility_header(self) -> None:
        """Check the fields that all Mobility Headers have (RFC 6275, section 9.2). Raises ParameterProblemError."""
        if self.payload[0] != NO_NEXT_HEADER:
            text = f"Payload Proto is {self.payload[0]}, expected {NO_NEXT_HEADER}"
            raise ParameterProblemError(text, ERRONEOUS_FIELD, self.offset)
        if self.payload[1] < (least := LEAST_LENGTHS.get(self.mobility_type, 0)):
            text = f"Header Len is {self.payload[1]}, expected {least} or more for MH Type {self.mobility_type}"
            raise ParameterProblemError(text, ERRONEOUS_FIELD, self.offset + 1)


def parse_packet(data: bytes) -> MobilityPacket:
    """Parse an IPv6 packet, and verify the checksum of its Mobility Header, if it has one.

    Raises MalformedPacketError.
    """
    headers = parse_extension_headers(data)
    payload, source, destination = headers.payload, str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
    if headers.next_header == MOBILITY_HEADER:
        if len(payload) < 8 or len(payload) < (length := 8 * (payload[1] + 1)):
            raise MalformedPacketError("the Mobility Header is longer than its packet")
        payload = payload[:length]  # what follows Payload Proto 59 is ignored (RFC 8200, section 4.7)
        # RFC 6275, sections 6.1.1, 9.3.1 and 6.4.3: the checksum covers home addresses, not care-of addresses.
        pseudo = _pseudo_header(headers.home_address or source, headers.routed_to or destination, len(payload))
        if checksum(pseudo + payload) != 0:
            raise MalformedPacketError("wrong checksum in the Mobility Header")
        if headers.problem is not None:
            raise headers.problem
    return MobilityPacket(
        source, destination, headers.home_address, headers.routed_to, headers.next_header, payload, headers.length
    )


def parse_binding_update(packet: MobilityPacket) -> BindingUpdate:
    """Parse the Binding Update in a packet. Raises MalformedPacketError."""
    message = dissect(packet, MIP6MH_BU, BINDING_UPDATE)
    alternates = [option for option in message.options if isinstance(option, MIP6OptAltCoA)]
    if any(option.olen != 16 for option in alternates):
        raise MalformedPacketError("an Alternate Care-of Address option does not have length 16")
    alternate = next((str(IPv6Address(option.acoa)) for option in alternates), None)
    flags = int(message.flags)
    ipv4 = _option(message, Ipv4HomeAddressOption)
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
        mobile_router=bool(flags & _MOBILE_ROUTER),
        mobile_networks=_mobile_networks(message),
        ipv4_home_address=ipv4 and str(ipv4.address),
        ipv4_prefix=bool(ipv4 and ipv4.prefix),
        authentication=authentication(message, packet.payload),
    )


def parse_binding_acknowledgement(packet: MobilityPacket) -> BindingAcknowledgement:
    """Parse the Binding Acknowledgement in a packet. Raises MalformedPacketError."""
    message = dissect(packet, MIP6MH_BA, BINDING_ACKNOWLEDGEMENT)
    ipv4 = _option(message, Ipv4AddressAcknowledgementOption)
    return BindingAcknowledgement(
        source=packet.source,
        destination=packet.destination,
        home_address=packet.routed_to or packet.destination,
        sequence=message.seq,
        status=message.status,
        lifetime=message.mhtime * LIFETIME_UNIT,
        mobile_router=bool(int(message.flags) & _MOBILE_ROUTER),
        ipv4=ipv4 and Ipv4AddressAcknowledgement(ipv4.status, str(ipv4.address)),
        authentication=authentication(message, packet.payload),
    )


def parse_binding_error(packet: MobilityPacket) -> BindingError:
    """Parse the Binding Error in a packet. Raises MalformedPacketError."""
    message = dissect(packet, MIP6MH_BE, BINDING_ERROR)
    return BindingError(packet.source, packet.destination, str(IPv6Address(message.ha)), message.status)


def binding_update_header(update: BindingUpdate, spi: int | None = None, authenticator: bytes = b"") -> Packet:
    """Build a Binding Update's Mobility Header, checksum 0, with an authentication option if `spi` is given."""
    flags = (
        _ACKNOWLEDGE * update.acknowledge
        | _HOME_REGISTRATION * update.home_registration
        | _LINK_LOCAL * update.link_local
        | _KEY_MANAGEMENT * update.key_management
        | _MOBILE_ROUTER * update.mobile_router
    )
    options: list[Packet] = []
    if not update.from_home:
        # RFC 6275, section 11.7.1: without IPsec a home registration names its care-of address in this option.
        options.append(MIP6OptAltCoA(acoa=update.care_of_address))
    networks = [IPv6Network(prefix) for prefix in update.mobile_networks]
    options += [MIP6OptMobNetPrefix(plen=each.prefixlen, prefix=str(each.network_address)) for each in networks]
    if update.ipv4_home_address is not None:
        options.append(Ipv4HomeAddressOption(address=update.ipv4_home_address, prefix=update.ipv4_prefix))
    options += authentication_option(spi, authenticator)
    return MIP6MH_BU(
        cksum=0, seq=update.sequence, flags=flags, mhtime=update.lifetime // LIFETIME_UNIT, options=options
    )


def binding_acknowledgement_header(
    acknowledgement: BindingAcknowledgement, spi: int | None = None, authenticator: bytes = b""
) -> Packet:
    """Build a Binding Acknowledgement's Mobility Header, checksum 0. The K bit is 0, as there is no IKE here."""
    ipv4 = acknowledgement.ipv4
    options = [] if ipv4 is None else [Ipv4AddressAcknowledgementOption(status=ipv4.status, address=ipv4.address)]
    return MIP6MH_BA(
        cksum=0,
        status=acknowledgement.status,
        flags=_MOBILE_ROUTER * acknowledgement.mobile_router,
        res2=0,
        seq=acknowledgement.sequence,
        mhtime=acknowledgement.lifetime // LIFETIME_UNIT,
        options=[*options, *authentication_option(spi, authenticator)],
    )


def authenticated_part(header: Packet) -> bytes:
    """Return the part that the authentication option at a header's end covers (RFC 4285, section 5.1)."""
    return bytes(header)[:-AUTHENTICATOR_LENGTH]


def binding_update_packet(update: BindingUpdate, header: Packet) -> bytes:
    """Build the packet of a Binding Update, with a Home Address option unless it is sent from the home address."""
    packet = IPv6(src=update.source, dst=update.destination, hlim=HOP_LIMIT)
    if not update.from_home:
        packet /= IPv6ExtHdrDestOpt(nh=MOBILITY_HEADER, options=[HAO(hoa=update.home_address)])
    return with_checksum(packet / header, update.home_address, update.destination)


def binding_acknowledgement_packet(acknowledgement: BindingAcknowledgement, header: Packet) -> bytes:
    """Build the packet of a Binding Acknowledgement, with a type 2 routing header unless sent to the home address."""
    packet = IPv6(src=acknowledgement.source, dst=acknowledgement.destination, hlim=HOP_LIMIT)
    if acknowledgement.destination != acknowledgement.home_address:
        packet /= IPv6ExtHdrRouting(nh=MOBILITY_HEADER, type=2, segleft=1, addresses=[acknowledgement.home_address])
    return with_checksum(packet / header, acknowledgement.source, acknowledgement.home_address)


def binding_error_packet(error: BindingError) -> bytes:
    """Build the packet of a Binding Error."""
    packet = IPv6(src=error.source, dst=error.destination, hlim=HOP_LIMIT)
    header = MIP6MH_BE(cksum=0, status=error.status, ha=error.home_address)
    return with_checksum(packet / header, error.source, error.destination)


def parameter_problem_packet(source: str, data: bytes, problem: ParameterProblemError) -> bytes:
    """Build the ICMPv6 Parameter Problem about a packet, to its source (RFC 4443, section 3.4)."""
    packet = IPv6(src=source, dst=str(IPv6Address(data[8:24])), hlim=HOP_LIMIT)
    packet /= ICMPv6ParamProblem(code=problem.code, ptr=problem.pointer)
    return bytes(packet / Raw(data[: MINIMUM_MTU - len(packet)]))


def _option(message: Any, kind: type[Packet]) -> Any:
    """Return the first option of a kind, None if there is none. Raises MalformedPacketError for a wrong length."""
    option: Any = next((each for each in message.options if isinstance(each, kind)), None)
    if option is not None and option.olen != LENGTH:
        raise MalformedPacketError(f"the option {option.name} has length {option.olen}, expected {LENGTH}")
    return option


def _mobile_networks(message: Any) -> tuple[str, ...]:
    """Return the prefixes of the Mobile Network Prefix options (RFC 3963, section 4.3). Raises MalformedPacketError."""
    options = [option for option in message.options if isinstance(option, MIP6OptMobNetPrefix)]
    if wrong := [f"{option.olen} and prefix length {option.plen}" for option in options if not _is_prefix(option)]:
        raise MalformedPacketError(f"a Mobile Network Prefix option has length {wrong[0]}, expected 18 and up to 128")
    prefixes = (IPv6Network((str(option.prefix), option.plen), strict=False) for option in options)
    return tuple(dict.fromkeys(map(str, prefixes)))


def _is_prefix(option: Any) -> bool:
    return bool(option.olen == 18 and option.plen <= 128)


def _pseudo_header(source: str, destination: str, length: int) -> bytes:
    addresses = IPv6Address(source).packed + IPv6Address(destination).packed
    return addresses + struct.pack("!II", length, MOBILITY_HEADER)


def with_checksum(packet: Packet, source: str, destination: str) -> bytes:
    """Return a packet's bytes with its Mobility Header's checksum, which covers these two addresses."""
    data: bytes = bytes(packet)
    mobility_header: bytes = bytes(packet.lastlayer())
    at = len(data) - len(mobility_header)
    value = checksum(_pseudo_header(source, destination, len(mobility_header)) + mobility_header)
    return data[: at + 4] + struct.pack("!H", value) + data[at + 6 :]


def dissect(packet: MobilityPacket, layer: type[Packet], expected: int) -> Any:
    """Return the scapy layer of a packet's Mobility Header of the expected type. Raises MalformedPacketError."""
    if (found := packet.mobility_type) != expected:
        raise MalformedPacketError(f"MH Type {found}, expected {expected}")
    packet.check_mobility_header()
    try:
        message = layer(packet.payload)
        # scapy keeps what it cannot dissect as raw bytes.
        whole = all(hasattr(option, "otype") for option in message.options) and not message.payload
    # scapy's own: among others, it reads at most 100 options.
    except (struct.error, IndexError, ValueError, TypeError, Scapy_Exception) as error:
        raise MalformedPacketError(f"unreadable Mobility Header: {error}") from error
    if not whole:
        raise MalformedPacketError("unreadable options in the Mobility Header")
    return message


def authentication_option(spi: int | None, authenticator: bytes) -> list[Packet]:
    """Return the authentication option; zeros stand for an empty authenticator. Empty without an SPI."""
    if spi is None:
        return []
    data = authenticator or bytes(AUTHENTICATOR_LENGTH)
    return [_MnHaOption(subtype=MN_HA_SUBTYPE, mspi=spi, authdata=data)]


def authentication(message: Any, header: bytes) -> MnHaAuthentication | None:
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
