# SPDX-License-Identifier: Apache-2.0
"""Parse the extension headers of IPv6 packets for Mobile IPv6 (RFC 8200, section 4; RFC 6275, sections 6.3 and 6.4).

The addresses that a Mobility Header's checksum covers depend on them. All reading is within bounds.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

from hoaflow.errors import HoaflowError

IPV6_HEADER = 40
HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS = 0, 43, 60
PAD1, PADN, HOME_ADDRESS = 0, 1, 0xC9
ERRONEOUS_FIELD, UNRECOGNISED_OPTION = 0, 2
"""Codes of an ICMPv6 Parameter Problem (RFC 4443, section 3.4)."""
_SKIP, _DISCARD = 0, 1  # what the highest two bits of an option's type ask of who does not know it


class MalformedPacketError(HoaflowError, ValueError):
    """A packet is not a well-formed Mobile IPv6 message. The text says why."""


class ParameterProblemError(MalformedPacketError):
    """A packet is malformed in a way that its sender is told of, by an ICMPv6 Parameter Problem.

    `pointer` is the offset in octets of what is wrong, from the beginning of the packet.
    """

    def __init__(self, text: str, code: int, pointer: int) -> None:
        super().__init__(text)
        self.code, self.pointer = code, pointer


@dataclass(slots=True)
class ExtensionHeaders:
    """What the headers before the payload say.

    `home_address` is that of the Home Address option, `routed_to` that of the type 2 routing header. `problem`: an
    option that nobody here knows, and of which the sender has to be told. `length` is that of all headers in octets.
    """

    next_header: int
    payload: bytes
    length: int = IPV6_HEADER
    home_address: str | None = None
    routed_to: str | None = None
    problem: ParameterProblemError | None = None


def parse_extension_headers(data: bytes) -> ExtensionHeaders:
    """Parse an IPv6 packet's headers up to the first that is no extension header. Raises MalformedPacketError."""
    if len(data) < IPV6_HEADER or data[0] >> 4 != 6:
        raise MalformedPacketError("not an IPv6 packet")
    length = struct.unpack_from("!H", data, 4)[0]
    if len(data) < IPV6_HEADER + length:
        raise MalformedPacketError(f"cut off: payload length {length}, {len(data) - IPV6_HEADER} bytes came")
    # The rest is padding of the link layer.
    found = ExtensionHeaders(data[6], data[IPV6_HEADER : IPV6_HEADER + length])
    while found.next_header in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
        payload = found.payload
        if len(payload) < 8 or len(payload) < (size := 8 * (payload[1] + 1)):
            raise MalformedPacketError(f"extension header {found.next_header} is longer than its packet")
        if found.next_header == DESTINATION_OPTIONS:
            _destination_options(payload[:size], found)
        elif found.next_header == ROUTING and payload[3] > 0:
            found.routed_to = _type2_home_address(payload[:size])
        found.next_header, found.payload = payload[0], payload[size:]
        found.length += size
    return found


def _destination_options(header: bytes, found: ExtensionHeaders) -> None:
    at = 2
    while at < len(header):
        kind = header[at]
        if kind == PAD1:
            at += 1
            continue
        if at + 2 > len(header) or at + 2 + header[at + 1] > len(header):
            raise MalformedPacketError("a destination option is longer than its header")
        if kind == HOME_ADDRESS:
            if header[at + 1] != 16:
                raise MalformedPacketError(f"the Home Address option has length {header[at + 1]}, expected 16")
            if found.home_address is not None:
                raise MalformedPacketError("there is more than one Home Address option")
            found.home_address = str(IPv6Address(header[at + 2 : at + 18]))
        elif kind >> 6 == _DISCARD:
            raise MalformedPacketError(f"destination option {kind} is unknown and asks to discard the packet")
        elif kind >> 6 != _SKIP and found.problem is None:
            text = f"destination option {kind} is unknown"
            found.problem = ParameterProblemError(text, UNRECOGNISED_OPTION, found.length + at)
        at += 2 + header[at + 1]


def _type2_home_address(header: bytes) -> str:
    if header[2] != 2 or header[3] != 1 or len(header) != 24:
        raise MalformedPacketError("the routing header is not of type 2 with one segment left")
    return str(IPv6Address(header[8:24]))
