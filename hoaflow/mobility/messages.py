# SPDX-License-Identifier: Apache-2.0
"""Represent Binding Updates and Acknowledgements without their wire format (RFC 6275, 6.1.7 and 6.1.8)."""

from dataclasses import dataclass
from enum import IntEnum

LIFETIME_UNIT = 4
"""Seconds per unit of the Lifetime field."""

MAX_LIFETIME = 0xFFFF * LIFETIME_UNIT
"""Longest lifetime that fits into the field, in seconds."""

ANY_IPV4 = "0.0.0.0"
"""Stands for no IPv4 address in particular."""


class Status(IntEnum):
    """Status of a Binding Acknowledgement; 128 and above: refused.

    RFC 6275, section 6.1.8; of mobile routers RFC 3963, section 4.2; of authentication RFC 4285, section 7.
    """

    ACCEPTED = 0
    REASON_UNSPECIFIED = 128
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    HOME_REGISTRATION_NOT_SUPPORTED = 131
    NOT_HOME_SUBNET = 132
    NOT_HOME_AGENT = 133
    DUPLICATE_ADDRESS = 134
    SEQUENCE_OUT_OF_WINDOW = 135
    REGISTRATION_TYPE_CHANGE = 139
    MOBILE_ROUTER_NOT_PERMITTED = 140
    INVALID_PREFIX = 141
    NOT_AUTHORISED_FOR_PREFIX = 142
    FORWARDING_SETUP_FAILED = 143
    AUTHENTICATION_FAILED = 146


class Ipv4AddressStatus(IntEnum):
    """Status of an IPv4 address acknowledgement; 128 and above: no IPv4 home address (RFC 5555, section 3.2.1)."""

    ACCEPTED = 0
    ADMINISTRATIVELY_PROHIBITED = 129
    INCORRECT_ADDRESS = 130
    NO_DYNAMIC_ASSIGNMENT = 132
    PREFIX_NOT_AUTHORISED = 133


class BindingErrorStatus(IntEnum):
    """Status of a Binding Error message (RFC 6275, section 6.1.9)."""

    UNKNOWN_BINDING = 1
    UNRECOGNISED_TYPE = 2


@dataclass(frozen=True, slots=True)
class MnHaAuthentication:
    """A received MN-HA mobility message authentication option (RFC 4285, section 5.1).

    `covered` is the Mobility Header up to and including the SPI, with a checksum of zero; `authenticator` has 12 bytes.
    """

    spi: int
    covered: bytes
    authenticator: bytes


@dataclass(frozen=True, slots=True)
class BindingUpdate:
    """A Binding Update. Addresses are RFC 5952 strings; `lifetime` is in seconds, 0 for a deregistration.

    The acknowledgement goes to `source`. `care_of_address` differs from it only if there was an Alternate Care-of
    Address option. `mobile_router`: the sender has mobile networks (flag R, RFC 3963, section 4.1); `mobile_networks`
    are the prefixes that it names, in the form of RFC 5952, none in implicit mode. `ipv4_home_address`: the IPv4 home
    address that it asks for besides, ANY_IPV4 for whichever it may have, None for none (RFC 5555, section 3.1.1);
    `ipv4_prefix`: a whole prefix.
    """

    source: str
    destination: str
    home_address: str
    care_of_address: str
    sequence: int
    lifetime: int
    acknowledge: bool = True
    home_registration: bool = True
    link_local: bool = False
    key_management: bool = False
    mobile_router: bool = False
    mobile_networks: tuple[str, ...] = ()
    ipv4_home_address: str | None = None
    ipv4_prefix: bool = False
    authentication: MnHaAuthentication | None = None

    @property
    def deregistration(self) -> bool:
        """Whether it removes the binding: no lifetime, or sent from home (RFC 6275, section 9.5.1)."""
        return self.lifetime == 0 or self.care_of_address == self.home_address

    @property
    def from_home(self) -> bool:
        """Whether it was sent from the home address itself; the answer then needs no type 2 routing header."""
        return self.source == self.home_address


@dataclass(frozen=True, slots=True)
class Ipv4AddressAcknowledgement:
    """The answer about an IPv4 home address (RFC 5555, section 3.2.1). `address` is ANY_IPV4 if there is none."""

    status: int
    address: str


@dataclass(frozen=True, slots=True)
class BindingAcknowledgement:
    """A Binding Acknowledgement for `home_address`, sent to `destination`. `lifetime` is in seconds.

    `mobile_router`: the home agent takes the sender of the update for a mobile router (flag R, RFC 3963, section 4.2).
    `ipv4`: the answer about its IPv4 home address, None if it has asked for none or the home agent knows nothing of it.
    """

    source: str
    destination: str
    home_address: str
    sequence: int
    status: int
    lifetime: int
    mobile_router: bool = False
    ipv4: Ipv4AddressAcknowledgement | None = None
    authentication: MnHaAuthentication | None = None

    @property
    def accepted(self) -> bool:
        """Whether the registration was accepted."""
        return self.status < Status.REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class BindingError:
    """A Binding Error (RFC 6275, section 6.1.9). `home_address` is `::` if the offending packet had none."""

    source: str
    destination: str
    home_address: str
    status: int
