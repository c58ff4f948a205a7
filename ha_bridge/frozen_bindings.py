# SPDX-License-Identifier: Apache-2.0
"""Keep the bindings that a home agent forgot in a restart. Pure.

A home agent that returns with an empty binding cache has not ended its mobile nodes' registrations. They are where they
were, and routers still send to them directly, while the home agent could only drop their packets. So a forgotten
binding stays valid, frozen, until the home agent has an entry for the home address again or the lifetime ends.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from ha_bridge.model import Observed

# Seconds for which a binding without lifetime stays valid after its home agent is gone.
WITHOUT_LIFETIME = 60.0
# The terminal shows whole seconds, rounded down, and the controller ends a lifetime by itself.
GRACE = 2.0


class FrozenBindings:
    """Hold the bindings that a home agent showed last, and those that it forgot. Times are in monotonic seconds."""

    def __init__(self) -> None:
        self._gone = False
        self._sockets: frozenset[int] = frozenset()
        self._shown: dict[str, Observed] = {}
        self._shown_at = 0.0
        # By home address, with the end of the lifetime.
        self._frozen: dict[str, tuple[Observed, float]] = {}

    def process_gone(self) -> None:
        """Record that the home agent's process is gone."""
        self._gone = True

    def is_restarted(self, sockets: frozenset[int]) -> bool:
        """Tell whether the home agent is another process than at the last observation.

        It is if it was gone in between, or has no socket of before. `sockets` is empty if they are not visible.
        """
        return self._gone or bool(self._sockets and sockets and not self._sockets & sockets)

    def is_emptied(self, shown: Iterable[Observed]) -> bool:
        """Tell whether the home agent shows none of the bindings that it showed last."""
        return bool(self._shown) and not self._shown.keys() & {binding.home_address for binding in shown}

    def has_new_registrations(self, shown: Iterable[Observed]) -> bool:
        """Tell whether a mobile node has registered since the last observation: it is new, or has moved."""
        known = {home: binding.care_of_address for home, binding in self._shown.items()}
        return any(known.get(binding.home_address) != binding.care_of_address for binding in shown)

    def observe(
        self, shown: Iterable[Observed], present: Collection[str], sockets: frozenset[int], now: float
    ) -> list[Observed]:
        """Record the bindings that the home agent shows; return the frozen ones.

        `present` are the home addresses on which the home agent has decided, whether they may be offloaded or not.
        """
        if self.is_restarted(sockets):
            self._frozen |= {home: (binding, self._end(binding, now)) for home, binding in self._shown.items()}
        # A mobile router that has registered anew has done so with its networks, or without those that it gave up.
        back = {_update_of(binding) for home, (binding, _end) in self._frozen.items() if home in present}
        self._frozen = {
            home: (binding, end)
            for home, (binding, end) in self._frozen.items()
            if home not in present and end + GRACE > now and not ("/" in home and _update_of(binding) in back)
        }
        self._gone, self._sockets = False, sockets
        self._shown, self._shown_at = {binding.home_address: binding for binding in shown}, now
        return [
            replace(binding, frozen=True, left=None if binding.total is None else max(0, int(end - now)))
            for binding, end in self._frozen.values()
        ]

    def _end(self, binding: Observed, now: float) -> float:
        if binding.total is None:
            return now + WITHOUT_LIFETIME
        # Without a remaining time, the binding is certain only up to the last observation.
        return self._shown_at + (binding.left or 0)


def _update_of(binding: Observed) -> tuple[str, int | None]:
    """Return what identifies the Binding Update of a mobile router's home address and networks."""
    return binding.care_of_address, binding.sequence
