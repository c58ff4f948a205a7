# SPDX-License-Identifier: Apache-2.0
"""Remember what a home agent forgot in a restart. Pure.

A home agent that returns with an empty binding cache has not ended its mobile nodes' registrations. They are where they
were, and routers still send to them directly, while the home agent could only drop their packets. So what it showed
before stays valid until it has an entry for the home address again, or the lifetime ends.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from ha_bridge.model import Observed

# Seconds for which a binding without lifetime is believed when its home agent can't be asked any more.
WITHOUT_LIFETIME = 60.0
# The terminal shows whole seconds, rounded down, and the controller ends a lifetime by itself.
GRACE = 2.0


class Memory:
    """Hold the bindings that a home agent showed last, and those that it forgot. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._gone = False
        self._sockets: frozenset[int] = frozenset()
        self._shown: dict[str, Observed] = {}
        self._shown_at = 0.0
        # By home address, with the moment at which it ends.
        self._forgotten: dict[str, tuple[Observed, float]] = {}

    def gone(self) -> None:
        """Record that the home agent's process is gone."""
        self._gone = True

    def is_restarted(self, sockets: frozenset[int]) -> bool:
        """Tell whether the home agent with these sockets is another process than the last one.

        It is if it was gone in between, or has other sockets. `sockets` is empty if they are not visible.
        """
        return self._gone or bool(self._sockets and sockets and not self._sockets & sockets)

    def is_emptied(self, shown: Iterable[Observed]) -> bool:
        """Tell whether nothing is left of what the home agent showed last."""
        return bool(self._shown) and not self._shown.keys() & {binding.home_address for binding in shown}

    def is_news(self, shown: Iterable[Observed]) -> bool:
        """Tell whether a mobile node has registered since: it is new, or somewhere else."""
        known = {home: binding.care_of_address for home, binding in self._shown.items()}
        return any(known.get(binding.home_address) != binding.care_of_address for binding in shown)

    def seen(
        self, shown: Iterable[Observed], present: Collection[str], sockets: frozenset[int], now: float
    ) -> list[Observed]:
        """Remember what the home agent shows; return what it forgot and mobile nodes may still rely on.

        `present` are the home addresses for which it has an entry, whether they may be offloaded or not.
        """
        if self.is_restarted(sockets):
            self._forgotten |= {home: (binding, self._end(binding, now)) for home, binding in self._shown.items()}
        # A mobile router that is back is back with its networks, or without those that it gave up.
        back = {_registration(binding) for home, (binding, _end) in self._forgotten.items() if home in present}
        self._forgotten = {
            home: (binding, end)
            for home, (binding, end) in self._forgotten.items()
            if home not in present and end + GRACE > now and not ("/" in home and _registration(binding) in back)
        }
        self._gone, self._sockets = False, sockets
        self._shown, self._shown_at = {binding.home_address: binding for binding in shown}, now
        return [
            replace(binding, frozen=True, left=None if binding.total is None else max(0, int(end - now)))
            for binding, end in self._forgotten.values()
        ]

    def _end(self, binding: Observed, now: float) -> float:
        if binding.total is None:
            return now + WITHOUT_LIFETIME
        # What is left could not be told: not more than since the last look is certain.
        return self._shown_at + (binding.left or 0)


def _registration(binding: Observed) -> tuple[str, int | None]:
    """Return what a mobile router's home address and its networks have in common."""
    return binding.care_of_address, binding.sequence
