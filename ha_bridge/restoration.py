# SPDX-License-Identifier: Apache-2.0
"""Restore a restarted home agent's binding cache through its terminal. Pure.

UMIP keeps its binding cache in memory only. Its terminal accepts entries (`bc add`) and treats them as Binding Updates
without acknowledgement, so the tunnels return before the mobile nodes register again. Just after its start it refuses
all (status 132): it learns its home prefix from its own router advertisement, seconds later.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ha_bridge.model import CacheEntry, decided

UNIT = 4  # seconds per unit of a Binding Update's Lifetime field (RFC 6275 section 6.1.7), which `bc add` fills

_ANSWER = re.compile(rb"bc status=(\d+)\s*")
_REFUSED = 128  # and above (RFC 6275 section 6.1.8)
# RFC 6275 section 6.1.8, RFC 3963 section 4.2
_WORDS = {
    128: "reason unspecified",
    129: "administratively prohibited",
    130: "insufficient resources",
    131: "home registration not supported",
    132: "not home subnet",
    133: "not home agent for this mobile node",
    134: "duplicate address detection failed",
    135: "sequence number out of window",
    139: "registration type change disallowed",
    140: "mobile router operation not permitted",
    141: "invalid prefix",
    142: "not authorized for prefix",
    143: "forwarding setup failed",
}
# Statuses of a home agent that is not ready yet, or lacks a resource for a while.
_PASSING = frozenset({128, 130, 132})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason for which an entry was refused; `passing`: it may be accepted later."""

    reason: str
    passing: bool


def refusal(answer: bytes) -> Refusal | None:
    """Return the refusal in the terminal's answer to `bc add`; None if the entry was added."""
    match = _ANSWER.fullmatch(answer)
    if match is None:
        return Refusal(answer.strip().decode(errors="replace")[:200], passing=False)
    status = int(match[1])
    if status < _REFUSED:
        return None
    return Refusal(f"status {status}: {_WORDS.get(status, 'not known')}", passing=status in _PASSING)


class Restoration:
    """Track the entries to restore until they are restored, refused for good, or expired.

    Times are in monotonic seconds.
    """

    def __init__(self, home_agent: str) -> None:
        self._home_agent = home_agent
        self._entries: list[CacheEntry] = []
        self._observed = 0.0
        # By home address, with the end of the lifetime and the reason of the last refusal.
        self._pending: dict[str, tuple[CacheEntry, float, str]] = {}
        self._given_up: dict[str, str] = {}

    def observe(self, entries: Iterable[CacheEntry], now: float) -> None:
        """Record the entries that the home agent shows, which may have to be restored later."""
        self._entries, self._observed = list(entries), now

    def restarted(self) -> None:
        """Record that the home agent is another process now. Idempotent until the next `observe`."""
        for entry in self._entries:
            if entry.status != "registered" or "H" not in entry.flags or entry.local != self._home_agent:
                continue
            if entry.left is None or entry.overdue:
                self._given_up[entry.home_address] = "its lifetime is over or unknown"
            elif entry.prefixes:
                self._given_up[entry.home_address] = "the terminal accepts no mobile network prefixes"
            else:
                self._pending[entry.home_address] = (entry, self._observed + entry.left, "")
        self._entries = []

    def due(self, entries: Iterable[CacheEntry], now: float) -> list[CacheEntry]:
        """Return the entries to restore while the home agent shows `entries`.

        Each has its remaining lifetime in `left`.
        """
        present = decided(entries, self._home_agent)
        due = []
        for home, (entry, end, reason) in list(self._pending.items()):
            if home in present:
                del self._pending[home]
            elif end - now < UNIT:
                self._give_up(home, f"its lifetime is over; until then: {reason}" if reason else "its lifetime is over")
            else:
                due.append(replace(entry, left=int(end - now)))
        return due

    def added(self, home_addresses: Iterable[str]) -> None:
        """Record the home addresses whose entries the home agent accepted."""
        for home in home_addresses:
            self._pending.pop(home, None)

    def refused(self, refusals: dict[str, Refusal]) -> None:
        """Record the home addresses that the home agent refused."""
        for home, why in refusals.items():
            if why.passing and home in self._pending:
                self._pending[home] = (*self._pending[home][:2], why.reason)
            else:
                self._give_up(home, why.reason)

    @property
    def waits_for(self) -> str | None:
        """Return why entries are still to be restored; None if there are none."""
        if not self._pending:
            return None
        reasons = {reason for _entry, _end, reason in self._pending.values() if reason}
        return f"{len(self._pending)} bindings are yet to be restored ({', '.join(sorted(reasons)) or 'not tried yet'})"

    def take_given_up(self) -> dict[str, str]:
        """Return the reasons by home address of the entries given up since the last call."""
        given_up, self._given_up = self._given_up, {}
        return given_up

    def _give_up(self, home: str, reason: str) -> None:
        self._pending.pop(home, None)
        self._given_up[home] = reason


def add_command(entry: CacheEntry) -> str:
    """Return the terminal's command that restores an entry with the lifetime in `left`.

    Each word ends with a blank, the last one too, as the terminal requires. Duplicate address detection is left out, as
    the mobile node has had the address all the while.
    """
    # The terminal refuses 65535 as an overflow; with `auto` the next Binding Update may have any number.
    sequence = "auto" if entry.sequence >= 0xFFFF else str(entry.sequence)
    flags = "".join(flag for flag in entry.flags if flag in "AHLK")
    return (
        f"bc add hoa {entry.home_address} coa {entry.care_of_address} local {entry.local} flags {flags}"
        f" lifetime {entry.left} seq {sequence} dad never "
    )
