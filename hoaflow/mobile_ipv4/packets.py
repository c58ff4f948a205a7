# SPDX-License-Identifier: Apache-2.0
"""Read and write the IPv4 packets between mobile nodes and foreign agents on their link, from the IPv4 header on.

They go by packet sockets: what matters of them is the link-layer address that they come from and go to, as a visitor's
address is not of the link, and nobody there may be asked for it by ARP (RFC 5944, section 4.6).
"""

import struct
from socket import AF_INET, inet_ntop, inet_pton
from typing import NamedTuple

from hoaflow.mobile_ipv4.messages import REGISTRATION_PORT
from hoaflow.tunnel.checksum import checksum, ones_complement_sum

BROADCAST, BROADCAST_MAC = "255.255.255.255", b"\xff" * 6
IPV4 = struct.Struct("!BBHHHBBH4s4s")
UDP = struct.Struct("!HHHH")
VERSION_AND_LENGTH = 0x45  # without options
ICMP_PROTOCOL, UDP_PROTOCOL = 1, 17
FRAGMENT = 0x3FFF  # more fragments, or an offset
RIGHT = 0xFFFF
ICMP_SOLICITATION = 10
_LOAD_BYTE, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x30, 0x28, 0x15, 0x06


class Ipv4Packet(NamedTuple):
    """A packet without options. `mac`: the link-layer address that it came from."""

    source: str
    destination: str
    ttl: int
    protocol: int
    payload: bytes
    mac: bytes


class Datagram(NamedTuple):
    """A UDP datagram's ports and payload."""

    source_port: int
    destination_port: int
    payload: bytes


def parse_ipv4(data: bytes, mac: bytes) -> Ipv4Packet | None:
    """Parse a packet; None for one with options, a fragment, or one that is cut off."""
    if len(data) < IPV4.size or data[0] != VERSION_AND_LENGTH or ones_complement_sum(data[: IPV4.size]) != RIGHT:
        return None
    _, _, length, _, fragment, ttl, protocol, _, source, destination = IPV4.unpack_from(data)
    if fragment & FRAGMENT or not IPV4.size <= length <= len(data):
        return None
    ends = inet_ntop(AF_INET, source), inet_ntop(AF_INET, destination)
    return Ipv4Packet(*ends, ttl, protocol, data[IPV4.size : length], mac)


def parse_udp(packet: Ipv4Packet) -> Datagram | None:
    """Parse the datagram in a packet; None if it is cut off or its checksum is wrong (RFC 5944, section 3.7.2.1).

    In a packet that never left this host, the kernel has left the checksum to the interface: the field then has the sum
    of the pseudo header alone.
    """
    data = packet.payload
    if len(data) < UDP.size:
        return None
    source_port, destination_port, length, found = UDP.unpack_from(data)
    if not UDP.size <= length <= len(data):
        return None
    pseudo = _pseudo_header(packet.source, packet.destination, length)
    if found and ones_complement_sum(pseudo + data[:length]) != RIGHT and found != ones_complement_sum(pseudo):
        return None
    return Datagram(source_port, destination_port, data[UDP.size : length])


def udp_packet(source: str, destination: str, ports: tuple[int, int], payload: bytes, ttl: int) -> bytes:
    """Return a packet with a datagram; `ports`: source and destination."""
    length = UDP.size + len(payload)
    pseudo = _pseudo_header(source, destination, length)
    summed = checksum(pseudo + UDP.pack(*ports, length, 0) + payload) or RIGHT
    return ipv4_packet(source, destination, UDP_PROTOCOL, UDP.pack(*ports, length, summed) + payload, ttl)


def ipv4_packet(source: str, destination: str, protocol: int, payload: bytes, ttl: int) -> bytes:
    """Return a packet without options."""
    ends = inet_pton(AF_INET, source), inet_pton(AF_INET, destination)
    head = IPV4.pack(VERSION_AND_LENGTH, 0, IPV4.size + len(payload), 0, 0, ttl, protocol, 0, *ends)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def icmp_messages(kind: int) -> list[tuple[int, int, int, int]]:
    """Return the BPF program for ICMP messages of a type, without IP options."""
    return [
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_EQUAL, 0, 3, ICMP_PROTOCOL),
        (_LOAD_BYTE, 0, 0, 20),
        (_JUMP_EQUAL, 0, 1, kind),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ]


def for_foreign_agents() -> list[tuple[int, int, int, int]]:
    """Return the BPF program for agent solicitations and datagrams to the port of registrations."""
    return [
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_EQUAL, 0, 2, UDP_PROTOCOL),
        (_LOAD_HALF, 0, 0, 22),
        (_JUMP_EQUAL, 3, 4, REGISTRATION_PORT),
        (_JUMP_EQUAL, 0, 3, ICMP_PROTOCOL),
        (_LOAD_BYTE, 0, 0, 20),
        (_JUMP_EQUAL, 0, 1, ICMP_SOLICITATION),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    ]


def _pseudo_header(source: str, destination: str, length: int) -> bytes:
    ends = inet_pton(AF_INET, source) + inet_pton(AF_INET, destination)
    return ends + struct.pack("!BBH", 0, UDP_PROTOCOL, length)
