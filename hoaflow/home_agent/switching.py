# SPDX-License-Identifier: Apache-2.0
"""Decide which mobile nodes to tell when that they shall move to another home agent (RFC 5142, section 5.2). Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hoaflow.home_agent.cache import Binding, State
from hoaflow.mobility.entries import Entries

INITIAL_TIMEOUT, MAX_TIMEOUT = 5.0, 20.0
"""Seconds until a mobile node is told again: at first, and at most (RFC 5142; from memory, see docs/conformance.md)."""
MOST_TIMES = 10
"""Times that a mobile node is told: for some two and a half minutes."""
RATE = 50.0
"""Mobile nodes that are told in a second, so that not all register at once."""


@dataclass(frozen=True, slots=True)
class _Told:
    home_address: str
    times: int
    due: float


class Switching:
    """The mobile nodes that shall leave."""

    def __init__(self, binding: Callable[[str], Binding | None]) -> None:
        """Start with none. `binding` returns a home address's entry of the binding cache."""
        self._binding = binding
        self._told: Entries[_Told] = Entries()
        self._next = 0.0

    def begin(self, bindings: Iterable[Binding], now: float) -> None:
        """Have these told one after the other, from now on; those that are being told already go on."""
        self._next = max(self._next, now)
        for binding in bindings:
            if binding.home_address not in self._told:
                self._told.put(binding.home_address, _Told(binding.home_address, 0, self._next))
                self._next += 1 / RATE

    def end(self) -> None:
        """Tell nobody any more."""
        self._told = Entries()

    def refused(self, home_address: str, source: str) -> bool:
        """Tell a node no more that does not know the message (section 5.3); return whether it was being told."""
        binding = self._binding(home_address)
        if binding is None or home_address not in self._told or source not in (home_address, binding.care_of_address):
            return False
        self._told.remove(home_address)
        return True

    def tick(self, now: float) -> list[Binding]:
        """Return the bindings whose mobile nodes are to be told now."""
        found = []
        for told in self._told.due(now):
            binding = self._binding(told.home_address)
            if binding is None or binding.state is State.DYING or told.times >= MOST_TIMES:
                self._told.remove(told.home_address)
                continue
            times = told.times
            if binding.state is State.REGISTERED:
                found.append(binding)
                times += 1
            timeout = min(INITIAL_TIMEOUT * 2 ** max(0, times - 1), MAX_TIMEOUT)
            self._told.put(told.home_address, _Told(told.home_address, times, now + timeout))
        return found

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which `tick` has something to do, None for never."""
        return self._told.next_due()
