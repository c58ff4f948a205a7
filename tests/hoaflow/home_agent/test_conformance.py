# SPDX-License-Identifier: Apache-2.0
"""What a running home agent answers to right and wrong messages (RFC 6275, sections 6, 9.2, 9.3 and 9.5)."""

import json
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from itertools import count

import pytest

from tests.support.mobility import HOME_ADDRESS, Lab
from tests.support.mobility_packets import (
    ACKNOWLEDGE,
    DESTINATION_OPTIONS,
    HOME_REGISTRATION,
    KEY_MANAGEMENT,
    LINK_LOCAL,
    MOBILITY,
    ROUTING,
    binding_update,
    destination_options,
    from_abroad,
    home_address_option,
    mobility_header,
    option,
    packet,
    type2_routing,
)
from tests.support.waiting import wait_for

EXCHANGE = "import runpy, sys\nrunpy.run_module('tests.support.mobility_packets', run_name='__main__', alter_sys=True)"
OTHER, AWAY = "2001:db8:99::300", "2001:db8:98::100"
NO_SUCH = 7  # status 128 and above refuse; this is a sequence number
OCTETS_BEFORE_BU = 40 + 24  # in front of the Mobility Header: IPv6 header, Home Address option
UDP = 17


@pytest.fixture(scope="module")
def registered() -> Iterator[Lab]:
    """Provide a home agent at which HOME_ADDRESS is registered from UPLINK_HOP, with sequence number 100."""
    with Lab() as lab:
        home_agent = lab.home_agent("--insecure")
        lab.python("rt", EXCHANGE, from_abroad(binding_update(100)).hex())
        home_agent.logged("event=binding-ack-sent", f"home_address={HOME_ADDRESS}", "status=0")
        yield lab


def answers(lab: Lab, *packets: bytes) -> list[list[str]]:
    """Return what is answered to each of these packets."""
    found: list[list[str]] = json.loads(lab.python("rt", EXCHANGE, *(each.hex() for each in packets)))
    return found


def ack(status: int, sequence: int, home: str = HOME_ADDRESS) -> list[str]:
    return [f"ack {status} {home} sequence {sequence} K 0"]


def refusal(status: int, home: str, sequence: int = NO_SUCH) -> list[str]:
    return ack(status, sequence, home)


def test_refusals_and_acceptances_have_their_statuses(registered: Lab) -> None:
    # All in one conversation, each number above the one before.
    alternate = option(3, IPv6Address("2001:db8:3::2").packed)
    unroutable = option(3, IPv6Address("ff02::1").packed)
    number = count(101).__next__
    cases = [
        (from_abroad(binding_update(number())), ack(0, 101)),
        (from_abroad(binding_update(101)), ack(135, 101)),
        (from_abroad(binding_update(100)), ack(135, 101)),
        (from_abroad(binding_update(101 + 0x8000)), ack(135, 101)),
        (from_abroad(binding_update(number(), ACKNOWLEDGE)), ack(139, 102)),
        (from_abroad(binding_update(number(), HOME_REGISTRATION)), []),
        (from_abroad(binding_update(number(), ACKNOWLEDGE | HOME_REGISTRATION | KEY_MANAGEMENT)), ack(0, 104)),
        (from_abroad(binding_update(number(), ACKNOWLEDGE | HOME_REGISTRATION, 15, alternate)), ack(0, 105)),
        (from_abroad(binding_update(number(), ACKNOWLEDGE | HOME_REGISTRATION, 15, unroutable)), []),
        (from_abroad(binding_update(number())), ack(0, 107)),
        (from_abroad(binding_update(NO_SUCH, ACKNOWLEDGE), home=OTHER), []),
        (from_abroad(binding_update(NO_SUCH), home=AWAY), refusal(132, AWAY)),
        (from_abroad(binding_update(NO_SUCH, units=0), home=OTHER), refusal(133, OTHER)),
        (from_abroad(binding_update(NO_SUCH), home="2001:db8:99::1"), refusal(129, "2001:db8:99::1")),
        (from_abroad(binding_update(NO_SUCH), home="ff0e::1"), []),
        (from_abroad(binding_update(NO_SUCH), home="fe80::1"), []),
    ]
    assert answers(registered, *(sent for sent, _ in cases)) == [expected for _, expected in cases]


def test_headers_that_are_wrong_are_told_or_dropped_as_they_ask(registered: Lab) -> None:
    update = binding_update(200)
    flipped = bytearray(from_abroad(update))
    flipped[-1] ^= 1
    options_end = 40 + 8 + 16  # where a second option begins, behind the Home Address option
    cases = [
        (bytes(flipped), []),  # checksum
        (from_abroad(binding_update(201, proto=UDP)), [f"icmp 4 code 0 at {OCTETS_BEFORE_BU}"]),
        (from_abroad(binding_update(202, length=0)), [f"icmp 4 code 0 at {OCTETS_BEFORE_BU + 1}"]),
        (from_abroad(binding_update(203, length=9)), []),  # longer than its packet
        (from_abroad(mobility_header(100, bytes(2), proto=UDP)), [f"error 2 {HOME_ADDRESS}"]),  # the type is first
        (from_abroad(update, option(0x9E, b"")), [f"icmp 4 code 2 at {options_end}"]),
        (from_abroad(update, option(0xDE, b"")), [f"icmp 4 code 2 at {options_end}"]),
        (from_abroad(update, option(0x5E, b"")), []),
        (from_abroad(update, home_address_option(OTHER)), []),  # which of the two?
        (from_abroad(binding_update(204), option(0x1E, b"")), ack(0, 204)),
        (from_abroad(binding_update(205), trailing=bytes(8)), ack(0, 205)),
        (from_abroad(binding_update(206, reserved=0xFF)), ack(0, 206)),
        (from_abroad(binding_update(207, 0xCB)), ack(0, 207)),  # all flags but the mobile router's
        (from_abroad(binding_update(208, ACKNOWLEDGE | HOME_REGISTRATION, 15, option(200, b"ab"))), ack(0, 208)),
    ]
    assert answers(registered, *(sent for sent, _ in cases)) == [expected for _, expected in cases]


def test_binding_errors_name_what_they_are_about(registered: Lab) -> None:
    echo = struct.pack("!BBHHH", 128, 0, 0, 1, 1)
    unknown = destination_options(home_address_option(OTHER), payload=58)
    known = destination_options(home_address_option(HOME_ADDRESS), payload=58)
    multicast = destination_options(home_address_option("ff0e::1"), payload=58)
    cases = [
        (packet(unknown, echo, first=DESTINATION_OPTIONS), [f"error 1 {OTHER}"]),
        (packet(known, echo, first=DESTINATION_OPTIONS), []),
        (packet(multicast, echo, first=DESTINATION_OPTIONS), []),
        (packet(mobility_header(1, bytes(10)), first=MOBILITY), ["error 2 ::"]),
        (packet(mobility_header(2, bytes(10)), first=MOBILITY), ["error 2 ::"]),
        (packet(mobility_header(100, bytes(10)), first=MOBILITY), ["error 2 ::"]),
        (packet(mobility_header(0, bytes(2)), first=MOBILITY), []),
        (packet(mobility_header(6, bytes(6)), first=MOBILITY), []),
        (packet(mobility_header(7, struct.pack("!BB", 1, 0) + bytes(16)), first=MOBILITY), []),
    ]
    assert answers(registered, *(sent for sent, _ in cases)) == [expected for _, expected in cases]


def test_a_routing_header_names_no_home_address_for_an_update(registered: Lab) -> None:
    headers = (destination_options(payload=ROUTING), type2_routing(HOME_ADDRESS), binding_update(900, units=0))
    assert answers(registered, packet(*headers, first=DESTINATION_OPTIONS, final=HOME_ADDRESS)) == [[]]
    assert HOME_ADDRESS in registered.run("ha", "ip -6 neigh show proxy"), "its binding is gone"


def test_what_is_for_a_link_local_address_stays_on_the_home_link(registered: Lab) -> None:
    away = "2001:db8:99::400"
    update = binding_update(1, ACKNOWLEDGE | HOME_REGISTRATION | LINK_LOCAL)
    assert answers(registered, from_abroad(update, home=away)) == [[]]  # until detection has ended
    wait_for("it is registered", lambda: "fe80::400" in registered.run("ha", "ip -6 neigh show proxy"))
    registered.run("rt", "nft add table ip6 t")
    registered.run("rt", "nft add counter ip6 t tunnelled")
    registered.run("rt", "nft add chain ip6 t in { type filter hook prerouting priority 0 ; }")
    registered.run("rt", "nft add rule ip6 t in meta l4proto 41 counter name tunnelled")
    told = registered.run("hh", "ping -6 -n -c 1 -W 5 fe80::400%e0", check=False)
    assert "Address unreachable" in told  # its MAC address is the home agent's, which has nowhere to send it
    assert "packets 0 " in registered.run("rt", "nft list counter ip6 t tunnelled")
    registered.run("hh", f"ping -6 -n -c 1 -W 1 {away}", check=False)
    assert "packets 0 " not in registered.run("rt", "nft list counter ip6 t tunnelled")
