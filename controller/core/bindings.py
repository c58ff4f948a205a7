# SPDX-License-Identifier: Apache-2.0
"""The bindings of all home agents (RFC 6275 section 5.1, seen from outside the home agent)."""

import heapq
from collections.abc import Iterable, Iterator
from enum import Enum

from msgspec import Struct

from controller.core.addresses import Prefix

SEQUENCE_SPACE = 1 << 16
# Lifetimes are reported in whole seconds and take time to arrive: moments of expiry this close are the same one.
EXPIRY_JITTER = 2.0


class Binding(Struct, frozen=True, gc=False):
    """One home address (or mobile network prefix) and where its packets go.

    ``lifetime`` is the remaining lifetime in seconds as last reported and ``expires_at`` the moment that follows from
    it, on the caller's clock; both are None where the source knows none. ``sequence`` is the Binding Update's.
    """

    home_address: Prefix
    care_of_address: bytes
    home_agent: bytes
    lifetime: int | None = None
    expires_at: float | None = None
    sequence: int | None = None

    def same_path(self, other: "Binding") -> bool:
        """Tell whether packets take the same way under both."""
        return self.care_of_address == other.care_of_address and self.home_agent == other.home_agent

    def same_expiry(self, other: "Binding") -> bool:
        """Tell whether both end at the same moment, as far as whole seconds can tell."""
        if self.expires_at is None or other.expires_at is None:
            return self.expires_at is other.expires_at
        return abs(self.expires_at - other.expires_at) <= EXPIRY_JITTER


class Change(Enum):
    """What an update did to the table."""

    ADDED = "added"
    CHANGED = "changed"  # another care-of address or home agent
    REFRESHED = "refreshed"  # only lifetime or sequence number
    UNCHANGED = "unchanged"
    REMOVED = "removed"


class StaleSequence(Exception):
    """An update is older than what is held (RFC 6275 section 9.5.1)."""

    def __init__(self, home_address: Prefix, offered: int, held: int) -> None:
        super().__init__(
            f"sequence {offered} for {home_address} is not newer than {held}, which is held;"
            " send the binding as the home agent has it now"
        )
        self.offered = offered
        self.held = held


def is_newer(candidate: int, held: int) -> bool:
    """Compare sequence numbers modulo 2**16: the 32767 numbers after ``held`` are newer (RFC 6275 section 9.5.1)."""
    return 0 < (candidate - held) % SEQUENCE_SPACE < SEQUENCE_SPACE // 2


class BindingTable:
    """Bindings by home address, with the index by home agent and the queue of expiries that go with it."""

    def __init__(self) -> None:
        self._bindings: dict[Prefix, Binding] = {}
        self._by_home_agent: dict[bytes, dict[Prefix, None]] = {}
        self._expiries: list[tuple[float, Prefix]] = []

    def __len__(self) -> int:
        return len(self._bindings)

    def __iter__(self) -> Iterator[Binding]:
        return iter(self._bindings.values())

    def get(self, home_address: Prefix) -> Binding | None:
        """Return the binding held for ``home_address``."""
        return self._bindings.get(home_address)

    def covering(self, home_address: Prefix) -> Binding | None:
        """Return the binding that packets for ``home_address`` take: that of the longest prefix it lies in."""
        for length in range(home_address.length, -1, -1):
            if (held := self._bindings.get(home_address.shortened(length))) is not None:
                return held
        return None

    def of_home_agent(self, home_agent: bytes) -> Iterator[Binding]:
        """Iterate over the bindings of one home agent."""
        return (self._bindings[home_address] for home_address in self._by_home_agent.get(home_agent, ()))

    def count(self, home_agent: bytes) -> int:
        """Return how many bindings ``home_agent`` has."""
        return len(self._by_home_agent.get(home_agent, ()))

    def check_sequence(self, home_address: Prefix, sequence: int | None, care_of_address: bytes | None) -> None:
        """Raise StaleSequence if an update would go back in time.

        The very sequence number that is held is accepted for the care-of address that is held, for a report may be
        sent twice, and for the binding's end (``care_of_address`` None). Without sequence numbers the last report wins.
        """
        held = self._bindings.get(home_address)
        if held is None or held.sequence is None or sequence is None or is_newer(sequence, held.sequence):
            return
        if sequence == held.sequence and care_of_address in (None, held.care_of_address):
            return
        raise StaleSequence(home_address, sequence, held.sequence)

    def put(self, binding: Binding) -> Change:
        """Hold ``binding`` and say what that changed. Idempotent; the sequence number is not compared."""
        held = self._bindings.get(binding.home_address)
        if held is None:
            change = Change.ADDED
        elif not held.same_path(binding):
            change = Change.CHANGED
        elif held.sequence != binding.sequence or not held.same_expiry(binding):
            change = Change.REFRESHED
        else:
            return Change.UNCHANGED
        if held is not None and held.home_agent != binding.home_agent:
            del self._by_home_agent[held.home_agent][held.home_address]
        self._bindings[binding.home_address] = binding
        self._by_home_agent.setdefault(binding.home_agent, {})[binding.home_address] = None
        if binding.expires_at is not None:
            self._queue_expiry(binding.expires_at, binding.home_address)
        return change

    def remove(self, home_address: Prefix) -> Binding | None:
        """Forget a binding and return it, or None if it was not held. A later one may have any sequence number."""
        binding = self._bindings.pop(home_address, None)
        if binding is not None:
            del self._by_home_agent[binding.home_agent][home_address]
        return binding

    def absent_from(self, home_agent: bytes, present: Iterable[Prefix]) -> list[Prefix]:
        """Return the home addresses held for ``home_agent`` that are not among ``present``."""
        keep = set(present)
        return [home_address for home_address in self._by_home_agent.get(home_agent, ()) if home_address not in keep]

    def expired(self, now: float) -> list[Binding]:
        """Remove and return the bindings whose lifetime has ended."""
        ended = []
        while self._expiries and self._expiries[0][0] <= now:
            expires_at, home_address = heapq.heappop(self._expiries)
            held = self._bindings.get(home_address)
            # A refresh queues a new moment and leaves the old one here; only the one that still holds counts.
            if held is not None and held.expires_at == expires_at:
                self.remove(home_address)
                ended.append(held)
        return ended

    def next_expiry(self) -> float | None:
        """Return a moment no later than the next expiry, or None when nothing expires."""
        return self._expiries[0][0] if self._expiries else None

    def _queue_expiry(self, expires_at: float, home_address: Prefix) -> None:
        heapq.heappush(self._expiries, (expires_at, home_address))
        # Refreshes leave stale moments behind; rebuild before they outweigh the live ones.
        if len(self._expiries) > 2 * len(self._bindings) + 64:
            self._expiries = [(b.expires_at, b.home_address) for b in self if b.expires_at is not None]
            heapq.heapify(self._expiries)
