# SPDX-License-Identifier: Apache-2.0
"""Authenticate registrations by the Mobile-Home Authentication Extension (RFC 5944, section 3.5)."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hoaflow.addresses import format_address, parse_address
from hoaflow.mobile_ipv4 import wire
from hoaflow.mobile_ipv4.messages import Authentication
from hoaflow.mobility.authentication import KeyFileError, key_tables, spi_and_key

HASHES = {"hmac-md5": ("md5", 16), "hmac-sha256": ("sha256", 32)}
"""By algorithm: its hash, and the octets of an authenticator. HMAC-MD5 is what every mobile node has (section 5.1)."""
DEFAULT_ALGORITHM = "hmac-md5"
IPV4_OCTETS = 4


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """The key and the algorithm of HASHES that a mobile node shares with its home agent under an SPI."""

    spi: int
    key: bytes = field(repr=False)
    algorithm: str = DEFAULT_ALGORITHM

    def authenticator(self, covered: bytes) -> bytes:
        """Compute the authenticator of a message up to the SPI (RFC 5944, section 3.5.1)."""
        return hmac.digest(self.key, covered, HASHES[self.algorithm][0])

    def vouches_for(self, found: Authentication) -> bool:
        """Tell whether an extension belongs to this association and its authenticator is right (constant time)."""
        expected = self.authenticator(found.covered)
        return found.spi == self.spi and hmac.compare_digest(found.authenticator, expected)

    def sign(self, message: bytes) -> bytes:
        """Append the extension to a message."""
        return wire.authenticated(message, self.spi, HASHES[self.algorithm][1], self.authenticator)


def load_keys(path: Path) -> Mapping[str, SecurityAssociation]:
    """Read a key file as `hoaflow.mobility.authentication.load_keys` does; a table may have an `algorithm`, too.

    Returns associations by home address. Raises KeyFileError.
    """
    return {_address(path, name): _association(f'{path}: ["{name}"]', table) for name, table in key_tables(path)}


def _address(path: Path, text: str) -> str:
    try:
        packed = parse_address(text)
    except ValueError as error:
        raise KeyFileError(f'{path}: ["{text}"]: {error}') from error
    if len(packed) != IPV4_OCTETS:
        raise KeyFileError(f'{path}: ["{text}"]: expected an IPv4 address, as the protocol is mipv4')
    return format_address(packed)


def _association(where: str, table: object) -> SecurityAssociation:
    algorithm = DEFAULT_ALGORITHM
    if isinstance(table, dict) and "algorithm" in table:
        table = dict(table)
        algorithm = table.pop("algorithm")
    if not isinstance(algorithm, str) or algorithm not in HASHES:
        raise KeyFileError(f"{where}: algorithm: expected {' or '.join(HASHES)}, got {algorithm!r}")
    return SecurityAssociation(*spi_and_key(where, table), algorithm)
