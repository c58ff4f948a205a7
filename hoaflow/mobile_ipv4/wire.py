# SPDX-License-Identifier: Apache-2.0
"""Read and write Registration Requests and Replies, the payload of UDP datagrams (RFC 5944, sections 3.3 to 3.5)."""

import struct
from collections.abc import Callable
from dataclasses import replace
from socket import AF_INET, inet_ntop, inet_pton
from typing import NamedTuple

from hoaflow.errors import HoaflowError
from hoaflow.mobile_ipv4.messages import Authentication, Flag, RegistrationReply, RegistrationRequest

REQUEST_TYPE, REPLY_TYPE = 1, 3
REQUEST = struct.Struct("!BBH4s4s4sQ")
REPLY = struct.Struct("!BBH4s4sQ")
EXTENSION = struct.Struct("!BB")
SPI = struct.Struct("!I")
PADDING, MOBILE_HOME = 0, 32
NOT_OURS = (33, 34)
"""Authentication between mobile node and foreign agent, and foreign and home agent: not checked here."""
ENCAPSULATING_DELIVERY = 130
"""The Encapsulating Delivery Style Extension (RFC 3024, section 3.3)."""
SKIPPABLE = 128
"""Extensions of this type and above may be skipped; with another unknown one, the message is ignored (section 1.8)."""
LONGEST_AUTHENTICATOR = 255 - SPI.size


class MalformedRegistrationError(HoaflowError, ValueError):
    """A datagram is no well-formed Registration Request or Reply. The text says why."""


def parse_request(data: bytes, source: str, port: int) -> RegistrationRequest:
    """Parse a Registration Request that came from `source` and `port`. Raises MalformedRegistrationError."""
    _check(REQUEST, REQUEST_TYPE, data)
    _, flags, lifetime, home, agent, care_of, identification = REQUEST.unpack_from(data)
    extensions = _extensions(data, REQUEST.size)
    return RegistrationRequest(
        source=source,
        port=port,
        home_address=_text(home),
        home_agent=_text(agent),
        care_of_address=_text(care_of),
        lifetime=lifetime,
        identification=identification,
        flags=Flag(flags),
        authentication=extensions.authentication,
        encapsulating_delivery=extensions.encapsulating_delivery,
    )


def parse_reply(data: bytes) -> RegistrationReply:
    """Parse a Registration Reply. Raises MalformedRegistrationError."""
    _check(REPLY, REPLY_TYPE, data)
    _, code, lifetime, home, agent, identification = REPLY.unpack_from(data)
    found = _extensions(data, REPLY.size).authentication
    return RegistrationReply(code, lifetime, _text(home), _text(agent), identification, found)


def without_extensions(data: bytes) -> RegistrationReply:
    """Parse a Registration Reply whose extensions are malformed. Raises MalformedRegistrationError."""
    return parse_reply(data[: REPLY.size])


def request(message: RegistrationRequest) -> bytes:
    """Return a Registration Request without extensions."""
    addresses = map(_packed, (message.home_address, message.home_agent, message.care_of_address))
    return REQUEST.pack(REQUEST_TYPE, message.flags, message.lifetime, *addresses, message.identification)


def reply(message: RegistrationReply) -> bytes:
    """Return a Registration Reply without extensions."""
    addresses = _packed(message.home_address), _packed(message.home_agent)
    return REPLY.pack(REPLY_TYPE, message.code, message.lifetime, *addresses, message.identification)


def authenticated(message: bytes, spi: int, size: int, authenticator: Callable[[bytes], bytes]) -> bytes:
    """Append a Mobile-Home Authentication Extension, whose authenticator has `size` octets.

    `authenticator` computes it of what it covers: the message, and its own extension up to the SPI (section 3.5.1).
    """
    covered = message + EXTENSION.pack(MOBILE_HOME, SPI.size + size) + SPI.pack(spi)
    return covered + authenticator(covered)


def without_authentication(message: RegistrationRequest) -> RegistrationRequest:
    """Return the request as it is kept: its authentication has been checked."""
    return replace(message, authentication=None)


def _check(layout: struct.Struct, kind: int, data: bytes) -> None:
    if len(data) < layout.size or data[0] != kind:
        found = f"type {data[0]}, {len(data)} octets" if data else "nothing"
        raise MalformedRegistrationError(f"expected a message of type {kind} with {layout.size} octets, got {found}")


class _Extensions(NamedTuple):
    authentication: Authentication | None
    encapsulating_delivery: bool


def _extensions(data: bytes, offset: int) -> _Extensions:
    """Find the Mobile-Home Authentication Extension and others behind the fixed part."""
    found, encapsulating_delivery = None, False
    while offset < len(data):
        if data[offset] == PADDING:
            offset += 1
            continue
        if offset + EXTENSION.size > len(data):
            raise MalformedRegistrationError(f"an extension is cut off after {len(data)} octets")
        kind, length = EXTENSION.unpack_from(data, offset)
        start, end = offset + EXTENSION.size, offset + EXTENSION.size + length
        if end > len(data):
            raise MalformedRegistrationError(f"extension {kind} has {length} octets, of which {len(data) - start} came")
        if kind == MOBILE_HOME:
            if found is not None or length < SPI.size:
                what = "a second one" if found is not None else f"{length} octets"
                raise MalformedRegistrationError(f"expected one authentication with an SPI of 4 octets, got {what}")
            spi_end = start + SPI.size
            found = Authentication(SPI.unpack_from(data, start)[0], data[:spi_end], data[spi_end:end])
        elif kind == ENCAPSULATING_DELIVERY:
            encapsulating_delivery = True
        elif kind < SKIPPABLE and kind not in NOT_OURS:
            raise MalformedRegistrationError(f"extension {kind} is not known, and may not be skipped")
        offset = end
    return _Extensions(found, encapsulating_delivery)


def _text(packed: bytes) -> str:
    return inet_ntop(AF_INET, packed)


def _packed(address: str) -> bytes:
    return inet_pton(AF_INET, address)
