# SPDX-License-Identifier: Apache-2.0
"""Registration Requests and Replies as octets, and who vouches for them."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.mobileip import MobileIP, MobileIPRRP, MobileIPRRQ

from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.authentication import HASHES, SecurityAssociation, load_keys
from hoaflow.mobile_ipv4.messages import (
    Flag,
    RegistrationReply,
    RegistrationRequest,
    identification_at,
    is_newer,
    seconds_from,
)
from hoaflow.mobility.authentication import KeyFileError

ADDRESSES = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
LIFETIMES, IDENTIFICATIONS = st.integers(0, 0xFFFF), st.integers(0, 2**64 - 1)
REQUESTS = st.builds(
    RegistrationRequest,
    source=st.just("10.2.0.2"),
    port=st.just(434),
    home_address=ADDRESSES,
    home_agent=ADDRESSES,
    care_of_address=ADDRESSES,
    lifetime=LIFETIMES,
    identification=IDENTIFICATIONS,
    flags=st.integers(0, 0xFF).map(Flag),
)
REPLIES = st.builds(RegistrationReply, st.integers(0, 255), LIFETIMES, ADDRESSES, ADDRESSES, IDENTIFICATIONS)
ASSOCIATIONS = st.builds(
    SecurityAssociation, st.integers(256, 2**32 - 1), st.binary(min_size=16), st.sampled_from([*HASHES])
)
REQUEST = RegistrationRequest("10.2.0.2", 434, "10.99.0.100", "10.99.0.1", "10.2.0.2", 60, 1 << 32, Flag.REVERSE_TUNNEL)


def parsed(data: bytes) -> RegistrationRequest:
    return wire.parse_request(data, "10.2.0.2", 434)


@given(REQUESTS, ASSOCIATIONS)
def test_a_signed_request_is_read_as_it_was_written(
    message: RegistrationRequest, association: SecurityAssociation
) -> None:
    found = parsed(association.sign(wire.request(message)))
    assert wire.without_authentication(found) == message
    assert found.authentication is not None
    assert association.vouches_for(found.authentication)


@given(REPLIES, ASSOCIATIONS)
def test_a_signed_reply_is_read_as_it_was_written(message: RegistrationReply, association: SecurityAssociation) -> None:
    found = wire.parse_reply(association.sign(wire.reply(message)))
    assert (found.code, found.lifetime, found.home_address) == (message.code, message.lifetime, message.home_address)
    assert (found.home_agent, found.identification) == (message.home_agent, message.identification)
    assert found.authentication is not None
    assert association.vouches_for(found.authentication)


@given(REQUESTS, ASSOCIATIONS, st.data())
def test_no_bit_of_a_signed_request_can_be_changed(
    message: RegistrationRequest, association: SecurityAssociation, data: st.DataObject
) -> None:
    octets = bytearray(association.sign(wire.request(message)))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        found = parsed(bytes(octets)).authentication
    except wire.MalformedRegistrationError:
        return
    assert found is None or not association.vouches_for(found)


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda rest: wire.request(REQUEST) + rest))
def test_any_octets_are_read_or_refused_with_a_reason(octets: bytes) -> None:
    with contextlib.suppress(wire.MalformedRegistrationError):
        assert parsed(octets).source == "10.2.0.2"


@given(REQUESTS)
def test_requests_are_what_scapy_reads(message: RegistrationRequest) -> None:
    found = MobileIP(wire.request(message))[MobileIPRRQ]
    assert (found.homeaddr, found.haaddr, found.coaddr) == (
        message.home_address,
        message.home_agent,
        message.care_of_address,
    )
    assert (found.lifetime, int(found.flags), found.id) == (message.lifetime, message.flags, message.identification)


@given(REPLIES)
def test_replies_are_what_scapy_reads(message: RegistrationReply) -> None:
    found = MobileIP(wire.reply(message))[MobileIPRRP]
    assert (found.code, found.lifetime) == (message.code, message.lifetime)
    assert (found.homeaddr, found.haaddr) == (message.home_address, message.home_agent)


def test_the_authenticator_is_hmac_md5_over_the_message_up_to_the_spi() -> None:
    signed = SecurityAssociation(256, bytes(range(16))).sign(wire.request(REQUEST))
    assert signed[24:30] == bytes((32, 20, 0, 0, 1, 0))
    assert signed[30:] == hmac.digest(bytes(range(16)), signed[:30], hashlib.md5)


@pytest.mark.parametrize(
    ("extensions", "reason"),
    [
        (b"\x05\x00", "extension 5 is not known"),
        (b"\x84\x09abc", "extension 132 has 9 octets, of which 3 came"),
        (b"\x20", "cut off"),
        (b"\x20\x02ab", "an SPI of 4 octets, got 2 octets"),
        (b"\x20\x04abcd" * 2, "got a second one"),
    ],
)
def test_extensions_that_cannot_be_read_are_refused(extensions: bytes, reason: str) -> None:
    with pytest.raises(wire.MalformedRegistrationError, match=reason):
        parsed(wire.request(REQUEST) + extensions)


def test_padding_and_extensions_that_may_be_skipped_are_skipped() -> None:
    extensions = b"\x00\x00\x83\x03abc\x21\x04abcd\x22\x00"
    assert parsed(wire.request(REQUEST) + extensions) == REQUEST


def test_identifications_are_ordered_across_the_year_2036() -> None:
    before, after = (identification_at(2_085_978_496 + step) for step in (-1, 1))
    assert before > after
    assert is_newer(after, than=before)
    assert not is_newer(before, than=after)
    assert seconds_from(before, after) == 2
    assert seconds_from(after, before) == -2


def keys(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "keys.toml"
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def test_the_key_file_says_the_algorithm(tmp_path: Path) -> None:
    key = 'key = "00112233445566778899aabbccddeeff"'
    text = f'["10.99.0.100"]\nspi = 256\n{key}\n["10.99.0.101"]\nspi = 257\nalgorithm = "hmac-sha256"\n{key}\n'
    found = load_keys(keys(tmp_path, text))
    assert {home: each.algorithm for home, each in found.items()} == {
        "10.99.0.100": "hmac-md5",
        "10.99.0.101": "hmac-sha256",
    }
    assert len(found["10.99.0.101"].authenticator(b"")) == 32


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('["2001:db8::1"]\nspi = 256\nkey = "00112233445566778899aabbccddeeff"', "expected an IPv4 address"),
        ('["10.99.0.100"]\nspi = 256\nkey = "00112233445566778899aabbccddeeff"\nalgorithm = "md5"', "hmac-md5 or"),
        (
            '["10.99.0.100"]\nspi = 256\nkey = "00112233445566778899aabbccddeeff"\nalgorithm = ["hmac-md5"]',
            "hmac-md5 or",
        ),
        ('["10.99.0.100"]\nspi = 256', "exactly spi and key"),
    ],
)
def test_a_wrong_key_file_is_refused(tmp_path: Path, table: str, reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        load_keys(keys(tmp_path, table))
