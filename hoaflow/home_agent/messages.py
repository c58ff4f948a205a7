# SPDX-License-Identifier: Apache-2.0
"""What Binding Updates and Acknowledgements say, free of their wire format (RFC 6275, sections 6.1.7 and 6.1.8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

LIFETIME_UNIT = 4
"""Seconds per unit of the Lifetime field."""

MAX_LIFETIME = 0xFFFF * LIFETIME_UNIT
"""Longest lifetime that the field can say, in seconds."""


class Status(IntEnum):
    """Status of a Binding Acknowledgement (RFC 6275, section 6.1.8; RFC 4285, section 7). From 128 on: refused."""

    ACCEPTED = 0
    REASON_UNSPECIFIED = 128
    ADMINISTRATIVELY_PROHIBITED = 129
    INSUFFICIENT_RESOURCES = 130
    HOME_REGISTRATION_NOT_SUPPORTED = 131
    NOT_HOME_SUBNET = 132
    NOT_HOME_AGENT = 133
    DUPLICATE_ADDRESS = 134
    SEQUENCE_OUT_OF_WINDOW = 135
    AUTHENTICATION_FAILED = 146


class BindingErrorStatus(IntEnum):
    """Status of a Binding Error message (RFC 6275, section 6.1.9)."""

    UNKNOWN_BINDING = 1
    UNRECOGNISED_TYPE = 2


@dataclass(frozen=True, slots=True)
class MnHaAuthentication:
    """The MN-HA mobility message authentication option as it came (RFC 4285, section 5.1).

    `covered` is the Mobility Header up to and including the SPI with the checksum field set to zero,
    `authenticator` the 12 bytes that vouch for it.
    """

    spi: int
    covered: bytes
    authenticator: bytes


@dataclass(frozen=True, slots=True)
class BindingUpdate:
    """A Binding Update. Addresses are RFC 5952 strings, `lifetime` is in seconds (0: deregistration).

    `source` is where it came from and where the acknowledgement goes; `care_of_address` differs from it only when an
    Alternate Care-of Address option said so.
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
    authentication: MnHaAuthentication | None = None

    @property
    def deregistration(self) -> bool:
        """Whether it asks for the binding's removal (RFC 6275, section 9.5.1): no lifetime, or home again."""
        return self.lifetime == 0 or self.care_of_address == self.home_address

    @property
    def from_home(self) -> bool:
        """Whether it was sent from the home address itself, so that no type 2 routing header leads back."""
        return self.source == self.home_address


@dataclass(frozen=True, slots=True)
class BindingAcknowledgement:
    """A Binding Acknowledgement. `lifetime` in seconds; `destination` is where it goes, `home_address` whose it is."""

    source: str
    destination: str
    home_address: str
    sequence: int
    status: int
    lifetime: int
    authentication: MnHaAuthentication | None = None

    @property
    def accepted(self) -> bool:
        return self.status < Status.REASON_UNSPECIFIED


@dataclass(frozen=True, slots=True)
class BindingError:
    """A Binding Error (RFC 6275, section 6.1.9). `home_address` is `::` where the offending packet had none."""

    source: str
    destination: str
    home_address: str
    status: int
