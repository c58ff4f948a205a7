# SPDX-License-Identifier: Apache-2.0
"""What the tunnel program makes of single packets, run by the kernel without any interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from scapy.layers.inet import IP, UDP, IPOption_NOP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from hoaflow.addresses import parse_address, parse_prefix
from hoaflow.tunnel.bpf import PrefixMap, Program
from hoaflow.tunnel.spoofing_filter import IPV4_MARK, IPV6_MARK
from hoaflow.tunnel.tunnel_program import DESTINATION, DROP, PASS, SOURCE, LookedUp, code
from tests.support.bpf_run import run

HA, COA, COA_2 = "10.99.0.1", "192.0.2.2", "192.0.2.130"
HOA, HOA_2, HOA6, CN, CN6 = "10.99.0.100", "10.99.0.101", "2001:db8:99::100", "198.51.100.9", "2001:db8:1::9"
BINDINGS = {4: {HOA: COA, HOA_2: COA_2, "10.98.0.0/24": COA, "10.98.0.7": COA_2}, 16: {HOA6: COA}}
FRAME = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
PAYLOAD = UDP(sport=1, dport=2) / Raw(b"payload")


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """Provide the program for HA with BINDINGS."""
    with loaded_program(DESTINATION) as loaded:
        yield loaded


@contextmanager
def loaded_program(looked_up: LookedUp) -> Iterator[Program]:
    """Load the program that has HA as its own end, and looks up such addresses in BINDINGS."""
    with PrefixMap.create("ipv4", 4, 4) as ipv4, PrefixMap.create("ipv6", 16, 4) as ipv6:
        for table, size in ((ipv4, 4), (ipv6, 16)):
            table.put({parse_prefix(home): parse_address(care_of) for home, care_of in BINDINGS[size].items()})
        with Program.load("test", code(parse_address(HA), ipv4.descriptor, ipv6.descriptor, looked_up)) as loaded:
            yield loaded


def outer_header(program: Program, inner: Packet) -> IP:
    """Run the program on a packet that it has to encapsulate; return the outer header, which has to fit."""
    frame = bytes(FRAME / inner)
    returned, made = run(program, frame)
    assert returned == PASS
    assert made[:14] == bytes(FRAME / IP())[:14]
    assert made[34:] == frame[14:], "the packet inside is as it was"
    header = IP(made[14:34])
    right = header.copy()
    del right.chksum
    assert bytes(right) == made[14:34], "the checksum"
    assert (header.version, header.ihl, header.len, header.ttl, header.frag) == (4, 5, len(made) - 14, 64, 0)
    assert header.src == HA
    assert header.proto == (4 if inner.version == 4 else 41)
    return header


def untouched(program: Program, frame: bytes, mark: int = 0) -> bool:
    return run(program, frame, mark) == (PASS, frame)


@pytest.mark.parametrize("inner", [IP(src=CN, dst=HOA), IPv6(src=CN6, dst=HOA6)], ids=["IPv4", "IPv6"])
def test_the_outer_header_is_whole_whatever_its_type_of_service(program: Program, inner: Packet) -> None:
    """With random identifications besides, the checksum's sums carry in all ways."""
    for service in range(256):
        inner.setfieldval("tos" if inner.version == 4 else "tc", service)
        header = outer_header(program, inner / PAYLOAD)
        assert (header.tos, header.dst) == (service, COA)


def test_a_foreign_agents_program_goes_by_the_source() -> None:
    with loaded_program(SOURCE) as by_source:
        for inner in (IP(src=HOA_2, dst=CN), IPv6(src=HOA6, dst=CN6)):
            assert outer_header(by_source, inner / PAYLOAD).dst == (COA_2 if inner.version == 4 else COA)
        assert untouched(by_source, bytes(FRAME / IP(src=CN, dst=HOA) / PAYLOAD))


@pytest.mark.parametrize(
    ("inner", "fragmentable"),
    [
        (IP(src=CN, dst=HOA), True),
        (IP(src=CN, dst=HOA, flags="DF"), False),
        (IP(src=CN, dst=HOA, flags="MF", frag=0), True),
        (IP(src=CN, dst=HOA, flags="MF", frag=185), True),
        (IP(src=CN, dst=HOA, frag=370), True),
        (IP(src=CN, dst=HOA, flags="evil+DF+MF", frag=1), False),
        (IPv6(src=CN6, dst=HOA6), False),
        (IPv6(src=CN6, dst=HOA6) / IPv6ExtHdrFragment(offset=185, m=1), False),
    ],
)
def test_only_df_is_copied_so_each_fragment_is_a_packet_of_its_own(
    program: Program, inner: Packet, fragmentable: bool
) -> None:
    assert outer_header(program, inner / PAYLOAD).flags == ("" if fragmentable else "DF")


@pytest.mark.parametrize(
    ("inner", "care_of_address"),
    [
        (IP(src=CN, dst=HOA, options=[IPOption_RR(routers=["0.0.0.0"] * 9), IPOption_NOP()]) / PAYLOAD, COA),
        (IP(src=CN, dst="10.98.0.6") / PAYLOAD, COA),
        (IP(src=CN, dst="10.98.0.7") / PAYLOAD, COA_2),
        # A care-of address that is a home address itself, and a forged tunnel packet: one header more, each time.
        (IP(src=HA, dst=HOA) / IP(src=CN, dst=HOA_2) / PAYLOAD, COA),
        (IP(src=HA, dst=HOA) / IPv6(src=CN6, dst=HOA6) / PAYLOAD, COA),
        # Protocols that only the endpoint's filter tells apart.
        (IP(src=CN, dst=HOA, proto=4) / Raw(b"\0"), COA),
        (IP(src=CN, dst=HOA, ttl=1) / Raw(b""), COA),
    ],
)
def test_what_is_for_a_home_address_gets_one_header(program: Program, inner: Packet, care_of_address: str) -> None:
    assert outer_header(program, inner).dst == care_of_address


@pytest.mark.parametrize(
    "frame",
    [
        FRAME / IP(src=CN, dst="10.99.0.102") / PAYLOAD,
        FRAME / IP(src=HA, dst=COA) / IP(src=CN, dst=HOA) / PAYLOAD,
        FRAME / IPv6(src=CN6, dst="2001:db8:99::101") / PAYLOAD,
        FRAME / ARP(psrc=CN, pdst=HOA),
        Ether(type=0x8100) / Raw(b"\0\7\x08\0") / IP(src=CN, dst=HOA) / PAYLOAD,
        FRAME / Raw(bytes(IP(src=CN, dst=HOA))[:19]),
    ],
    ids=["another home address", "a tunnel packet", "another IPv6 one", "ARP", "802.1Q", "half a header"],
)
def test_all_else_goes_on_as_it_is(program: Program, frame: Packet) -> None:
    assert untouched(program, bytes(frame))


def test_a_packet_with_a_mark_is_not_encapsulated(program: Program) -> None:
    frame = bytes(FRAME / IP(src=CN, dst=HOA) / PAYLOAD)
    assert all(untouched(program, frame, mark) for mark in (5, 6, 1, 0x80000004, 0x104))


@pytest.mark.parametrize(
    "inner", [IP(src=HOA, dst=CN, tos=0xB8, flags="MF") / PAYLOAD, IPv6(src=HOA6, dst=CN6) / PAYLOAD]
)
def test_what_the_filter_has_accepted_loses_its_outer_header(program: Program, inner: Packet) -> None:
    returned, made = run(
        program, bytes(FRAME / IP(src=COA, dst=HA, tos=0x28) / inner), IPV4_MARK if inner.version == 4 else IPV6_MARK
    )
    assert (returned, made) == (PASS, bytes(FRAME / inner))


@pytest.mark.parametrize(
    "outer",
    [
        IP(src=COA, dst=HA, options=[IPOption_NOP()] * 4),
        IP(src=COA, dst=HA, flags="MF"),
        IP(src=COA, dst=HA, frag=2),
        IP(src=COA, dst=HA, proto=41),
    ],
    ids=["options", "first fragment", "later fragment", "another payload than its mark's"],
)
def test_what_it_can_not_decapsulate_goes_on_to_the_home_agent(program: Program, outer: IP) -> None:
    assert untouched(program, bytes(FRAME / outer / IP(src=HOA, dst=CN) / PAYLOAD), IPV4_MARK)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("outside", [0, 2, 3])
@pytest.mark.parametrize("inside", range(4))
def test_a_congestion_mark_moves_inside_and_drops_what_does_not_know_it(
    program: Program, version: int, outside: int, inside: int
) -> None:
    """RFC 6040 §4.2."""

    def packet(mark: int) -> Packet:
        if version == 4:
            return IP(src=HOA, dst=CN, tos=0xB8 | mark) / PAYLOAD
        return IPv6(src=HOA6, dst=CN6, tc=0xB8 | mark, fl=0xABCDE) / PAYLOAD

    frame = bytes(FRAME / IP(src=COA, dst=HA, tos=outside) / packet(inside))
    returned, made = run(program, frame, IPV4_MARK if version == 4 else IPV6_MARK)
    if outside == 3 and inside == 0:
        assert returned == DROP
        return
    assert (returned, made) == (PASS, bytes(FRAME / packet(3 if outside == 3 else inside)))
