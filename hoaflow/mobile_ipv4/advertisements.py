# SPDX-License-Identifier: Apache-2.0
"""Read and write Agent Advertisements and Solicitations (RFC 5944, section 2.1; RFC 1256)."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from socket import AF_INET, inet_ntop, inet_pton

from hoaflow.mobile_ipv4.packets import (
    BROADCAST,
    ICMP_PROTOCOL,
    ICMP_SOLICITATION,
    RIGHT,
    Ipv4Packet,
    ipv4_packet,
)
from hoaflow.tunnel.checksum import checksum, ones_complement_sum

ADVERTISEMENT = 9
ROUTES_VISITORS_ONLY = 16
"""The code of an agent that does not say that it routes for others than its visitors."""
HEAD = struct.Struct("!BBHBBH")  # type, code, checksum, addresses, words of each, lifetime
MOBILITY_AGENT = 16
AGENT = struct.Struct("!HHH")  # sequence number, registration lifetime, flags
ONE_OCTET_PADDING = 0
LAST_SEQUENCE, WRAPPED_SEQUENCE = 0xFFFF, 256
"""Below 256 are those of an agent that has started anew (section 2.3.2)."""
LINK_TTL = 1


class AgentFlag(IntFlag):
    """Flags of the Mobility Agent Advertisement Extension; T is of RFC 3024."""

    REGISTRATION_REQUIRED = 0x8000
    BUSY = 0x4000
    HOME_AGENT = 0x2000
    FOREIGN_AGENT = 0x1000
    MINIMAL = 0x0800
    GRE = 0x0400
    REVERSE_TUNNEL = 0x0100


@dataclass(frozen=True, slots=True)
class AgentAdvertisement:
    """An Agent Advertisement. `lifetime` of itself and `registration_lifetime` in seconds."""

    source: str
    lifetime: int
    sequence: int
    registration_lifetime: int
    flags: AgentFlag
    care_of_addresses: tuple[str, ...]


def sequence_after(sequence: int) -> int:
    """Return the sequence number that follows.

    >>> sequence_after(0xFFFF)
    256
    """
    return WRAPPED_SEQUENCE if sequence == LAST_SEQUENCE else sequence + 1


def advertisement_packet(message: AgentAdvertisement, destination: str = BROADCAST) -> bytes:
    """Return the packet of an Agent Advertisement."""
    agent = AGENT.pack(message.sequence, message.registration_lifetime, message.flags)
    body = agent + b"".join(inet_pton(AF_INET, address) for address in message.care_of_addresses)
    rest = bytes((MOBILITY_AGENT, len(body))) + body
    return _icmp(message.source, destination, (ADVERTISEMENT, ROUTES_VISITORS_ONLY, 0, 2, message.lifetime), rest)


def solicitation_packet(source: str) -> bytes:
    """Return the packet of an Agent Solicitation."""
    return _icmp(source, BROADCAST, (ICMP_SOLICITATION, 0, 0, 0, 0), b"")


def is_solicitation(packet: Ipv4Packet) -> bool:
    """Tell whether a packet is an Agent Solicitation of the link (RFC 5944, section 2.2)."""
    return _is_icmp(packet, ICMP_SOLICITATION) and packet.ttl == LINK_TTL


def parse_advertisement(packet: Ipv4Packet) -> AgentAdvertisement | None:
    """Parse an Agent Advertisement; None if the packet is none, or has no Mobility Agent Advertisement Extension."""
    data = packet.payload
    if not _is_icmp(packet, ADVERTISEMENT):
        return None
    _, _, _, addresses, words, lifetime = HEAD.unpack_from(data)
    for kind, body in _extensions(data[HEAD.size + 4 * addresses * words :]):
        if kind == MOBILITY_AGENT and len(body) >= AGENT.size and (len(body) - AGENT.size) % 4 == 0:
            sequence, registration_lifetime, flags = AGENT.unpack_from(body)
            packed = (body[start : start + 4] for start in range(AGENT.size, len(body), 4))
            care_of = tuple(inet_ntop(AF_INET, each) for each in packed)
            return AgentAdvertisement(
                packet.source, lifetime, sequence, registration_lifetime, AgentFlag(flags), care_of
            )
    return None


def _icmp(source: str, destination: str, head: tuple[int, int, int, int, int], rest: bytes) -> bytes:
    kind, code, *others = head
    message = HEAD.pack(kind, code, 0, *others) + rest
    message = HEAD.pack(kind, code, checksum(message), *others) + rest
    return ipv4_packet(source, destination, ICMP_PROTOCOL, message, LINK_TTL)


def _is_icmp(packet: Ipv4Packet, kind: int) -> bool:
    data = packet.payload
    fits = packet.protocol == ICMP_PROTOCOL and len(data) >= HEAD.size and data[0] == kind
    return fits and ones_complement_sum(data) == RIGHT


def _extensions(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each extension, up to one that is cut off."""
    while data:
        if data[0] == ONE_OCTET_PADDING:
            data = data[1:]
            continue
        if len(data) < 2 or len(data) < 2 + data[1]:
            return
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]
