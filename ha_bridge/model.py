# SPDX-License-Identifier: Apache-2.0
"""What the bridge knows of a binding, and which entries of a binding cache are bindings to offload."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One entry of a home agent's binding cache, as the virtual terminal shows it.

    Addresses are in RFC 5952 form. `left` is in seconds, None where the terminal cannot tell (`-`, `(error)`,
    `(broken)`); an entry past its lifetime has `overdue` set, even by less than a second (`-0`). `total` is
    the lifetime granted, in seconds. `prefixes` are the mobile network prefixes (RFC 3963).
    """

    home_address: str
    status: str
    care_of_address: str
    flags: str
    local: str
    left: int | None
    overdue: bool
    total: int
    sequence: int
    prefixes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """A binding as a source shows it at one moment. `home_address` may be a prefix (a mobile network's).

    `total` is None where the source knows no lifetimes at all (kernel only). With `total` set, `left` is None
    when the source could not tell what is left of it. `sequence` is None where there is none. `withheld`: why it is
    left to the home agent although it is registered there, None if it is to be offloaded. `frozen`: the home agent
    forgot it in a restart.
    """

    home_address: str
    care_of_address: str
    left: int | None = None
    total: int | None = None
    sequence: int | None = None
    withheld: str | None = None
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A complete look at the source. `started` is the (monotonic) time at which the looking began."""

    started: float
    bindings: list[Observed]


@dataclass(frozen=True, slots=True)
class ReadingFailed:
    """A look at the source that gave nothing. `down`: the home agent's process is certainly not there.

    `confirmed` is what the kernel alone shows meanwhile, home address to care-of address; None where it is
    not to be seen.
    """

    started: float
    down: bool
    detail: str
    confirmed: dict[str, str] | None = None


def offloadable(entries: Iterable[CacheEntry], home_agent: str) -> list[Observed]:
    """Return the bindings among `entries` that may be offloaded: accepted home registrations at `home_agent`.

    Registered and with flag H; not cached, dad, dying or nonce-block; not past their lifetime; not at home
    (care-of address = home address). Each mobile network prefix becomes a binding of its own.
    """
    found: list[Observed] = []
    for entry in entries:
        if entry.status != "registered" or "H" not in entry.flags or entry.local != home_agent:
            continue
        if entry.overdue or entry.care_of_address == entry.home_address:
            continue
        found.extend(
            Observed(home, entry.care_of_address, entry.left, entry.total, entry.sequence)
            for home in (entry.home_address, *entry.prefixes)
        )
    return found


def spoken_for(entries: Iterable[CacheEntry], home_agent: str) -> set[str]:
    """Return the home addresses and prefixes on which `home_agent` has a word of its own: accepted, refused or at home.

    Duplicate address detection is none yet: nobody knows how it ends.
    """
    return {
        home
        for entry in entries
        if "H" in entry.flags and entry.local == home_agent and entry.status != "dad"
        for home in (entry.home_address, *entry.prefixes)
    }
