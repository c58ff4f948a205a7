# SPDX-License-Identifier: Apache-2.0
"""Keep the table of mobile networks that mobile routers may have (RFC 3963, sections 6.1.2 and 6.2)."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv6Address, IPv6Network
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from hoaflow.addresses import canonical_ipv6_address, parse_prefix, why_not_global_unicast
from hoaflow.errors import HoaflowError
from hoaflow.mobility.messages import BindingUpdate, Status

T = TypeVar("T")
LONGEST_PREFIX = 126
"""Bits: room for the mobile router and a node."""


class PrefixTableError(HoaflowError, ValueError):
    """A file of what mobile nodes may have is unusable. The text says what is wrong and what was expected."""


class PrefixTable:
    """The prefixes of mobile networks by their mobile routers' home addresses. Pure."""

    def __init__(self, prefixes: Mapping[str, tuple[str, ...]]) -> None:
        """Take prefixes in the form of RFC 5952; none may overlap another."""
        self._prefixes = prefixes
        self._routers = {IPv6Network(prefix): router for router, own in prefixes.items() for prefix in own}
        self._lengths = sorted({network.prefixlen for network in self._routers})

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield prefixes and their mobile routers' home addresses."""
        return ((prefix, router) for router, own in self._prefixes.items() for prefix in own)

    def __bool__(self) -> bool:
        """Return whether any mobile router may have a prefix."""
        return bool(self._prefixes)

    def of(self, router: str) -> tuple[str, ...]:
        """Return the prefixes that a mobile router may have."""
        return self._prefixes.get(router, ())

    def refusal(self, update: BindingUpdate) -> Status | None:
        """Return why a mobile router may not have the networks that its update is about; None if it may."""
        own = self.of(update.home_address)
        if not own:
            return Status.MOBILE_ROUTER_NOT_PERMITTED
        wrong = set(update.mobile_networks) - set(own)
        if not wrong:
            return None
        known = any(IPv6Network(prefix) in self._routers for prefix in wrong)
        return Status.NOT_AUTHORISED_FOR_PREFIX if known else Status.INVALID_PREFIX

    def networks(self, update: BindingUpdate) -> tuple[str, ...]:
        """Return the networks that an accepted update registers: those that it names, else all that it may have."""
        if not update.mobile_router:
            return ()
        return update.mobile_networks or self.of(update.home_address)

    def router_of(self, address: str) -> str | None:
        """Return the home address of the mobile router in whose network an address lies; None if it lies in none."""
        networks = (IPv6Network((address, length), strict=False) for length in self._lengths)
        return next((self._routers[network] for network in networks if network in self._routers), None)


NO_MOBILE_NETWORKS = PrefixTable({})


def load_by_home_address(path: Path, home_prefix: IPv6Network, entry: Callable[[object], T]) -> dict[str, T]:
    """Read a file: TOML, home addresses with what `entry` makes an entry of, or raises ValueError.

    Raises PrefixTableError, also for a home address in two spellings.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise PrefixTableError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # tomllib's own, bad UTF-8, integers too long, nesting too deep
        raise PrefixTableError(f"{path}: not TOML: {error}") from error
    table: dict[str, T] = {}
    for name, value in content.items():
        where = f'{path}: "{name}"'
        try:
            address = canonical_ipv6_address(name)
            if IPv6Address(address) not in home_prefix:
                raise PrefixTableError(f"{where}: not in the home prefix {home_prefix}")
            if address in table:
                raise PrefixTableError(f"{where}: {address} is there already, spelled differently")
            table[address] = entry(value)
        except ValueError as error:
            raise error if isinstance(error, PrefixTableError) else PrefixTableError(f"{where}: {error}") from error
    return table


def load_prefix_table(path: Path, home_prefix: IPv6Network) -> PrefixTable:
    """Read the file: TOML, home addresses with a list of prefixes each. Raises PrefixTableError."""

    def prefixes(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError(f"expected a list of prefixes, got {value!r}")
        return tuple(_prefix(text, home_prefix) for text in value)

    table = load_by_home_address(path, home_prefix, prefixes)
    # Sorted, a prefix comes right before the first that lies in it.
    for one, other in pairwise(sorted(IPv6Network(prefix) for own in table.values() for prefix in own)):
        if one.overlaps(other):
            raise PrefixTableError(f"{path}: {one} and {other} overlap, so nobody can tell whose their packets are")
    return PrefixTable(table)


def _prefix(text: object, home_prefix: IPv6Network) -> str:
    prefix = parse_prefix(str(text))
    if prefix.is_ipv4 or not 0 < prefix.length <= LONGEST_PREFIX:
        raise ValueError(f"expected an IPv6 prefix of up to {LONGEST_PREFIX} bits, got {text!r}")
    if (reason := why_not_global_unicast(prefix)) is not None:
        raise ValueError(f"expected global unicast, but {reason}")
    if IPv6Network(str(prefix)).overlaps(home_prefix):
        raise ValueError(f"{prefix} overlaps the home prefix {home_prefix}, whose addresses are on the home link")
    return str(prefix)
