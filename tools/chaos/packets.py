# SPDX-License-Identifier: Apache-2.0
"""Tell what passed a link or a socket, knowing IPv6 and Mobile IPv6 (RFC 6275) and nothing of hoaflow: pure."""

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from tools.chaos.addresses import CORRESPONDENT, Flow

IPV6_HEADER, MOBILITY, ROUTING, FRAGMENT, DESTINATION_OPTIONS, IPV6, UDP = 40, 135, 43, 44, 60, 41, 17
BINDING_ACKNOWLEDGEMENT, ACCEPTED = 6, 128  # a status below is an acceptance (RFC 6275 section 6.1.8)
UDP_HEADER = 8  # octets
FRAGMENT_OFFSET = 0xFFF8  # mask (RFC 8200 section 4.5)
HOME_NETWORK_PREFIX = 22  # an option (RFC 5213 section 8.3)
LIFETIME_UNIT = 4  # seconds
PROXY = 0x20  # flag of an acknowledgement (RFC 5213 section 8.2)
PORT = 5300
PAYLOAD = struct.Struct("!4sHI")  # magic, flow, number; what follows is padding
LARGE_EVERY = 5  # packets of a flow
# Octets of the large ones; a tunnel on a link of 1500 carries 1460. Linux does not fragment what a mobile node sends
# into a tunnel that is a seg6 route, so its large ones fit into a tunnel on a link of 1400.
LARGE, MOBILE_NODES_LARGE = 1448, 1360
MAGIC = b"caos"
RECORD = struct.Struct("!dBBHI16s16s")
NOWHERE = bytes(16)


class Kind(IntEnum):
    """Say what a record is about."""

    SENT = 0  # by the flow's source
    RECEIVED = 1  # by the flow's destination
    SEEN = 2  # coming in on a link
    REGISTERED = 3  # a Binding Acknowledgement that accepts came in; `number` is the lifetime in seconds


class Record(NamedTuple):
    """Record one packet; `point` is the number of the node or link, `at` in seconds since the epoch.

    outer: source and destination of the tunnel it is in, NOWHERE outside of any. In a registration they are home
    address, or home network prefix, and care-of address.
    """

    at: float
    kind: Kind
    point: int
    flow: int
    number: int
    outer_source: bytes = NOWHERE
    outer_destination: bytes = NOWHERE

    def pack(self) -> bytes:
        """Return the record as it stands in a file."""
        return RECORD.pack(*self)


def size(source: str, number: int) -> int:
    """Return how many octets a flow's packet of this number has, by the node that sends it."""
    if number % LARGE_EVERY:
        return IPV6_HEADER + UDP_HEADER + PAYLOAD.size
    return LARGE if source == CORRESPONDENT else MOBILE_NODES_LARGE


def payload(flow: Flow, number: int) -> bytes:
    """Return what a packet of a flow carries by UDP."""
    return PAYLOAD.pack(MAGIC, flow.number, number).ljust(size(flow.source, number) - IPV6_HEADER - UDP_HEADER, b"\0")


def unpack(data: bytes) -> Iterator[Record]:
    """Return the records of a file, ignoring an unfinished last one."""
    for at, kind, *rest in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        yield Record(at, Kind(kind), *rest)


def parse(packet: bytes, at: float, point: int) -> Record | None:
    """Return the record of an IPv6 packet that came in on a link, None for one of no interest.

    Of fragments, the first counts: it has the payload's begin.
    """
    outer = NOWHERE, NOWHERE
    while len(packet) > IPV6_HEADER and packet[0] >> 4 == 6:
        source, destination = packet[8:24], packet[24:40]
        header, rest, home_address = packet[6], packet[IPV6_HEADER:], destination
        if header in (ROUTING, DESTINATION_OPTIONS) and len(rest) >= 24:
            if header == ROUTING and rest[2] == 2:  # type 2 carries the home address (section 6.4)
                home_address = rest[8:24]
            header, rest = rest[0], rest[8 + 8 * rest[1] :]
        if header == FRAGMENT and len(rest) >= 8 and not int.from_bytes(rest[2:4], "big") & FRAGMENT_OFFSET:
            header, rest = rest[0], rest[8:]
        if header == IPV6:
            outer, packet = (source, destination), rest
            continue
        if header == UDP and len(rest) >= UDP_HEADER + PAYLOAD.size:
            magic, flow, number = PAYLOAD.unpack_from(rest, UDP_HEADER)
            return Record(at, Kind.SEEN, point, flow, number, *outer) if magic == MAGIC else None
        if header == MOBILITY and len(rest) >= 12 and rest[2] == BINDING_ACKNOWLEDGEMENT and rest[6] < ACCEPTED:
            (lifetime,) = struct.unpack_from("!H", rest, 10)
            if rest[7] & PROXY:
                prefix = _option(rest[12 : 8 + 8 * rest[1]], HOME_NETWORK_PREFIX)
                if len(prefix) != 18 or not lifetime:  # a former gateway's registration has ended
                    return None
                home_address = prefix[2:]
            return Record(at, Kind.REGISTERED, point, 0, LIFETIME_UNIT * lifetime, home_address, destination)
        return None
    return None


def _option(options: bytes, wanted: int) -> bytes:
    """Return the data of a mobility option (RFC 6275 section 6.2), nothing without it."""
    while len(options) >= 2 and options[0] != wanted:
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return options[2 : 2 + options[1]] if len(options) >= 2 else b""


def forged(outer_source: str, outer_destination: str, source: str, destination: str, flow: int, number: int) -> bytes:
    """Return a packet in a tunnel, with any addresses that one likes."""
    addresses = [socket.inet_pton(socket.AF_INET6, each) for each in (source, destination)]
    length = UDP_HEADER + PAYLOAD.size
    pseudo = b"".join(addresses) + struct.pack("!IxxxB", length, UDP)
    body = PAYLOAD.pack(MAGIC, flow, number)
    checksum = _checksum(pseudo + struct.pack("!HHHH", PORT, PORT, length, 0) + body)
    inner = _header(addresses, UDP, length) + struct.pack("!HHHH", PORT, PORT, length, checksum) + body
    outer = [socket.inet_pton(socket.AF_INET6, each) for each in (outer_source, outer_destination)]
    return _header(outer, IPV6, len(inner)) + inner


def _header(addresses: list[bytes], header: int, length: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, length, header, 64) + b"".join(addresses)


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF
