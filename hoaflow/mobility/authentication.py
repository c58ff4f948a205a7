# SPDX-License-Identifier: Apache-2.0
"""Authenticate messages by the MN-HA mobility message authentication option (RFC 4285)."""

import hashlib
import hmac
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path

from hoaflow.errors import HoaflowError
from hoaflow.mobility.messages import MnHaAuthentication

MINIMUM_SPI = 256
"""Lower SPIs are reserved (RFC 4285, section 5.1)."""
MINIMUM_KEY_LENGTH = 16
AUTHENTICATOR_LENGTH = 12


class KeyFileError(HoaflowError, ValueError):
    """The key file is unusable. The text says what is wrong and what was expected."""


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """A key that a mobile node shares with its home agent, or an access gateway with its anchor."""

    spi: int
    key: bytes = field(repr=False)

    def authenticator(self, care_of_address: str, home_address: str, covered: bytes) -> bytes:
        """Compute the authenticator: HMAC-SHA1-96 of care-of address, home address and MH data (RFC 4285, 5.1)."""
        data = IPv6Address(care_of_address).packed + IPv6Address(home_address).packed + covered
        return hmac.digest(self.key, data, hashlib.sha1)[:AUTHENTICATOR_LENGTH]

    def vouches_for(self, option: MnHaAuthentication, care_of_address: str, home_address: str) -> bool:
        """Tell whether an option belongs to this association and its authenticator is right (constant time)."""
        expected = self.authenticator(care_of_address, home_address, option.covered)
        return option.spi == self.spi and hmac.compare_digest(option.authenticator, expected)


def load_keys(path: Path) -> Mapping[str, SecurityAssociation]:
    """Read a key file: TOML, one table per peer, with `spi` and `key` (hexadecimal, 16 bytes or more).

    Returns associations by the peers' addresses (RFC 5952): mobile nodes' home addresses, or those of access gateways
    and anchors. Raises KeyFileError, also if others can read the file, or an address is there in two spellings.
    """
    associations: dict[str, SecurityAssociation] = {}
    for name, table in key_tables(path):
        where, address = f'{path}: ["{name}"]', _address(path, name)
        if address in associations:
            raise KeyFileError(f"{where}: {address} is there already, spelled differently")
        associations[address] = SecurityAssociation(*spi_and_key(where, table))
    return associations


def key_tables(path: Path) -> Iterable[tuple[str, object]]:
    """Return the tables of a key file by their names. Raises KeyFileError, also if others can read the file."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & (stat.S_IROTH | stat.S_IWOTH):
                raise KeyFileError(f"{path}: others can read or write it (mode {mode & 0o777:o}): chmod 600 {path}")
            content = file.read()
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # tomllib's own, bad UTF-8, integers too long, nesting too deep
        raise KeyFileError(f"{path}: not TOML: {error}") from error
    return tables.items()


def _address(path: Path, text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError as error:
        raise KeyFileError(f'{path}: ["{text}"]: expected an IPv6 address: {error}') from error


def spi_and_key(where: str, table: object) -> tuple[int, bytes]:
    """Return what a table of a key file says. Raises KeyFileError, which begins with `where`."""
    if not isinstance(table, dict) or set(table) != {"spi", "key"}:
        raise KeyFileError(f"{where}: expected a table with exactly spi and key")
    spi, text = table["spi"], table["key"]
    if not isinstance(spi, int) or not MINIMUM_SPI <= spi <= 0xFFFFFFFF:
        raise KeyFileError(f"{where}: spi: expected an integer of {MINIMUM_SPI} to 4294967295, got {spi!r}")
    try:
        key = bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise KeyFileError(f"{where}: key: expected hexadecimal digits in a string") from error
    if len(key) < MINIMUM_KEY_LENGTH:
        raise KeyFileError(f"{where}: key: expected {MINIMUM_KEY_LENGTH} bytes or more, got {len(key)}")
    return spi, key
