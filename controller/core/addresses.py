# SPDX-License-Identifier: Apache-2.0
"""Addresses and prefixes as the core keeps them: packed bytes in network order, shown in RFC 5952 form."""

import ipaddress
from typing import NamedTuple

ADDRESS_BITS = 128


class Prefix(NamedTuple):
    """An IPv6 prefix; a single address is a prefix of length 128. ``packed`` has no bit set beyond ``length``."""

    packed: bytes
    length: int

    def __str__(self) -> str:
        text = format_address(self.packed)
        return text if self.length == ADDRESS_BITS else f"{text}/{self.length}"

    @property
    def is_host(self) -> bool:
        """True for a single address."""
        return self.length == ADDRESS_BITS

    def contains(self, other: "Prefix") -> bool:
        """Tell whether every address of ``other`` lies in this prefix."""
        if other.length < self.length:
            return False
        shift = ADDRESS_BITS - self.length
        return int.from_bytes(self.packed, "big") >> shift == int.from_bytes(other.packed, "big") >> shift

    def overlaps(self, other: "Prefix") -> bool:
        """Tell whether the two have an address in common."""
        return self.contains(other) or other.contains(self)


def host(packed: bytes) -> Prefix:
    """Return the prefix that holds the one address ``packed``."""
    return Prefix(packed, ADDRESS_BITS)


def format_address(packed: bytes) -> str:
    """Return the RFC 5952 text of a packed address."""
    return str(ipaddress.IPv6Address(packed))


def parse_address(text: str) -> bytes:
    """Return the packed form of an IPv6 address in any of its valid text forms, without a zone.

    Raises ValueError, with the reason, for anything else; IPv4 addresses are named as such.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"expected an IPv6 address, got {text!r}") from None
    if address.version != 6:
        raise ValueError(f"expected an IPv6 address, got the IPv4 address {text!r}; IPv4 is not supported yet")
    if address.scope_id is not None:
        raise ValueError(f"expected an IPv6 address without a zone, got {text!r}")
    return address.packed


def parse_prefix(text: str) -> Prefix:
    """Return the prefix written as ``address`` or ``address/length``.

    Raises ValueError, with the reason, when it is neither or when bits are set beyond its length.
    """
    address, slash, length = text.partition("/")
    packed = parse_address(address)
    if not slash:
        return host(packed)
    if not (length.isascii() and length.isdigit() and int(length) <= ADDRESS_BITS):
        raise ValueError(f"expected a prefix length from 0 to {ADDRESS_BITS}, got {text!r}")
    bits = int(length)
    value = int.from_bytes(packed, "big")
    if value & ((1 << (ADDRESS_BITS - bits)) - 1):
        raise ValueError(f"{text!r} has bits set beyond its prefix length {bits}")
    return Prefix(packed, bits)


# What never identifies a host that is reachable across the network: ::/8 (unspecified, loopback, IPv4-mapped),
# the discard prefix (RFC 6666), link-local unicast, the deprecated site-local range, and multicast.
_NOT_GLOBAL_UNICAST = tuple(
    (parse_prefix(block), reason)
    for block, reason in (
        ("::/128", "the unspecified address"),
        ("::1/128", "the loopback address"),
        ("::ffff:0:0/96", "an IPv4-mapped address"),
        ("::/8", "reserved (::/8)"),
        ("100::/64", "a discard-only address (RFC 6666)"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local, which is deprecated (RFC 3879)"),
        ("ff00::/8", "multicast"),
    )
)


def why_not_global_unicast(prefix: Prefix) -> str | None:
    """Say what keeps ``prefix`` from being global unicast space (RFC 4291 section 2.4), or None if nothing does."""
    for block, reason in _NOT_GLOBAL_UNICAST:
        if block.contains(prefix):
            return f"{prefix} is {reason}"
        if prefix.contains(block):
            return f"{prefix} includes {block}, which is {reason}"
    return None
