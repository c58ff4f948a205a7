# SPDX-License-Identifier: Apache-2.0
"""Accept addresses and datapath ids in every form that people and other tools use."""

import ipaddress
import re

from hoaflow.cli.errors import WrongUsage

LARGEST_DPID = 2**64 - 1


def home_address(text: str) -> str:
    """Return a home address, or a mobile network prefix, in the controller's form (RFC 5952).

    Any valid spelling is accepted: capitals, leading zeros, brackets, an IPv4-mapped home address (RFC 4291).
    Raises WrongUsage.
    """
    bare = text.strip()
    if bare.startswith("["):
        bare = bare.replace("[", "", 1).replace("]", "", 1)
    written, slash, length = bare.partition("/")
    first = address(written)
    if not slash:
        return first
    try:
        interface = ipaddress.ip_interface(f"{first}/{_length(length, mapped=':' in written and '.' in first)}")
    except ValueError:
        raise WrongUsage(f"expected a prefix length after the slash, got {text!r}") from None
    network = interface.network
    if interface.ip != network.network_address:
        raise WrongUsage(f"{text!r} has bits set beyond its prefix length; did you mean {network}?")
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def address(text: str) -> str:
    """Return an address in the controller's form (RFC 5952). Raises WrongUsage."""
    try:
        parsed = ipaddress.ip_address(text.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        raise WrongUsage(f"expected an IPv6 or IPv4 address, got {text!r}") from None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            raise WrongUsage(f"expected an address without a zone, got {text!r}")
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
    return str(parsed)


def datapath_ids(text: str) -> list[str]:
    """Return the datapath ids, as 16 hexadecimal digits, that `text` may denote.

    Colons, `0x` and 16 digits mean hexadecimal. A short number of decimal digits is ambiguous, as Open vSwitch shows
    datapath ids in either base: then there are two. Raises WrongUsage.
    """
    bare = text.strip().removeprefix("dpid:").lower()
    digits = bare.replace(":", "").removeprefix("0x")
    if not re.fullmatch(r"[0-9a-f]+", digits, re.ASCII) or "::" in bare:
        raise WrongUsage(f"expected a router's datapath id, such as 0000000000000001, 0x1 or 1, got {text!r}")
    values = [int(digits, 16)]
    if digits == bare and len(digits) != 16 and digits.isdecimal():
        values.append(int(digits))
    meant = [f"{value:016x}" for value in dict.fromkeys(values) if value <= LARGEST_DPID]
    if not meant:
        raise WrongUsage(f"expected a datapath id of at most 64 bits, got {text!r}")
    return meant


def _length(text: str, mapped: bool) -> str:
    """Return a prefix length; that of a mapped prefix in IPv4 bits."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return str(int(text) - 96) if mapped else text
