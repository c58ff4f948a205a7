# SPDX-License-Identifier: Apache-2.0
"""Mobile IPv6 packets byte by byte, right or wrong on purpose, and what a home agent answers to them."""

import json
import select
import socket
import struct
import sys
from ipaddress import IPv6Address

from scapy.utils import checksum

from hoaflow.mobility import wire
from hoaflow.mobility.packet_io import PacketReceiver, addressed_to
from tests.support.mobility import HOME_ADDRESS, HOME_AGENT, UPLINK_HOP

ACKNOWLEDGE, HOME_REGISTRATION, LINK_LOCAL, KEY_MANAGEMENT = 0x80, 0x40, 0x20, 0x10
HOME_ADDRESS_OPTION, ROUTING, DESTINATION_OPTIONS, MOBILITY, ICMPV6 = 0xC9, 43, 60, 135, 58
NOBODY = "2001:db8:99::ffff"
PADN2 = b"\x01\x00"
ANSWERED_WITHIN = 15.0  # seconds


def option(kind: int, value: bytes) -> bytes:
    """Return a destination or mobility option."""
    return bytes([kind, len(value)]) + value


def home_address_option(home: str = HOME_ADDRESS) -> bytes:
    """Return a Home Address option."""
    return option(HOME_ADDRESS_OPTION, IPv6Address(home).packed)


def destination_options(*options: bytes, payload: int = MOBILITY) -> bytes:
    """Return a Destination Options header, with the padding that aligns its last option's end."""
    content = b"".join((PADN2, PADN2, *options))
    content += bytes(-(2 + len(content)) % 8)  # Pad1
    return bytes([payload, (2 + len(content)) // 8 - 1]) + content


def type2_routing(home: str, payload: int = MOBILITY) -> bytes:
    """Return a type 2 routing header."""
    return bytes([payload, 2, 2, 1, 0, 0, 0, 0]) + IPv6Address(home).packed


def mobility_header(kind: int, content: bytes, proto: int = 59, length: int | None = None, reserved: int = 0) -> bytes:
    """Return a Mobility Header without its checksum; `length`: what it says of itself in place of the truth."""
    content += bytes(-(6 + len(content)) % 8)
    truth = (6 + len(content)) // 8 - 1
    return bytes([proto, truth if length is None else length, kind, reserved, 0, 0]) + content


def binding_update(
    sequence: int, flags: int = ACKNOWLEDGE | HOME_REGISTRATION, units: int = 15, *options: bytes, **header: int
) -> bytes:
    """Return a Binding Update's Mobility Header; `units` of four seconds."""
    return mobility_header(5, struct.pack("!HBBH", sequence, flags, 0, units) + b"".join(options), **header)


def packet(
    *headers: bytes,
    first: int,
    source: str = UPLINK_HOP,
    home: str | None = None,
    final: str = HOME_AGENT,
    trailing: bytes = b"",
) -> bytes:
    """Return the IPv6 packet of these headers to the home agent; the last one's checksum is filled in if it is a MH.

    `home` and `final`: the addresses that the checksum covers in place of source and destination.
    """
    *before, last = headers
    if first == MOBILITY or (before and before[-1][0] == MOBILITY):
        ends = IPv6Address(home or source).packed + IPv6Address(final).packed
        covered = last[: 8 * (last[1] + 1)]
        value = checksum(ends + struct.pack("!II", len(covered), MOBILITY) + covered)
        last = last[:4] + struct.pack("!H", value) + last[6:]
    content = b"".join((*before, last, trailing))
    head = struct.pack("!IHBB", 6 << 28, len(content), first, 64)
    return head + IPv6Address(source).packed + IPv6Address(HOME_AGENT).packed + content


def from_abroad(header: bytes, *more: bytes, home: str = HOME_ADDRESS, trailing: bytes = b"") -> bytes:
    """Return a packet with a Home Address option before its Mobility Header, `more` options behind that one."""
    before = destination_options(home_address_option(home), *more)
    return packet(before, header, first=DESTINATION_OPTIONS, home=home, trailing=trailing)


def exchange(packets: list[bytes]) -> list[list[str]]:
    """Send packets from UPLINK_HOP, and return what the home agent answers to each. Raises TimeoutError.

    After each comes a deregistration of an address that nobody has. It is answered in its turn, so no answer is waited
    for that does not come.
    """
    receiver = PacketReceiver(addressed_to(UPLINK_HOP, (MOBILITY, ICMPV6, ROUTING)))
    answers: list[list[str]] = []
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number, each in enumerate(packets):
            for data in (each, from_abroad(binding_update(number, units=0), home=NOBODY)):
                raw.sendto(data, (HOME_AGENT, 0))
            found: list[str] = []
            while not any(NOBODY in answer for answer in found):
                if not select.select([receiver], [], [], ANSWERED_WITHIN)[0]:
                    raise TimeoutError(f"no answer to packet {number}, nor to what came after it")
                found += [described(data) for data in receiver.packets() if not _is_informational(data)]
            answers.append([answer for answer in found if NOBODY not in answer])
    receiver.close()
    return answers


def _is_informational(data: bytes) -> bool:
    return data[6] == ICMPV6 and data[40] >= 128


def described(data: bytes) -> str:
    """Describe an answer in words."""
    if data[6] == ICMPV6:
        kind, code, pointer = struct.unpack_from("!BB2xI", data, 40)
        return f"icmp {kind} code {code} at {pointer}"
    found = wire.parse_packet(data)
    if found.mobility_type == wire.BINDING_ERROR:
        error = wire.parse_binding_error(found)
        return f"error {error.status} {error.home_address}"
    answer = wire.parse_binding_acknowledgement(found)
    key_management = found.payload[7] >> 7
    return f"ack {answer.status} {answer.home_address} sequence {answer.sequence} K {key_management}"


if __name__ == "__main__":
    print(json.dumps(exchange([bytes.fromhex(text) for text in sys.argv[1:]])))
