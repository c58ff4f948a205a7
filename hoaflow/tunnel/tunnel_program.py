# SPDX-License-Identifier: Apache-2.0
"""Define the BPF program that encapsulates and decapsulates IP in IPv4 where packets leave a tunnel endpoint. Pure.

It runs for each packet that leaves the endpoint's interface (tc egress), after the kernel has forwarded it:

- A packet for a home address or prefix in the maps gets an IPv4 header in front, from the home agent to the care-of
  address (RFC 2003; IPv6 inside: RFC 4213, RFC 5555). One that is in no map goes on as it is, to the home agent.
- A tunnel packet whose pair of addresses nftables has accepted (`hoaflow.tunnel.spoofing_filter`), which its mark says,
  loses its outer header. Packets with any other mark go on as they are.

The outer header (RFC 2003 §3.1): TTL 64; DF as inside, and set around IPv6; type of service with ECN as inside (RFC
6040 §4.1). When the outer header goes, a congestion mark (CE) moves to the packet inside; a packet whose sender does
not understand such marks is dropped instead (RFC 6040 §4.2; ECT(1) outside, which only RFC 6660 gives a meaning, does
not move). What has options or is a fragment goes on as it is.

Why at tc egress: the route's own hook (lwt xmit) does not show which program it runs, so nothing could compare it, and
not every kernel has it (CONFIG_LWTUNNEL_BPF). Here the kernel also has done all that forwarding asks for before: Time
Exceeded, Fragmentation Needed, fragments.
"""

import socket
import struct
from typing import NamedTuple

from hoaflow.tunnel.bpf_assembler import (
    EXIT,
    Helper,
    Instruction,
    Register,
    Size,
    add,
    and_,
    assemble,
    call,
    jump,
    jump_if_equal,
    jump_unless_equal,
    label,
    load,
    map_address,
    move,
    or_,
    shift_right,
    store,
    to_network_order,
    xor,
)
from hoaflow.tunnel.spoofing_filter import IPV4_MARK, IPV6_MARK

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = Register
HALF, BYTE = Size.HALF, Size.BYTE
PASS, DROP = 0, 2  # TC_ACT_OK, TC_ACT_SHOT

# struct __sk_buff
LENGTH, MARK, PROTOCOL = 0, 8, 16
ETHERNET, IPV4, IPV6 = 14, 20, 40  # octets of headers
ETHERTYPE = 12  # offset
BETWEEN_ETHERNET_AND_NETWORK = 1  # BPF_ADJ_ROOM_MAC
# BPF_F_ADJ_ROOM_*: of large packets, segments keep their size; what is added is an IPv4 header.
FIXED_SEGMENTS, ADDS_IPV4 = 1 << 0, 1 << 1
NETWORK_IPV4, NETWORK_IPV6 = (socket.htons(each) for each in (0x0800, 0x86DD))  # Ethernet types
IN_IPV4, IN_IPV6 = 4, 41  # protocol numbers of what is inside
DF, FRAGMENT = 0x40, socket.htons(0x3FFF)  # in the header's first octet for fragments; more fragments, or an offset
VERSION_AND_LENGTH, TTL = 0x45, 64
CE = 3

# The stack: a map's key; the packet's own header; the new one, with the Ethernet type in front of it.
KEY, HEADER, OUTER = -24, -64, -88
NEW = OUTER - 2


class LookedUp(NamedTuple):
    """The address of a packet that is looked up in the maps: its offset in the header of IPv4, and of IPv6."""

    ipv4: int
    ipv6: int


SOURCE, DESTINATION = LookedUp(12, 8), LookedUp(16, 24)


def code(own: bytes, ipv4_map: int, ipv6_map: int, looked_up: LookedUp = DESTINATION) -> bytes:
    """Return the program's code for this end's packed address and the open maps of home addresses."""
    return assemble(
        [
            move(R6, R1),
            load(R7, R6, MARK),
            jump_if_equal(R7, IPV4_MARK, "decapsulate"),
            jump_if_equal(R7, IPV6_MARK, "decapsulate"),
            jump_unless_equal(R7, 0, "pass"),
            load(R8, R6, PROTOCOL),
            jump_if_equal(R8, NETWORK_IPV4, "IPv4"),
            jump_if_equal(R8, NETWORK_IPV6, "IPv6"),
            jump("pass"),
            label("IPv4"),
            *_read_header(IPV4),
            *_look_up(looked_up.ipv4, 4, ipv4_map),
            load(R1, FP, HEADER + 1, BYTE),
            load(R2, FP, HEADER + 6, BYTE),
            and_(R2, DF),
            move(R3, IN_IPV4),
            jump("encapsulate"),
            label("IPv6"),
            *_read_header(IPV6),
            *_look_up(looked_up.ipv6, 16, ipv6_map),
            load(R1, FP, HEADER, HALF),
            to_network_order(R1),
            shift_right(R1, 4),
            and_(R1, 0xFF),
            move(R2, DF),
            move(R3, IN_IPV6),
            *_encapsulate(own),
            *_decapsulate(),
            label("pass"),
            move(R0, PASS),
            EXIT,
            label("drop"),
            move(R0, DROP),
            EXIT,
        ]
    )


def _read_header(octets: int) -> list[Instruction]:
    """Copy the packet's network header to HEADER."""
    return [
        *(move(R1, R6), move(R2, ETHERNET), move(R3, FP), add(R3, HEADER), move(R4, octets)),
        call(Helper.LOAD_BYTES),
        jump_unless_equal(R0, 0, "pass"),
    ]


def _look_up(address: int, octets: int, table: int) -> list[Instruction]:
    """R9 := the other end for the address at this offset of HEADER; without one, pass."""
    return [
        store(FP, KEY, octets * 8),
        *(
            step
            for word in range(0, octets, 4)
            for step in (load(R1, FP, HEADER + address + word), store(FP, KEY + 4 + word, R1))
        ),
        *(*map_address(R1, table), move(R2, FP), add(R2, KEY)),
        call(Helper.MAP_LOOKUP),
        jump_if_equal(R0, 0, "pass"),
        load(R9, R0, 0),
    ]


def _encapsulate(own: bytes) -> list[Instruction]:
    """Add a header to the address in R9, with type of service R1, DF R2 and protocol R3."""
    return [
        label("encapsulate"),
        store(FP, NEW, NETWORK_IPV4, HALF),
        store(FP, OUTER, VERSION_AND_LENGTH, BYTE),
        store(FP, OUTER + 1, R1, BYTE),
        load(R1, R6, LENGTH),
        add(R1, IPV4 - ETHERNET),
        to_network_order(R1),
        store(FP, OUTER + 2, R1, HALF),
        store(FP, OUTER + 6, R2, BYTE),
        store(FP, OUTER + 7, 0, BYTE),
        store(FP, OUTER + 8, TTL, BYTE),
        store(FP, OUTER + 9, R3, BYTE),
        store(FP, OUTER + 10, 0, HALF),
        store(FP, OUTER + 12, struct.unpack("=I", own)[0]),
        store(FP, OUTER + 16, R9),
        call(Helper.RANDOM),  # the identification: only fragments need it (RFC 6864)
        store(FP, OUTER + 4, R0, HALF),
        *(move(R1, 0), move(R2, 0), move(R3, FP), add(R3, OUTER), move(R4, IPV4), move(R5, 0)),
        call(Helper.CHECKSUM_DIFFERENCE),
        *_fold(),
        *_fold(),
        xor(R0, 0xFFFF),
        store(FP, OUTER + 10, R0, HALF),
        *_adjust_room(IPV4, FIXED_SEGMENTS | ADDS_IPV4),
        jump_if_equal(R0, 0, "header"),
        # The kernel keeps the note that it was told of an outer header when that one goes, and takes no second one: of
        # a packet that was encapsulated on this host, as in another network namespace.
        *_adjust_room(IPV4, FIXED_SEGMENTS),
        jump_unless_equal(R0, 0, "pass"),
        label("header"),
        *_write(NEW, ETHERTYPE, 2 + IPV4),
        jump_unless_equal(R0, 0, "drop"),
        jump("pass"),
    ]


def _decapsulate() -> list[Instruction]:
    """Remove the outer header of a tunnel packet, whose mark in R7 is the protocol number of what is inside."""
    return [
        label("decapsulate"),
        *_read_header(IPV4),
        load(R1, FP, HEADER, BYTE),
        jump_unless_equal(R1, VERSION_AND_LENGTH, "pass"),
        load(R1, FP, HEADER + 9, BYTE),
        jump_unless_equal(R1, R7, "pass"),
        load(R1, FP, HEADER + 6, HALF),
        and_(R1, FRAGMENT),
        jump_unless_equal(R1, 0, "pass"),
        load(R8, FP, HEADER + 1, BYTE),
        and_(R8, CE),
        *_adjust_room(-IPV4, FIXED_SEGMENTS),
        jump_unless_equal(R0, 0, "drop"),
        jump_if_equal(R7, IPV6_MARK, "IPv6 inside"),
        jump_unless_equal(R8, CE, "pass"),
        move(R1, R6),
        call(Helper.SET_CONGESTION_EXPERIENCED),
        jump_if_equal(R0, 0, "drop"),
        jump("pass"),
        label("IPv6 inside"),
        # Whoever receives it goes by the Ethernet type; the kernel's own note of the protocol ends here.
        store(FP, NEW, NETWORK_IPV6, HALF),
        *_write(NEW, ETHERTYPE, 2),
        jump_unless_equal(R0, 0, "drop"),
        jump_unless_equal(R8, CE, "pass"),
        *_read_header(IPV6),
        load(R1, FP, HEADER + 1, BYTE),
        move(R2, R1),
        and_(R2, CE << 4),
        jump_if_equal(R2, 0, "drop"),
        or_(R1, CE << 4),
        store(FP, HEADER + 1, R1, BYTE),
        *_write(HEADER, ETHERNET, 2),
        jump_unless_equal(R0, 0, "drop"),
        jump("pass"),
    ]


def _fold() -> list[Instruction]:
    """Add the upper half of the checksum in R0 to the lower one."""
    return [move(R1, R0), shift_right(R1, 16), and_(R0, 0xFFFF), add(R0, R1)]


def _adjust_room(octets: int, flags: int) -> list[Instruction]:
    return [
        *(move(R1, R6), move(R2, octets), move(R3, BETWEEN_ETHERNET_AND_NETWORK), move(R4, flags)),
        call(Helper.ADJUST_ROOM),
    ]


def _write(stack: int, offset: int, octets: int) -> list[Instruction]:
    """Write octets of the stack into the packet."""
    return [
        *(move(R1, R6), move(R2, offset), move(R3, FP), add(R3, stack), move(R4, octets), move(R5, 0)),
        call(Helper.STORE_BYTES),
    ]
