# SPDX-License-Identifier: Apache-2.0
"""Packets are held in order, each prefix's within its limit."""

from ipaddress import IPv6Address

from hoaflow.mobile_access_gateway.data_plane import first_octets
from hoaflow.mobile_access_gateway.held_packets import HeldPackets
from tests.support.proxy_mobility import ADDRESS, OTHER_PREFIX, PREFIX


def packet(number: int, destination: str = ADDRESS) -> bytes:
    return bytes(24) + IPv6Address(destination).packed + bytes([number])


def test_packets_come_out_in_order_and_once() -> None:
    held = HeldPackets(limit=10)
    for number in range(3):
        held.hold(packet(number))
    held.hold(packet(9, "2001:db8:f1:2::1"))
    assert held.take(first_octets(PREFIX)) == [packet(number) for number in range(3)]
    assert held.take(first_octets(PREFIX)) == []
    assert len(held.take(first_octets(OTHER_PREFIX))) == 1


def test_what_finds_no_room_is_counted() -> None:
    held = HeldPackets(limit=2)
    for number in range(5):
        held.hold(packet(number))
    assert (len(held), held.dropped) == (2, 3)
    assert held.take(first_octets(PREFIX)) == [packet(0), packet(1)]


def test_what_finds_no_room_among_those_of_all_is_counted() -> None:
    held = HeldPackets(limit=2, most=3)
    for destination in (ADDRESS, "2001:db8:f1:2::1"):
        for number in range(2):
            held.hold(packet(number, destination))
    assert (len(held), held.dropped) == (3, 1)
    held.take(first_octets(PREFIX))
    held.hold(packet(2, "2001:db8:f1:2::1"))
    assert (len(held), held.dropped) == (2, 1)
