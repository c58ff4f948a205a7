# SPDX-License-Identifier: Apache-2.0
"""Parse, compare and format addresses and prefixes, kept as packed bytes in network order.

Text is in RFC 5952 form. Parsing uses `inet_pton`,
which costs a tenth of `ipaddress`: a snapshot may hold 100,000 bindings.
"""

import ipaddress
from collections.abc import Callable
from socket import AF_INET, AF_INET6, AddressFamily, inet_ntop, inet_pton
from typing import NamedTuple


class Prefix(NamedTuple):
    """An IPv6 or IPv4 prefix without host bits; a single address has full length."""

    packed: bytes
    length: int

    def __str__(self) -> str:
        text = format_address(self.packed)
        return text if self.is_host else f"{text}/{self.length}"

    @property
    def family(self) -> AddressFamily:
        """Return the address family, `AF_INET` or `AF_INET6`."""
        return AF_INET if self.is_ipv4 else AF_INET6

    @property
    def bits(self) -> int:
        """Return the length of the family's addresses in bits."""
        return len(self.packed) * 8

    @property
    def is_ipv4(self) -> bool:
        """Tell whether this is an IPv4 prefix."""
        return len(self.packed) == 4

    @property
    def is_host(self) -> bool:
        """Tell whether this is a single address."""
        return self.length == len(self.packed) * 8

    def shortened(self, length: int) -> "Prefix":
        """Return the prefix of `length` bits, at most as many as now, that contains this one."""
        octets, bits = divmod(length, 8)
        kept = self.packed[:octets]
        if bits:
            kept += bytes([self.packed[octets] >> 8 - bits << 8 - bits])
        return Prefix(kept.ljust(len(self.packed), b"\0"), length)

    def contains(self, other: "Prefix") -> bool:
        """Tell whether every address of `other` lies in this prefix."""
        if other.length < self.length or len(other.packed) != len(self.packed):
            return False
        if other.length == self.length:
            return other.packed == self.packed
        octets, bits = divmod(self.length, 8)
        if self.packed[:octets] != other.packed[:octets]:
            return False
        return not bits or self.packed[octets] >> 8 - bits == other.packed[octets] >> 8 - bits

    def overlaps(self, other: "Prefix") -> bool:
        """Tell whether the two prefixes have an address in common."""
        return self.contains(other) or other.contains(self)


def host(packed: bytes) -> Prefix:
    """Return the full-length prefix of one packed address."""
    return _NEW(Prefix, (packed, len(packed) * 8))


# What `Prefix(...)` calls, by way of a function in Python that costs as much again: each binding has several.
_NEW = tuple.__new__


def format_address(packed: bytes) -> str:
    """Return a packed address as text, IPv6 in RFC 5952 form."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed[0]:
        return inet_ntop(AF_INET6, packed)
    # For these the C library decides by itself whether to end in dotted form.
    return str(ipaddress.IPv6Address(packed))


def format_endpoint(host: str, port: int) -> str:
    """Return a socket's address as text; an IPv4 address that an IPv6 socket has (RFC 4291 section 2.5.5.2) as such."""
    if "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> bytes:
    """Return the packed form of an IPv6 or IPv4 address without a zone. Raises ValueError, with the reason."""
    return _parse(text, AF_INET6 if ":" in text else AF_INET, "IPv6 or IPv4")


def parse_ipv6_address(text: str) -> bytes:
    """Return the packed form of an IPv6 address without a zone. Raises ValueError, with the reason."""
    return _parse(text, AF_INET6, "IPv6")


def _parse(text: str, family: AddressFamily, expected: str) -> bytes:
    try:
        return inet_pton(family, text)
    except (OSError, ValueError):
        zone = " without a zone" if "%" in text else ""
        raise ValueError(f"expected an {expected} address{zone}, got {text!r}") from None


def parse_prefix(text: str, strict: bool = True) -> Prefix:
    """Return the prefix written as `address` or `address/length`.

    Host bits are cleared, or refused if `strict`. Raises ValueError, with the reason.
    """
    if "/" not in text:
        return host(parse_address(text))
    address, _, length = text.partition("/")
    packed = parse_address(address)
    longest = len(packed) * 8
    if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= longest):
        raise ValueError(f"expected a prefix length from 0 to {longest}, got {text!r}")
    bits = int(length)
    if not int.from_bytes(packed, "big") & ((1 << (longest - bits)) - 1):
        return Prefix(packed, bits)
    if strict:
        raise ValueError(f"expected a prefix, got {text!r}, which has bits set beyond its prefix length {bits}")
    return host(packed).shortened(bits)


def canonical_address(text: str) -> str:
    """Return an address as text, IPv6 in RFC 5952 form. Raises ValueError, with the reason."""
    return format_address(parse_address(text))


def canonical_ipv6_address(text: str) -> str:
    """Return an IPv6 address in RFC 5952 form. Raises ValueError, with the reason."""
    return format_address(parse_ipv6_address(text))


def canonical_prefix(text: str, strict: bool = True) -> str:
    """Return an address or prefix as text in RFC 5952 form, a full-length prefix as an address.

    Host bits are cleared, or refused if `strict`. Raises ValueError, with the reason.
    """
    return str(parse_prefix(text, strict))


# Blocks that never identify a host reachable across the network (RFC 4291, RFC 6890).
NOT_GLOBAL_UNICAST = tuple(
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
        ("0.0.0.0/8", "reserved (0.0.0.0/8)"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255", "the limited broadcast address"),
        ("240.0.0.0/4", "reserved (240.0.0.0/4)"),
    )
)

# First octets of these blocks, by the length of an address in octets: few addresses need a full comparison.
_FIRST_OCTETS = {
    octets: frozenset(
        first
        for block, _ in NOT_GLOBAL_UNICAST
        if len(block.packed) == octets
        for first in range(block.packed[0], block.packed[0] + (1 << max(0, 8 - block.length)))
    )
    for octets in (4, 16)
}


def longest_match(address: str, holds: Callable[[str], bool]) -> str | None:
    """Return the address, or the longest prefix with it, of which `holds` is true; None if it is of none.

    Raises ValueError for what is no address.
    """
    known = parse_prefix(address)
    prefixes = (str(known.shortened(length)) for length in range(known.length, 0, -1))
    return next(filter(holds, prefixes), None)


def why_not_global_unicast(prefix: Prefix) -> str | None:
    """Return why a prefix is not globally reachable unicast space; None if it is."""
    if prefix.length >= 8 and prefix.packed[0] not in _FIRST_OCTETS[len(prefix.packed)]:
        return None
    for block, reason in NOT_GLOBAL_UNICAST:
        if block.contains(prefix):
            return f"{prefix} is {reason}"
        if prefix.contains(block):
            return f"{prefix} includes {block}, which is {reason}"
    return None
