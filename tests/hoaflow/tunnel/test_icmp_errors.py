# SPDX-License-Identifier: Apache-2.0
"""What an ICMP error for a tunnel packet means to the sender of the packet inside (RFC 2473 §8, RFC 2003 §4)."""

import socket
import struct

import pytest

from hoaflow.tunnel.icmp_errors import (
    Answer,
    TunnelPacketError,
    answer,
    cannot_shrink,
    parse,
    parse_ipv4,
)

HA, COA, HOA, CN = "2001:db8:99::1", "2001:db8:2::2", "2001:db8:99::100", "2001:db8:1::2"
HOA4, CN4 = "10.9.0.1", "10.1.0.2"
UDP, ICMPV6, ICMP = 17, 58, 1


def ipv6(source: str, destination: str, payload: bytes, header: int, length: int | None = None) -> bytes:
    addresses = b"".join(socket.inet_pton(socket.AF_INET6, each) for each in (source, destination))
    return struct.pack("!IHBB", 6 << 28, len(payload) if length is None else length, header, 64) + addresses + payload


def ipv4(payload: bytes, *, length: int = 1400, keep: bool = True, offset: int = 0, header: int = UDP) -> bytes:
    """Return an IPv4 packet; `keep`: with the flag DF."""
    addresses = b"".join(socket.inet_pton(socket.AF_INET, each) for each in (CN4, HOA4))
    return struct.pack("!BBHHHBBH", 0x45, 0, length, 1, keep << 14 | offset, 64, header, 0) + addresses + payload


def error(inner: bytes, payload: int = 41, kind: int = 2, mtu: int = 1400, between: bytes = b"") -> bytes:
    """Return an ICMPv6 error for a tunnel packet; `between`: an extension header before the inner one."""
    outer = ipv6(HA, COA, between + inner, (between and 60) or payload)
    return struct.pack("!BBHI", kind, 0, 0, mtu) + outer[:1232]


def parsed(*arguments: object, **named: object) -> TunnelPacketError:
    found = parse(error(*arguments, **named))  # type: ignore[arg-type]
    assert found is not None
    return found


def told(*arguments: object, **named: object) -> Answer | None:
    return answer(parsed(*arguments, **named))


def large(source: str = CN, header: int = UDP, first: int = 0, length: int = 1400) -> bytes:
    return ipv6(source, HOA, bytes([first]) + bytes(1100), header, length)


def test_it_names_both_tunnel_ends_and_the_packet_inside() -> None:
    found = parsed(large())
    assert (found.outer_source, found.outer_destination) == (HA, COA)
    assert (found.inner_source, found.inner_destination, found.room) == (CN, HOA, 1360)


@pytest.mark.parametrize(("mtu", "answered"), [(1400, 1360), (1320, 1280), (1280, 1280), (68, 1280), (0, 1280)])
def test_too_big_leaves_room_for_the_outer_header_and_never_less_than_ipv6_needs(mtu: int, answered: int) -> None:
    found = told(large(), mtu=mtu)
    assert found is not None
    assert (found.destination, found.ipv4) == (CN, False)
    assert struct.unpack_from("!BBHI", found.message) == (2, 0, 0, answered)
    assert found.message[8:48] == large()[:40]
    assert len(found.message) <= 1280 - 40


def test_the_tunnel_encapsulation_limit_takes_room_too() -> None:
    option = struct.pack("!BBBBBBBB", 41, 0, 4, 1, 4, 1, 0, 0)
    assert parsed(large(), between=option).room == 1400 - 48


@pytest.mark.parametrize("kind", [1, 3, 4])
def test_any_other_error_within_the_tunnel_makes_the_address_unreachable(kind: int) -> None:
    found = told(large(), kind=kind)
    assert found is not None
    assert struct.unpack_from("!BBHI", found.message) == (1, 3, 0, 0)


def test_ipv4_is_told_that_it_needs_fragmentation() -> None:
    found = told(ipv4(bytes(900)), payload=4)
    assert found is not None
    assert (found.destination, found.ipv4) == (CN4, True)
    assert struct.unpack_from("!BBxxHH", found.message) == (3, 4, 0, 1360)
    padded = found.message + bytes(len(found.message) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    assert total % 0xFFFF == 0, "the checksum"
    unreachable = told(ipv4(bytes(900)), payload=4, kind=3)
    assert unreachable is not None
    assert unreachable.message[:2] == bytes([3, 1])


@pytest.mark.parametrize(
    "inner",
    [
        large(header=ICMPV6, first=1),  # about an error
        large(source="ff02::1"),
        large(source="::"),
        large(source="fe80::1"),
        large(length=1200),  # fits: somebody else's fault, or forged
    ],
)
def test_nobody_is_told(inner: bytes) -> None:
    assert told(inner) is None


@pytest.mark.parametrize(
    "inner",
    [
        ipv4(bytes(900), keep=False),
        ipv4(bytes(900), offset=100),
        ipv4(bytes([3]) + bytes(900), header=ICMP),
        ipv4(bytes(900), length=1000),
    ],
)
def test_nobody_is_told_of_ipv4(inner: bytes) -> None:
    assert told(inner, payload=4) is None


def test_an_echo_request_is_answered() -> None:
    assert told(large(header=ICMPV6, first=128)) is not None
    assert told(ipv4(bytes([8]) + bytes(900), header=ICMP), payload=4) is not None


def test_it_says_when_no_smaller_packets_can_be_asked_for() -> None:
    assert not cannot_shrink(parsed(large(), mtu=1320))
    assert cannot_shrink(parsed(large(), mtu=1319))
    assert not cannot_shrink(parsed(large(), mtu=1300, kind=1))
    assert not cannot_shrink(parsed(ipv4(bytes(900)), payload=4))
    assert cannot_shrink(parsed(ipv4(bytes(900), keep=False), payload=4))


@pytest.mark.parametrize("cut", [0, 7, 8, 47, 48, 87])
def test_what_is_cut_short_is_nothing(cut: int) -> None:
    assert parse(error(large())[:cut]) is None


def test_what_is_no_tunnel_packet_is_nothing() -> None:
    assert parse(error(large(), payload=UDP)) is None
    assert parse(error(large(), kind=128)) is None
    later = struct.pack("!BBHI", 41, 0, 1280, 1)
    assert parse(struct.pack("!BBHI", 2, 0, 0, 1400) + ipv6(HA, COA, later + large(), 44)) is None


def icmp(inner: bytes, *, kind: int = 3, code: int = 4, mtu: int = 1400, payload: int = 4, quoted: int = 548) -> bytes:
    """Return an IPv4 packet with an ICMP error about an IPv4 tunnel packet from HA4 to COA4."""
    ends = socket.inet_aton(HA4) + socket.inet_aton(COA4)
    outer = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 1, 0x4000, 63, payload, 0) + ends + inner
    message = struct.pack("!BBHHH", kind, code, 0, 0, mtu) + outer[:quoted]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(message), 2, 0, 64, ICMP, 0) + bytes(8) + message


HA4, COA4 = "10.9.0.254", "10.2.0.2"


def test_fragmentation_needed_within_an_ipv4_tunnel_leaves_room_for_the_outer_header() -> None:
    found = parse_ipv4(icmp(ipv4(bytes(900))))
    assert found is not None
    assert (found.outer_source, found.outer_destination) == (HA4, COA4)
    assert (found.inner_source, found.inner_destination, found.room) == (CN4, HOA4, 1380)
    reply = answer(found)
    assert reply is not None
    assert (reply.destination, reply.ipv4) == (CN4, True)
    assert struct.unpack_from("!BBxxHH", reply.message) == (3, 4, 0, 1380)


def test_fragmentation_needed_within_an_ipv4_tunnel_is_packet_too_big_to_ipv6() -> None:
    found = parse_ipv4(icmp(large(), payload=41))
    assert found is not None
    reply = answer(found)
    assert reply is not None
    assert (reply.destination, reply.ipv4) == (CN, False)
    assert struct.unpack_from("!BBHI", reply.message) == (2, 0, 0, 1380)
    assert not cannot_shrink(found)
    narrow = parse_ipv4(icmp(large(), payload=41, mtu=1280))
    assert narrow is not None
    assert cannot_shrink(narrow)


@pytest.mark.parametrize(("kind", "code"), [(3, 0), (3, 1), (11, 0), (12, 0)])
def test_any_other_error_within_an_ipv4_tunnel_makes_the_host_unreachable(kind: int, code: int) -> None:
    found = parse_ipv4(icmp(ipv4(bytes(900)), kind=kind, code=code))
    assert found is not None
    reply = answer(found)
    assert reply is not None
    assert reply.message[:2] == bytes((3, 1))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        icmp(ipv4(bytes(900)), kind=8),
        icmp(ipv4(bytes(900)), mtu=0),  # as before RFC 1191
        icmp(ipv4(bytes(900)), quoted=28),  # all that RFC 792 asks for
        icmp(ipv4(bytes(900)), payload=UDP),
    ],
    ids=["nothing", "no error", "no MTU", "no inner header", "no tunnel packet"],
)
def test_what_says_nothing_about_a_packet_in_an_ipv4_tunnel_is_left(packet: bytes) -> None:
    assert parse_ipv4(packet) is None
