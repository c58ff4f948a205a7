# SPDX-License-Identifier: Apache-2.0
"""Translate ICMP errors about tunnel packets for the sender of the packet inside. Pure, no I/O.

Tunnels with IPv6 outer headers: RFC 2473 §8, with IPv4 ones: RFC 2003 §4, §5.

An error about a tunnel packet goes to its outer source, the home agent's address. Only the correspondent node can send
smaller packets, and it learns of the error only from another one, about the packet inside.
"""

import ipaddress
import struct
from typing import NamedTuple

from hoaflow.tunnel.checksum import checksum

UNREACHABLE, TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM = 1, 2, 3, 4  # ICMPv6 types (RFC 4443)
ERRORS = (UNREACHABLE, TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM)
ADDRESS_UNREACHABLE = 3  # code of UNREACHABLE
INFORMATIONAL = 128  # the first ICMPv6 type that is no error
ICMP_UNREACHABLE, ICMP_HOST_UNREACHABLE, ICMP_TOO_BIG = 3, 1, 4  # ICMP: a type and two of its codes (RFC 792, RFC 1191)
# ICMP's types of errors that concern a tunnel, with the ICMPv6 types of the same meaning
ICMPV6_TYPES = {ICMP_UNREACHABLE: UNREACHABLE, 11: TIME_EXCEEDED, 12: PARAMETER_PROBLEM}
ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})

IPV6_HEADER, IPV4_HEADER, FRAGMENT_HEADER = 40, 20, 8  # octets
IPV4_PAYLOAD, IPV6_PAYLOAD, ICMP, ICMPV6, FRAGMENT, DESTINATION_OPTIONS = 4, 41, 1, 58, 44, 60
MINIMUM_MTU = 1280  # RFC 8200 §5
ICMP_PAYLOAD = 548  # octets of the packet in an ICMP error: 576 for all of it (RFC 1812 §4.3.2.3)


class TunnelPacketError(NamedTuple):
    """An ICMPv6 or ICMP error about a tunnel packet.

    `kind`: the ICMPv6 type, or that of the same meaning (Fragmentation Needed is Packet Too Big). `room`: octets that
    the link's MTU leaves for the packet inside, 0 unless the error is Packet Too Big. `inner`: the packet inside,
    possibly truncated.
    """

    kind: int
    room: int
    outer_source: str
    outer_destination: str
    inner_source: str
    inner_destination: str
    inner: bytes


class Answer(NamedTuple):
    """An ICMPv6 message, or ICMP if `ipv4`, for the sender of the packet inside.

    The kernel fills in the checksum of ICMPv6.
    """

    destination: str
    message: bytes
    ipv4: bool


def parse(message: bytes) -> TunnelPacketError | None:
    """Parse an ICMPv6 message; None unless it is an error about a tunnel packet and holds the whole inner header."""
    if len(message) < 8 + IPV6_HEADER or message[0] not in ERRORS:
        return None
    outer = message[8:]
    if outer[0] >> 4 != 6:
        return None
    payload, offset = _payload(outer)
    room = max(0, struct.unpack_from("!I", message, 4)[0] - offset) if message[0] == TOO_BIG else 0
    return _error(message[0], room, (_ipv6(outer[8:24]), _ipv6(outer[24:40])), payload, outer[offset:])


def parse_ipv4(packet: bytes) -> TunnelPacketError | None:
    """Parse an IPv4 packet; None unless it is an ICMP error about a tunnel packet and holds the whole inner header.

    Fragmentation Needed that does not say the MTU (before RFC 1191) says nothing that could be passed on.
    """
    message = packet[(packet[0] & 0xF) * 4 :] if packet else b""
    if len(message) < 8 + IPV4_HEADER or (kind := ICMPV6_TYPES.get(message[0])) is None:
        return None
    outer = message[8:]
    offset, mtu = (outer[0] & 0xF) * 4, 0
    if outer[0] >> 4 != 4 or struct.unpack_from("!H", outer, 6)[0] & 0x1FFF:
        return None
    if (message[0], message[1]) == (ICMP_UNREACHABLE, ICMP_TOO_BIG):
        kind, mtu = TOO_BIG, struct.unpack_from("!H", message, 6)[0]
        if mtu <= offset:
            return None
    return _error(kind, max(0, mtu - offset), (_ipv4(outer[12:16]), _ipv4(outer[16:20])), outer[9], outer[offset:])


def _error(kind: int, room: int, outer: tuple[str, str], payload: int, inner: bytes) -> TunnelPacketError | None:
    if payload == IPV6_PAYLOAD and len(inner) >= IPV6_HEADER and inner[0] >> 4 == 6:
        source, destination = _ipv6(inner[8:24]), _ipv6(inner[24:40])
    elif payload == IPV4_PAYLOAD and len(inner) >= IPV4_HEADER and inner[0] >> 4 == 4:
        source, destination = _ipv4(inner[12:16]), _ipv4(inner[16:20])
    else:
        return None
    return TunnelPacketError(kind, room, *outer, source, destination, inner)


def answer(error: TunnelPacketError) -> Answer | None:
    """Return the error about the packet inside, or None if its sender must not or need not be told.

    Packet Too Big keeps its meaning. All other errors concern the tunnel, not the sender, for whom the address is
    unreachable (RFC 2473 §8.1).
    """
    if not _may_be_told(error):
        return None
    return _answer_ipv6(error) if error.inner[0] >> 4 == 6 else _answer_ipv4(error)


def cannot_shrink(error: TunnelPacketError) -> bool:
    """Tell whether the packet does not fit and its sender cannot be asked for smaller ones.

    IPv6 nodes may always send packets of 1280 octets, and IPv4 packets without DF are for the network to fragment. Such
    packets get through only in fragments of the tunnel packet (RFC 2473 §7).
    """
    if error.kind != TOO_BIG:
        return False
    if error.inner[0] >> 4 == 6:
        return error.room < MINIMUM_MTU
    return not error.inner[6] & 0x40


def _payload(outer: bytes) -> tuple[int, int]:
    """Return the tunnel packet's payload protocol (0 if unknown) and the payload's offset."""
    header, offset = outer[6], IPV6_HEADER
    while header == DESTINATION_OPTIONS and offset + 2 <= len(outer):  # the tunnel encapsulation limit
        header, offset = outer[offset], offset + 8 * (outer[offset + 1] + 1)
    if header == FRAGMENT and offset + FRAGMENT_HEADER <= len(outer):
        if struct.unpack_from("!H", outer, offset + 2)[0] >> 3:  # not the first: the inner header is in another one
            return 0, offset
        header, offset = outer[offset], offset + FRAGMENT_HEADER
    return header, offset


def _may_be_told(error: TunnelPacketError) -> bool:
    """Tell whether a node may be sent an error about this packet (RFC 4443 §2.4 (e), RFC 1122 §3.2.2).

    Not if the packet is an error itself, or its source is not a single node.
    """
    source = ipaddress.ip_address(error.inner_source)
    if source.is_multicast or source.is_unspecified or source.is_loopback or source.is_link_local:
        return False
    if source.version == 4:
        if source == ipaddress.IPv4Address("255.255.255.255"):
            return False
        header = (error.inner[0] & 0xF) * 4
        later_fragment = struct.unpack_from("!H", error.inner, 6)[0] & 0x1FFF
        if later_fragment or error.inner[9] != ICMP:
            return not later_fragment
        return len(error.inner) > header and error.inner[header] not in ICMP_ERRORS
    if error.inner[6] == ICMPV6:
        return len(error.inner) > IPV6_HEADER and error.inner[IPV6_HEADER] >= INFORMATIONAL
    return True


def _answer_ipv6(error: TunnelPacketError) -> Answer | None:
    if error.kind == TOO_BIG:
        mtu = max(error.room, MINIMUM_MTU)
        if IPV6_HEADER + struct.unpack_from("!H", error.inner, 4)[0] <= mtu:
            return None
        head = struct.pack("!BBHI", TOO_BIG, 0, 0, mtu)
    else:
        head = struct.pack("!BBHI", UNREACHABLE, ADDRESS_UNREACHABLE, 0, 0)
    return Answer(error.inner_source, head + error.inner[: MINIMUM_MTU - IPV6_HEADER - len(head)], ipv4=False)


def _answer_ipv4(error: TunnelPacketError) -> Answer | None:
    if error.kind == TOO_BIG:
        if cannot_shrink(error) or struct.unpack_from("!H", error.inner, 2)[0] <= error.room:
            return None
        code, mtu = ICMP_TOO_BIG, error.room
    else:
        code, mtu = ICMP_HOST_UNREACHABLE, 0
    body = error.inner[:ICMP_PAYLOAD]
    summed = checksum(struct.pack("!BBHHH", ICMP_UNREACHABLE, code, 0, 0, min(mtu, 0xFFFF)) + body)
    head = struct.pack("!BBHHH", ICMP_UNREACHABLE, code, summed, 0, min(mtu, 0xFFFF))
    return Answer(error.inner_source, head + body, ipv4=True)


def _ipv4(packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed))


def _ipv6(packed: bytes) -> str:
    return str(ipaddress.IPv6Address(packed))
