# SPDX-License-Identifier: Apache-2.0
"""Tell what passed a link or a socket, knowing IP and its mobility (RFC 6275, 5213, 5944), nothing of hoaflow: pure."""

import socket
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

from tools.chaos.addresses import CORRESPONDENT, Flow
from topologies.spoof import tunnel_packet

IPV6_HEADER, MOBILITY, ROUTING, FRAGMENT, DESTINATION_OPTIONS, IPV6, UDP = 40, 135, 43, 44, 60, 41, 17
IPV4_HEADER, IPV4 = 20, 4
BINDING_ACKNOWLEDGEMENT, ACCEPTED = 6, 128  # a status below is an acceptance (RFC 6275 section 6.1.8)
UDP_HEADER = 8  # octets
FRAGMENT_OFFSET, IPV4_FRAGMENT_OFFSET = 0xFFF8, 0x1FFF  # masks (RFC 8200 section 4.5, RFC 791)
MAPPED = bytes(10) + b"\xff\xff"  # before an IPv4 address that stands as one of IPv6 (RFC 4291 section 2.5.5.2)
REGISTRATION_PORT, REGISTRATION_REPLY, REPLY_ACCEPTS = 434, 3, (0, 1)  # RFC 5944 section 3.4
HOME_NETWORK_PREFIX = 22  # an option (RFC 5213 section 8.3)
LIFETIME_UNIT = 4  # seconds
PROXY = 0x20  # flag of an acknowledgement (RFC 5213 section 8.2)
PORT = 5300
PAYLOAD = struct.Struct("!4sHI")  # magic, flow, number; what follows is padding
LARGE_EVERY = 5  # packets of a flow
# Octets of the large ones; a tunnel on a link of 1500 carries 1460, or 1480 in IPv4. Linux does not fragment what a
# mobile node sends into a tunnel that is a seg6 route, so its large ones fit into a tunnel on a link of 1400.
LARGE, MOBILE_NODES_LARGE = 1448, 1360
MAGIC = b"caos"
RECORD = struct.Struct("!dBBHI16s16s")
NOWHERE = bytes(16)


class Kind(IntEnum):
    """Say what a record is about."""

    SENT = 0  # by the flow's source
    RECEIVED = 1  # by the flow's destination
    SEEN = 2  # coming in on a link
    REGISTERED = 3  # a reply to a registration that accepts it came in; `number` is the lifetime in seconds


class Record(NamedTuple):
    """Record one packet; `point` is the number of the node or link, `at` in seconds since the epoch.

    outer: source and destination of the tunnel it is in, NOWHERE outside of any. In a registration they are home
    address, or home network prefix, and care-of address. Those of IPv4 are mapped into IPv6's.
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


def octets(address: str) -> bytes:
    """Return an address as it stands in records."""
    return socket.inet_pton(socket.AF_INET6, address) if ":" in address else MAPPED + socket.inet_aton(address)


def _headers(flow: Flow) -> int:
    return UDP_HEADER + (IPV6_HEADER if ":" in flow.source_address else IPV4_HEADER)


def size(flow: Flow, number: int) -> int:
    """Return how many octets a flow's packet of this number has."""
    if number % LARGE_EVERY:
        return _headers(flow) + PAYLOAD.size
    return LARGE if flow.source == CORRESPONDENT else MOBILE_NODES_LARGE


def payload(flow: Flow, number: int) -> bytes:
    """Return what a packet of a flow carries by UDP."""
    return PAYLOAD.pack(MAGIC, flow.number, number).ljust(size(flow, number) - _headers(flow), b"\0")


def unpack(data: bytes) -> Iterator[Record]:
    """Return the records of a file, ignoring an unfinished last one."""
    for at, kind, *rest in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        yield Record(at, Kind(kind), *rest)


class _Datagram(NamedTuple):
    """An IP packet without its headers: of IPv6, `home_address` is that of a type 2 routing header, if it has one."""

    source: bytes
    destination: bytes
    home_address: bytes
    protocol: int
    payload: bytes


def parse(packet: bytes, at: float, point: int) -> Record | None:
    """Return the record of an IP packet that came in on a link, None for one of no interest.

    Of fragments, the first counts: it has the payload's begin.
    """
    outer = NOWHERE, NOWHERE
    while (found := _ipv6(packet) or _ipv4(packet)) is not None and found.protocol in (IPV6, IPV4):
        outer, packet = (found.source, found.destination), found.payload
    if found is None:
        return None
    if found.protocol == UDP and len(found.payload) >= UDP_HEADER + PAYLOAD.size:
        magic, flow, number = PAYLOAD.unpack_from(found.payload, UDP_HEADER)
        return Record(at, Kind.SEEN, point, flow, number, *outer) if magic == MAGIC else _reply(found, at, point)
    if found.protocol == MOBILITY:
        return _acknowledgement(found, at, point)
    return None


def _ipv6(packet: bytes) -> _Datagram | None:
    if len(packet) <= IPV6_HEADER or packet[0] >> 4 != 6:
        return None
    source, destination = packet[8:24], packet[24:40]
    header, rest, home_address = packet[6], packet[IPV6_HEADER:], destination
    if header in (ROUTING, DESTINATION_OPTIONS) and len(rest) >= 24:
        if header == ROUTING and rest[2] == 2:  # type 2 carries the home address (RFC 6275 section 6.4)
            home_address = rest[8:24]
        header, rest = rest[0], rest[8 + 8 * rest[1] :]
    if header == FRAGMENT and len(rest) >= 8 and not int.from_bytes(rest[2:4], "big") & FRAGMENT_OFFSET:
        header, rest = rest[0], rest[8:]
    return _Datagram(source, destination, home_address, header, rest)


def _ipv4(packet: bytes) -> _Datagram | None:
    if len(packet) <= IPV4_HEADER or packet[0] >> 4 != 4 or int.from_bytes(packet[6:8], "big") & IPV4_FRAGMENT_OFFSET:
        return None
    source, destination = MAPPED + packet[12:16], MAPPED + packet[16:20]
    return _Datagram(source, destination, destination, packet[9], packet[4 * (packet[0] & 15) :])


def _reply(found: _Datagram, at: float, point: int) -> Record | None:
    """Return the record of a Registration Reply that accepts (RFC 5944 section 3.4)."""
    source_port, _, _, _, kind, code, lifetime = struct.unpack_from("!HHHHBBH", found.payload)
    if (source_port, kind) != (REGISTRATION_PORT, REGISTRATION_REPLY) or code not in REPLY_ACCEPTS:
        return None
    home_address = MAPPED + found.payload[12:16]
    return Record(at, Kind.REGISTERED, point, 0, lifetime, home_address, found.destination)


def _acknowledgement(found: _Datagram, at: float, point: int) -> Record | None:
    """Return the record of a Binding Acknowledgement that accepts."""
    rest, home_address = found.payload, found.home_address
    if len(rest) < 12 or rest[2] != BINDING_ACKNOWLEDGEMENT or rest[6] >= ACCEPTED:
        return None
    (lifetime,) = struct.unpack_from("!H", rest, 10)
    if rest[7] & PROXY:
        prefix = _option(rest[12 : 8 + 8 * rest[1]], HOME_NETWORK_PREFIX)
        if len(prefix) != 18 or not lifetime:  # a former gateway's registration has ended
            return None
        home_address = prefix[2:]
    return Record(at, Kind.REGISTERED, point, 0, LIFETIME_UNIT * lifetime, home_address, found.destination)


def _option(options: bytes, wanted: int) -> bytes:
    """Return the data of a mobility option (RFC 6275 section 6.2), nothing without it."""
    while len(options) >= 2 and options[0] != wanted:
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return options[2 : 2 + options[1]] if len(options) >= 2 else b""


def forged(outer_source: str, outer_destination: str, source: str, destination: str, flow: int, number: int) -> bytes:
    """Return a packet in a tunnel, with any addresses of one family that one likes."""
    body = PAYLOAD.pack(MAGIC, flow, number)
    return tunnel_packet((outer_source, outer_destination), (source, destination), PORT, body)
