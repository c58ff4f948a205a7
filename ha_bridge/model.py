# SPDX-License-Identifier: Apache-2.0
"""Model bindings as the sources show them, and select the entries that may be offloaded."""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import NamedTuple

# Protocols of bindings, as the controller names them.
MIPV6, PMIPV6, MIPV4 = "mipv6", "pmipv6", "mipv4"
# Why a prefix is left to its LMA whose parts go to several MAGs.
SEVERAL_GATEWAYS = "flow mobility (RFC 7864): several MAGs serve its home network prefix"


class Owner(NamedTuple):
    """Which of several pods owns the home agent's address, by name, and etcd's revision when it became the owner."""

    name: str
    revision: int


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """An entry of a home agent's binding cache, as the virtual terminal shows it.

    Addresses are in RFC 5952 form. `left` is in seconds, None if the terminal shows `-`, `(error)` or `(broken)`.
    `overdue`: the lifetime has ended, even by less than a second (`-0`). `total` is the lifetime granted, in seconds.
    `prefixes` are the mobile network prefixes (RFC 3963) and the IPv4 home address (RFC 5555). A terminal that does not
    show them leaves `local` None and `total` and `sequence` 0.
    """

    home_address: str
    status: str
    care_of_address: str
    flags: str
    local: str | None
    left: int | None
    overdue: bool
    total: int
    sequence: int
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A binding as a source shows it at one moment. `home_address` may be a mobile network prefix.

    `total` is None if the source knows no lifetimes (kernel only). With `total`, `left` is None if the source does not
    show the remaining time. `sequence` is None if there is none. `withheld` is the reason to leave a registered binding
    to the home agent, None if it may be offloaded. `frozen`: the home agent forgot it in a restart. `reverse_tunnel`
    (of Mobile IPv4): the mobile node's packets come in a tunnel, too.
    """

    home_address: str
    care_of_address: str
    left: int | None = None
    total: int | None = None
    sequence: int | None = None
    withheld: str | None = None
    frozen: bool = False
    reverse_tunnel: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """A complete reading of the source. `started` is the monotonic time at which it began."""

    started: float
    bindings: list[Observed]


@dataclass(frozen=True, slots=True)
class ReadingFailed:
    """A failed reading of the source. `down`: the home agent's process is certainly gone.

    `confirmed` is what the kernel alone shows, home address to care-of address, None if the kernel is not visible.
    """

    started: float
    down: bool
    detail: str
    confirmed: dict[str, str] | None = None


def offloadable(entries: Iterable[CacheEntry], home_agent: str) -> list[Observed]:
    """Return the bindings among `entries` that may be offloaded: accepted home registrations at `home_agent`.

    Registered and with flag H; not cached, dad, dying or nonce-block; not past their lifetime; not at home (care-of
    address = home address). Each mobile network prefix and IPv4 home address becomes a binding of its own. An IPv4
    care-of address, which such a terminal shows mapped to IPv6 (RFC 5555), is given as what it is.
    """
    found: list[Observed] = []
    for entry in entries:
        if entry.status != "registered" or "H" not in entry.flags or entry.local != home_agent:
            continue
        if entry.overdue or entry.care_of_address == entry.home_address:
            continue
        care_of_address = _unmapped(entry.care_of_address)
        found.extend(
            Observed(home, care_of_address, entry.left, entry.total, entry.sequence)
            for home in (entry.home_address, *entry.prefixes)
        )
    return found


def decided(entries: Iterable[CacheEntry], home_agent: str) -> set[str]:
    """Return the home addresses and prefixes on which `home_agent` has decided: registered, refused or at home.

    An entry in duplicate address detection is undecided.
    """
    return {
        home
        for entry in entries
        if "H" in entry.flags and entry.local == home_agent and entry.status != "dad"
        for home in (entry.home_address, *entry.prefixes)
    }


def _unmapped(address: str) -> str:
    if not address.startswith("::ffff:"):
        return address  # as nearly all
    return str(IPv6Address(address).ipv4_mapped or address)
