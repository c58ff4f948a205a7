# SPDX-License-Identifier: Apache-2.0
"""Remember bindings that the controller has refused, as their mobile nodes send packets all the same.

One uplink flow decapsulates for all home addresses at a care-of address, so it stays away while one of them is not
offloaded; and a prefix's flow would take the packets for all addresses within it. The last refused binding of each home
address is remembered, for the latest 10,000 home addresses.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from controller.core.bindings import Binding, Key
from controller.core.prefix_index import PrefixIndex
from hoaflow.addresses import Prefix
from hoaflow.deadlines import Deadlines

MOST = 10_000
_Key = tuple[bytes, Key]  # home agent, and the binding's


class _Reported(NamedTuple):
    """A binding, when it was reported last, and whether its home address is its home agent's."""

    binding: Binding
    at: float
    is_own: bool


class RefusedBindings:
    """The bindings that were refused and have not ended since."""

    def __init__(self) -> None:
        self._bindings: dict[_Key, _Reported] = {}  # oldest first
        self._at: dict[bytes, dict[_Key, None]] = {}
        self._own: Counter[Prefix] = Counter()  # by home address
        self._own_index: PrefixIndex[Prefix] = PrefixIndex()
        self._ends: Deadlines[_Key] = Deadlines()

    def __len__(self) -> int:
        return len(self._bindings)

    def at(self, care_of_address: bytes) -> Iterator[Binding]:
        """Iterate over the refused bindings at a care-of address."""
        return (self._bindings[key].binding for key in self._at.get(care_of_address, ()))

    def any_at(self, care_of_address: bytes) -> bool:
        """Tell whether there is a refused binding at a care-of address."""
        return care_of_address in self._at

    def any_within(self, prefix: Prefix) -> bool:
        """Tell whether a refused binding's home address, its home agent's own, lies in a prefix that is shorter."""
        return any(home_address != prefix for home_address in self._own_index.within(prefix))

    def put(self, binding: Binding, now: float, is_own: bool) -> Binding | None:
        """Remember a binding instead of an earlier one; return the one forgotten for it, None for none.

        is_own: whether its home address lies in a home prefix of its home agent. If not, no prefix around it stays away
        for it: a bridge could keep others' prefixes at their anchors.
        """
        gone = self.remove(binding)
        key = (binding.home_agent, binding.key)
        self._bindings[key] = _Reported(binding, now, is_own)
        if is_own:
            self._own[binding.home_address] += 1
            self._own_index.put(binding.home_address, binding.home_address)
        self._at.setdefault(binding.care_of_address, {})[key] = None
        if binding.expires_at is not None:
            self._ends.plan(key, binding.expires_at)
        return self._remove(next(iter(self._bindings))) if len(self._bindings) > MOST else gone

    def remove(self, update: Binding) -> Binding | None:
        """Forget the binding of which an update is, and return it, None if it is not known."""
        return self._remove((update.home_agent, update.key)) if self._bindings else None

    def _remove(self, key: _Key) -> Binding | None:
        refused = self._bindings.pop(key, None)
        if refused is None:
            return None
        if refused.is_own:
            self._disown(refused.binding.home_address)
        others = self._at[refused.binding.care_of_address]
        del others[key]
        if not others:
            del self._at[refused.binding.care_of_address]
        return refused.binding

    def _disown(self, home_address: Prefix) -> None:
        self._own[home_address] -= 1
        if not self._own[home_address]:
            del self._own[home_address]
            self._own_index.remove(home_address, home_address)

    def ended(self, now: float, most: int) -> list[Binding]:
        """Forget and return bindings whose lifetime has ended, at most ``most``."""
        found = []
        for key in self._ends.due(now, most):
            refused = self._bindings.get(key)
            ends = None if refused is None else refused.binding.expires_at
            if ends is not None and ends > now:
                self._ends.plan(key, ends)
            elif ends is not None and (gone := self._remove(key)) is not None:
                found.append(gone)
        return found

    def next_end(self) -> float | None:
        """Return a moment no later than the next end of a lifetime, None if none ends."""
        return self._ends.next()

    def outdated(self, home_agent: bytes, since: float) -> list[Binding]:
        """Forget and return a home agent's bindings that have not been reported since a moment."""
        old = [
            key
            for key, refused in self._bindings.items()
            if refused.binding.home_agent == home_agent and refused.at < since
        ]
        return [gone for key in old if (gone := self._remove(key)) is not None]
