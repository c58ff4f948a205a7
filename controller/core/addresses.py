# SPDX-License-Identifier: Apache-2.0
"""Addresses and prefixes as the core keeps them: packed bytes in network order, shown in RFC 5952 form.

Home addresses may be IPv4 (RFC 5555); what a tunnel runs between is IPv6.
"""

import ipaddress
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton  # these compute, and are ten times as fast as ipaddress
from typing import NamedTuple


class Prefix(NamedTuple):
    """An IPv6 or IPv4 prefix; a single address is one of full length. No bit is set beyond ``length``."""

    packed: bytes
    length: int

    def __str__(self) -> str:
        text = format_address(self.packed)
        return text if self.is_host else f"{text}/{self.length}"

    @property
    def bits(self) -> int:
        """The length of its family's addresses, in bits."""
        return len(self.packed) * 8

    @property
    def is_ipv4(self) -> bool:
        """True for an IPv4 prefix."""
        return len(self.packed) == 4

    @property
    def is_host(self) -> bool:
        """True for a single address."""
        return self.length == self.bits

    def shortened(self, length: int) -> "Prefix":
        """Return the prefix of ``length``, at most this one's, that this one lies in."""
        shift = self.bits - length
        value = int.from_bytes(self.packed, "big") >> shift << shift
        return Prefix(value.to_bytes(len(self.packed), "big"), length)

    def contains(self, other: "Prefix") -> bool:
        """Tell whether every address of ``other`` lies in this prefix."""
        if other.length < self.length or len(other.packed) != len(self.packed):
            return False
        octets, bits = divmod(self.length, 8)
        if self.packed[:octets] != other.packed[:octets]:
            return False
        return not bits or self.packed[octets] >> 8 - bits == other.packed[octets] >> 8 - bits

    def overlaps(self, other: "Prefix") -> bool:
        """Tell whether the two have an address in common."""
        return self.contains(other) or other.contains(self)


def host(packed: bytes) -> Prefix:
    """Return the prefix that holds the one address ``packed``."""
    return Prefix(packed, len(packed) * 8)


def format_address(packed: bytes) -> str:
    """Return the text of a packed address, of IPv6 in RFC 5952 form."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed[0]:
        return inet_ntop(AF_INET6, packed)
    # Which ones of these end in dotted form is the C library's own decision.
    return str(ipaddress.IPv6Address(packed))


def parse_address(text: str) -> bytes:
    """Return the packed form of an IPv6 or IPv4 address in any of its valid text forms, without a zone.

    Raises ValueError, with the reason, for anything else.
    """
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        zone = " without a zone" if "%" in text else ""
        raise ValueError(f"expected an IPv6 address{zone}, got {text!r}") from None


def parse_ipv6_address(text: str) -> bytes:
    """Return the packed form of an IPv6 address: of what a tunnel runs between. Raises ValueError, with the reason."""
    packed = parse_address(text)
    if len(packed) != 16:
        raise ValueError(f"expected an IPv6 address, got {text!r}; tunnels with IPv4 outer headers are not supported")
    return packed


def parse_prefix(text: str) -> Prefix:
    """Return the prefix written as ``address`` or ``address/length``.

    Raises ValueError, with the reason, when it is neither or when bits are set beyond its length.
    """
    address, slash, length = text.partition("/")
    packed = parse_address(address)
    if not slash:
        return host(packed)
    longest = len(packed) * 8
    if not (length.isascii() and length.isdigit() and int(length) <= longest):
        raise ValueError(f"expected a prefix length from 0 to {longest}, got {text!r}")
    bits = int(length)
    if int.from_bytes(packed, "big") & ((1 << (longest - bits)) - 1):
        raise ValueError(f"{text!r} has bits set beyond its prefix length {bits}")
    return Prefix(packed, bits)


# What never identifies a host that is reachable across the network (RFC 4291, RFC 6890).
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
        ("240.0.0.0/4", "reserved (240.0.0.0/4)"),
    )
)

# By the length of an address in octets: with what such blocks begin. Few addresses need a closer look.
_FIRST_OCTETS = {
    octets: frozenset(
        first
        for block, _ in NOT_GLOBAL_UNICAST
        if len(block.packed) == octets
        for first in range(block.packed[0], block.packed[0] + (1 << max(0, 8 - block.length)))
    )
    for octets in (4, 16)
}


def why_not_global_unicast(prefix: Prefix) -> str | None:
    """Say what keeps ``prefix`` from being unicast space that is reachable across the network, None if nothing does."""
    if prefix.length >= 8 and prefix.packed[0] not in _FIRST_OCTETS[len(prefix.packed)]:
        return None
    for block, reason in NOT_GLOBAL_UNICAST:
        if block.contains(prefix):
            return f"{prefix} is {reason}"
        if prefix.contains(block):
            return f"{prefix} includes {block}, which is {reason}"
    return None
