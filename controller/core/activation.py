# SPDX-License-Identifier: Apache-2.0
"""Which bindings have become active, since when, and how long that took; and which have not.

Those that have are active wherever their home agent's gates stand: so states can be counted without looking at each.
"""

from collections.abc import Iterable
from typing import NamedTuple

from controller.core.addresses import Prefix


class Activation(NamedTuple):
    """How long a binding took from its report to the word of its last router, in seconds.

    ``flow``: until its flows were sent, for which a tunnel agent or flows before them may have had to be waited for.
    ``barrier``: until the switch had confirmed them.
    """

    flow: float
    barrier: float


class Activations:
    """All bindings by home address: ``active_since`` has the moment for each that has become active at its care-of
    address, ``unconfirmed`` the moment of the report for each other one.

    That is None where a binding was active already and one of its flows has been lost or refused since.
    """

    def __init__(self) -> None:
        self.active_since: dict[Prefix, float] = {}
        self.unconfirmed: dict[Prefix, float | None] = {}

    def report(self, home_address: Prefix, now: float) -> None:
        """A binding has a new path."""
        self.active_since.pop(home_address, None)
        self.unconfirmed[home_address] = now

    def lose(self, home_addresses: Iterable[Prefix]) -> None:
        """Flows that these bindings should have are lost or refused."""
        for home_address in home_addresses:
            if self.active_since.pop(home_address, None) is not None:
                self.unconfirmed[home_address] = None

    def forget(self, home_address: Prefix) -> None:
        """The binding is gone."""
        self.active_since.pop(home_address, None)
        self.unconfirmed.pop(home_address, None)

    def confirm(self, home_address: Prefix, sent: float | None, now: float) -> Activation | None:
        """The binding is active. ``sent``: when the last of its flows was sent, None if it waited for something else.

        Returns how long it took, None where that tells nothing of how fast flows are installed.
        """
        since = self.unconfirmed.pop(home_address, None)
        self.active_since[home_address] = now
        return None if since is None or sent is None else Activation(max(0.0, sent - since), now - sent)
