# SPDX-License-Identifier: Apache-2.0
"""Define the bridge's settings."""

from dataclasses import dataclass

# A bridge with several controllers renews each lease so often within it: whoever takes over a router has the rest.
RENEWALS = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """Intervals of the bridge, in seconds. `kernel`: changes in the kernel arrive as events.

    `pods`: the home agent is one of several pods, and may be followed only while it owns the address.
    """

    lease: int
    renew: float
    snapshot: float
    poll: float
    kernel: bool
    pods: bool = False

    def renewal(self, controllers: int) -> float:
        """Return the seconds between two renewals of the lease at each of so many controllers."""
        return self.renew if controllers == 1 else min(self.renew, self.lease / RENEWALS)
