# SPDX-License-Identifier: Apache-2.0
"""Remember which bindings have become active, since when, and how long that took; and which have not.

A binding that has become active is active wherever its home agent's gates stand, so that states can be counted without
looking at each.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import chain, islice
from typing import NamedTuple

from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix

# For how many bindings it is remembered since when they have been active: the latest.
REMEMBERED = 10_000


class ActivationTime(NamedTuple):
    """How long a binding took from its report to the confirmation of its last router, in seconds.

    ``flow``: until its flows were sent, the waits for a tunnel agent and for earlier flows included. ``barrier``: from
    then until the switch had confirmed them.
    """

    flow: float
    barrier: float


class Confirmed(NamedTuple):
    """What there is to say of a binding that has become active.

    ``has_event``: whether it has an event of its own. ``took`` is None where it says nothing about the speed of
    installation.
    """

    has_event: bool
    took: ActivationTime | None


UNNOTICED = Confirmed(has_event=False, took=None)


class Activations:
    """Bindings by whether they have become active at their care-of address.

    ``unconfirmed`` has all that have not, with the moment of the report: None for a binding that was active and has
    lost a flow since.
    """

    def __init__(self) -> None:
        self.unconfirmed: dict[Prefix, float | None] = {}
        self._since: OrderedDict[Prefix, float] = OrderedDict()  # the oldest first
        self._quiet: set[Prefix] = set()  # of the unconfirmed ones
        self._rechecks: dict[Prefix, None] = {}

    def report(self, home_address: Prefix, now: float, urgency: Urgency = Urgency.ROUTINE) -> None:
        """Record a binding with a new path. Its activation has an event of its own if its report has."""
        self._since.pop(home_address, None)
        self.unconfirmed[home_address] = now
        (self._quiet.discard if urgency.has_event else self._quiet.add)(home_address)

    def announce(self, home_address: Prefix) -> None:
        """Give the activation of a binding an event of its own, as somebody waits for it."""
        self._quiet.discard(home_address)

    def mark_incomplete(self, home_addresses: Iterable[Prefix]) -> None:
        """Record that these bindings lack a flow: it is lost or refused."""
        for home_address in home_addresses:
            self._since.pop(home_address, None)
            self.unconfirmed.setdefault(home_address, None)

    def expect(self, home_addresses: Iterable[Prefix]) -> None:
        """Record that another router is about to carry these bindings, which is worth no event."""
        for home_address in home_addresses:
            if home_address not in self.unconfirmed:
                self.unconfirmed[home_address] = None
                self._quiet.add(home_address)

    def forget(self, home_address: Prefix) -> None:
        """Forget a binding that is gone."""
        self._since.pop(home_address, None)
        self._quiet.discard(home_address)
        self.unconfirmed.pop(home_address, None)

    def confirm(self, home_address: Prefix, sent: float | None, now: float) -> Confirmed:
        """Record that the binding is active; ``sent``: when its last flow was, None if something else came last."""
        since = self.unconfirmed.pop(home_address, None)
        if not self.unconfirmed:
            self.unconfirmed.clear()  # dictionaries and sets keep the room of all that was ever in them
        if home_address in self._quiet:
            self._quiet.discard(home_address)
            if not self._quiet:
                self._quiet.clear()
            return UNNOTICED
        self._since[home_address] = now
        if len(self._since) > REMEMBERED:
            self._since.popitem(last=False)
        took = None if since is None or sent is None else ActivationTime(max(0.0, sent - since), now - sent)
        return Confirmed(True, took)

    def since(self, home_address: Prefix) -> float | None:
        """Return since when a binding has been active at its care-of address, None if that is not known."""
        return self._since.get(home_address)

    # Bindings that may have become active although no switch has confirmed flows of theirs just now.

    def recheck(self, home_addresses: Iterable[Prefix]) -> None:
        """Have these bindings checked again, as something has happened that may have made them active."""
        self._rechecks.update((each, None) for each in home_addresses if each in self.unconfirmed)

    def recheck_all(self) -> None:
        """Have all bindings checked again that are not active, first those whose activation is waited for."""
        announced = (each for each in self.unconfirmed if each not in self._quiet)
        self._rechecks = dict.fromkeys(chain(announced, self.unconfirmed))

    @property
    def has_rechecks(self) -> bool:
        """Whether any binding is to be checked again."""
        return bool(self._rechecks)

    def take_rechecks(self, most: int) -> list[Prefix]:
        """Take off and return bindings that are to be checked again, at most ``most``."""
        found = list(islice(self._rechecks, most))
        for home_address in found:
            del self._rechecks[home_address]
        if not self._rechecks:
            self._rechecks.clear()  # a dictionary keeps the room of all that was ever in it
        return found
