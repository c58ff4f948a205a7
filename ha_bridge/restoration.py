# SPDX-License-Identifier: Apache-2.0
"""What a home agent forgot in a restart, as it was last seen. Pure.

UMIP keeps its binding cache in memory alone. Its terminal takes entries back (`bc add`), which it then treats as
Binding Updates that need no acknowledgement: its tunnels are there again before the mobile nodes ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .model import CacheEntry

UNIT = 4  # seconds per unit of a Binding Update's Lifetime field (RFC 6275 section 6.1.7), which `bc add` fills


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What to put back; `given_up`: home address and reason of what can't be."""

    entries: list[CacheEntry]
    given_up: dict[str, str]


class Restoration:
    """Remembers what a home agent showed, and tells after its restart what it has forgotten.

    Only the restart of a process that was seen to have gone counts: an entry that a running home agent does not show
    any more has been deregistered or has expired.
    """

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent
        self._entries: list[CacheEntry] = []
        self._seen = 0.0
        self._gone = False
        self._sockets: frozenset[int] = frozenset()

    def gone(self) -> None:
        """Its process is not there."""
        self._gone = True

    def seen(self, entries: Iterable[CacheEntry], sockets: frozenset[int], now: float) -> None:
        """It shows `entries`, and all that it forgot has been put back."""
        self._entries, self._seen, self._gone, self._sockets = list(entries), now, False, sockets

    def forgotten(self, entries: Iterable[CacheEntry], sockets: frozenset[int], now: float) -> Forgotten:
        """Return what is to be put back now that it shows `entries`, at `now` (monotonic seconds).

        `sockets`: inodes of the raw sockets on which it receives Mobility Headers, empty where these can't be seen:
        other ones are another process's, however quickly that was started.
        """
        if not self._gone and not (self._sockets and sockets and not self._sockets & sockets):
            return Forgotten([], {})
        return self._lacking({entry.home_address for entry in entries}, now)

    def _lacking(self, present: set[str], now: float) -> Forgotten:
        forgotten = Forgotten([], {})
        for entry in self._entries:
            if entry.status != "registered" or "H" not in entry.flags or entry.local != self._home_agent:
                continue
            if entry.home_address in present:
                continue
            left = -1.0 if entry.left is None or entry.overdue else entry.left - (now - self._seen)
            if left < UNIT:
                forgotten.given_up[entry.home_address] = "its lifetime is over or unknown"
            elif entry.prefixes:
                forgotten.given_up[entry.home_address] = "the terminal takes no mobile network prefixes"
            else:
                forgotten.entries.append(replace(entry, left=int(left)))
        return forgotten


def add_command(entry: CacheEntry) -> str:
    """Return the terminal's command that puts an entry back; `left` is what it is granted.

    Each word ends with a blank, the last one too: the terminal knows them by that. Without duplicate address detection,
    because the mobile node has had the address all the while.
    """
    # The number 65535 is refused as an overflow; `auto` takes the next Binding Update's, whatever it is.
    sequence = "auto" if entry.sequence >= 0xFFFF else str(entry.sequence)
    flags = "".join(flag for flag in entry.flags if flag in "AHLK")
    return (
        f"bc add hoa {entry.home_address} coa {entry.care_of_address} local {entry.local} flags {flags}"
        f" lifetime {entry.left} seq {sequence} dad never "
    )
