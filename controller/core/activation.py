# SPDX-License-Identifier: Apache-2.0
"""Which bindings have become active, since when, and how long that took; and which have not.

Those that have are active wherever their home agent's gates stand: so states can be counted without looking at each.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from controller.core.urgency import Urgency
from hoaflow.addresses import Prefix

# Of so many bindings it is remembered since when they have been active: those that became so last.
REMEMBERED = 10_000


class Activation(NamedTuple):
    """How long a binding took from its report to the word of its last router, in seconds.

    ``flow``: until its flows were sent, for which a tunnel agent or flows before them may have had to be waited for.
    ``barrier``: until the switch had confirmed them.
    """

    flow: float
    barrier: float


class Confirmed(NamedTuple):
    """A binding has become active: whether that has an event of its own, and how long it took.

    ``took`` is None where that tells nothing of how fast flows are installed.
    """

    has_event: bool
    took: Activation | None


class Activations:
    """All bindings that have not become active at their care-of address, by home address, and some of the others.

    ``unconfirmed`` has the moment of the report. That is None where a binding was active already and one of its flows
    has been lost or refused since.
    """

    def __init__(self) -> None:
        self.unconfirmed: dict[Prefix, float | None] = {}
        self._since: OrderedDict[Prefix, float] = OrderedDict()  # the oldest first
        self._quiet: set[Prefix] = set()  # of the unconfirmed ones
        self._rechecks: dict[Prefix, None] = {}

    def report(self, home_address: Prefix, now: float, urgency: Urgency = Urgency.ROUTINE) -> None:
        """A binding has a new path; its activation is announced if that is."""
        self.forget(home_address)
        self.unconfirmed[home_address] = now
        if not urgency.has_event:
            self._quiet.add(home_address)

    def announce(self, home_address: Prefix) -> None:
        """Somebody waits for this one to become active: that shall be told."""
        self._quiet.discard(home_address)

    def lose(self, home_addresses: Iterable[Prefix]) -> None:
        """Flows that these bindings should have are lost or refused."""
        for home_address in home_addresses:
            self._since.pop(home_address, None)
            self.unconfirmed.setdefault(home_address, None)

    def forget(self, home_address: Prefix) -> None:
        """The binding is gone."""
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
            return Confirmed(False, None)
        self._since[home_address] = now
        if len(self._since) > REMEMBERED:
            self._since.popitem(last=False)
        took = None if since is None or sent is None else Activation(max(0.0, sent - since), now - sent)
        return Confirmed(True, took)

    def since(self, home_address: Prefix) -> float | None:
        """Return since when a binding has been active at its care-of address, None if that is not known."""
        return self._since.get(home_address)

    # Those that may have become active without a word of a switch on their own flows.

    def recheck(self, home_addresses: Iterable[Prefix]) -> None:
        """Something has happened that may have made these active."""
        self._rechecks.update((each, None) for each in home_addresses if each in self.unconfirmed)

    def recheck_all(self) -> None:
        """Something has happened that may have made any active."""
        self._rechecks = dict.fromkeys(self.unconfirmed)

    @property
    def has_rechecks(self) -> bool:
        """Tell whether any is to be looked at."""
        return bool(self._rechecks)

    def take_rechecks(self, most: int) -> list[Prefix]:
        """Take off those that are to be looked at, ``most`` at a time."""
        found = list(islice(self._rechecks, most))
        for home_address in found:
            del self._rechecks[home_address]
        return found
