# SPDX-License-Identifier: Apache-2.0
"""Hold the bindings that every controller should have, and count their changes. Pure.

All times are seconds of one monotonic clock, given by the caller.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ha_bridge.model import Observed

# The terminal shows whole seconds, rounded down: ends that differ by less are the same end.
ROUNDING = 1.0


class Path(NamedTuple):
    """The path of a mobile node's packets: care-of address, reason not to offload them, and whether both ways."""

    care_of_address: str
    withheld: str | None
    reverse_tunnel: bool


@dataclass(frozen=True, slots=True)
class Registration:
    """A mobile node's registration, with the time at which its lifetime ends.

    `expires` and `total` are None if the source has no lifetimes. `detected` is the time of the first sign of this
    path. `withheld`, `frozen` and `reverse_tunnel` are as in `Observed`.
    """

    care_of_address: str
    sequence: int | None
    expires: float | None
    total: int | None
    detected: float | None = field(default=None, compare=False)
    withheld: str | None = None
    frozen: bool = field(default=False, compare=False)
    reverse_tunnel: bool = True

    @property
    def path(self) -> Path:
        """Return what identifies the path of the packets."""
        return Path(self.care_of_address, self.withheld, self.reverse_tunnel)

    def has_ended(self, now: float) -> bool:
        """Tell whether the lifetime has ended since the last reading."""
        return self.expires is not None and self.expires + ROUNDING <= now


class DesiredBindings:
    """Hold the home agent's bindings by home address.

    `last_change` is the number of the last change: of a path that came, went or became another. It counts on from the
    number given.
    """

    def __init__(self, last_change: int = 0) -> None:
        self.registrations: dict[str, Registration] = {}
        self.last_change = last_change

    def observe(self, bindings: Iterable[Observed], now: float, detected: float | None = None) -> None:
        """Replace the bindings by those of a complete reading at `now`.

        `detected` is the time of the first sign of what is new in it.
        """
        found = ((binding.home_address, self._registration(binding, now, detected)) for binding in bindings)
        before = self.registrations
        self.registrations = {home: registration for home, registration in found if registration is not None}
        came_or_moved = sum(
            home not in before or before[home].path != registration.path
            for home, registration in self.registrations.items()
        )
        self.last_change += came_or_moved + sum(home not in self.registrations for home in before)

    def withhold_unconfirmed(self, confirmed: dict[str, str], reason: str) -> list[str]:
        """Withhold the bindings whose care-of address differs from `confirmed`; return their home addresses.

        A frozen binding may be missing in `confirmed`, as the home agent forgot it.
        """
        unconfirmed = [
            home
            for home, registration in self.registrations.items()
            if registration.withheld is None
            and confirmed.get(home, registration.care_of_address if registration.frozen else None)
            != registration.care_of_address
        ]
        for home in unconfirmed:
            self.registrations[home] = replace(self.registrations[home], withheld=reason)
        self.last_change += len(unconfirmed)
        return unconfirmed

    @property
    def endless(self) -> bool:
        """Whether a binding has no lifetime that would end it."""
        return any(registration.expires is None for registration in self.registrations.values())

    def count_withheld(self) -> int:
        """Return the number of withheld bindings. May be called from any thread."""
        return sum(registration.withheld is not None for registration in dict(self.registrations).values())

    def count_frozen(self) -> int:
        """Return the number of bindings that the home agent forgot in a restart. May be called from any thread."""
        return sum(registration.frozen for registration in dict(self.registrations).values())

    def _registration(self, binding: Observed, now: float, detected: float | None) -> Registration | None:
        known = self.registrations.get(binding.home_address)
        if known is not None and known.care_of_address != binding.care_of_address:
            known = None
        if known is not None and known.withheld == binding.withheld:
            detected = known.detected
        if binding.total is None:
            expires = None
        elif binding.left is not None:
            expires = now + binding.left
        elif known is not None:
            expires = known.expires  # the remaining time is not shown: the end known before stands
        else:
            return None  # nothing would end it
        before = known.expires if known is not None else None
        if expires is not None and before is not None and abs(before - expires) < ROUNDING:
            expires = max(before, expires)  # both are rounded down, so the later one is closer
        return Registration(
            binding.care_of_address,
            binding.sequence,
            expires,
            binding.total,
            detected,
            binding.withheld,
            binding.frozen,
            binding.reverse_tunnel,
        )
