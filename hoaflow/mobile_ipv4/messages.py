# SPDX-License-Identifier: Apache-2.0
"""Represent Registration Requests and Replies without their wire format (RFC 5944, sections 3.3 and 3.4)."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

REGISTRATION_PORT = 434
FOREVER = 0xFFFF
"""The lifetime of a registration that does not end."""
NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""
FRACTION = 1 << 32
NUMBERS = 1 << 64
WINDOW = 7
"""Seconds that a timestamp may differ from the home agent's clock (RFC 5944, section 5.7.1)."""


class Flag(IntFlag):
    """Flags of a Registration Request. T is of RFC 3024."""

    SIMULTANEOUS = 0x80
    BROADCASTS = 0x40
    DECAPSULATION = 0x20
    MINIMAL = 0x10
    GRE = 0x08
    REVERSE_TUNNEL = 0x02


RESERVED = 0xFF & ~sum(Flag)
"""Bits that mobile nodes leave out."""
BY_FOREIGN_AGENT = range(64, 128)
"""Codes of a foreign agent, whose replies have no authentication of the home agent."""
NO_FLAGS = Flag(0)
LETTERS = {
    Flag.SIMULTANEOUS: "S",
    Flag.BROADCASTS: "B",
    Flag.DECAPSULATION: "D",
    Flag.MINIMAL: "M",
    Flag.GRE: "G",
    Flag.REVERSE_TUNNEL: "T",
}


class Code(IntEnum):
    """Code of a Registration Reply (RFC 5944, section 3.4; RFC 3024, section 3.4).

    64 and above: refused by the foreign agent; 128 and above: by the home agent.
    """

    ACCEPTED = 0
    ACCEPTED_WITHOUT_SIMULTANEOUS = 1
    FOREIGN_AGENT_FULL = 66
    LIFETIME_TOO_LONG = 69
    POORLY_FORMED_REQUEST = 70
    POORLY_FORMED_REPLY = 71
    FOREIGN_AGENT_ENCAPSULATION_UNAVAILABLE = 72
    REVERSE_TUNNEL_UNAVAILABLE = 74
    REVERSE_TUNNEL_MANDATORY = 75
    MOBILE_NODE_TOO_DISTANT = 76
    INVALID_CARE_OF_ADDRESS = 77
    REGISTRATION_TIMEOUT = 78
    DELIVERY_STYLE_UNSUPPORTED = 79
    HOME_NETWORK_UNREACHABLE = 80
    HOME_AGENT_HOST_UNREACHABLE = 81
    HOME_AGENT_PORT_UNREACHABLE = 82
    HOME_AGENT_UNREACHABLE = 88
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    AUTHENTICATION_FAILED = 131
    IDENTIFICATION_MISMATCH = 133
    POORLY_FORMED = 134
    UNKNOWN_HOME_AGENT = 136
    ENCAPSULATION_UNAVAILABLE = 139
    INVALID_HOME_AGENT = 194


@dataclass(frozen=True, slots=True)
class Authentication:
    """A received Mobile-Home Authentication Extension (RFC 5944, section 3.5.2).

    `covered`: the octets that the authenticator is computed over, from the message's first one to the SPI.
    """

    spi: int
    covered: bytes
    authenticator: bytes

    @property
    def message(self) -> bytes:
        """The message up to the end of the extension: what a foreign agent relays (sections 3.7.2.2 and 3.7.3.2)."""
        return self.covered + self.authenticator


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """A Registration Request. `lifetime` is in seconds, 0 for a deregistration, FOREVER for one that does not end.

    The reply goes to `source` and `port`: the mobile node's, or those of the foreign agent that has relayed it.
    `flags` may have RESERVED bits. `encapsulating_delivery`: with that style of reverse tunnelling (RFC 3024, 4.3).
    """

    source: str
    port: int
    home_address: str
    home_agent: str
    care_of_address: str
    lifetime: int
    identification: int
    flags: Flag = NO_FLAGS
    authentication: Authentication | None = None
    encapsulating_delivery: bool = False

    @property
    def deregistration(self) -> bool:
        """Whether it ends the binding: no lifetime, or the home address as care-of address."""
        return self.lifetime == 0 or self.care_of_address == self.home_address

    @property
    def reverse_tunnel(self) -> bool:
        """Whether what the mobile node sends comes in a tunnel, too (RFC 3024)."""
        return Flag.REVERSE_TUNNEL in self.flags


@dataclass(frozen=True, slots=True)
class RegistrationReply:
    """A Registration Reply. `lifetime` is in seconds, FOREVER for one that does not end."""

    code: int
    lifetime: int
    home_address: str
    home_agent: str
    identification: int
    authentication: Authentication | None = None

    @property
    def accepted(self) -> bool:
        """Whether the registration was accepted."""
        return self.code in (Code.ACCEPTED, Code.ACCEPTED_WITHOUT_SIMULTANEOUS)


def identification_at(clock: float) -> int:
    """Return the identification that a timestamp makes: NTP's 64-bit time (RFC 5944, section 5.7.1).

    `clock`: seconds since 1970.

    >>> hex(identification_at(0.5))
    '0x83aa7e8080000000'
    """
    return int((clock + NTP_EPOCH) * FRACTION) % NUMBERS


def seconds_from(earlier: int, later: int) -> float:
    """Return the seconds between two identifications, below 0 if `later` is the earlier one.

    NTP's clock begins anew in 2036: the shorter way round counts.
    """
    difference = (later - earlier) % NUMBERS
    return (difference - NUMBERS if difference >= NUMBERS // 2 else difference) / FRACTION


def is_newer(identification: int, than: int) -> bool:
    """Tell whether an identification is later than another one, modulo 2^64."""
    return 0 < (identification - than) % NUMBERS < NUMBERS // 2
