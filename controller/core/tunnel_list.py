# SPDX-License-Identifier: Apache-2.0
"""The tunnels that routers with the `route` backend should have: one for each binding, listed by revision.

The list is the same for all routers. Their agents follow it and acknowledge what their kernels hold. While an agent is
behind, a router may still do what it did for the binding before: hence the former ones are kept for a while.
"""

from collections import deque
from itertools import islice, takewhile
from typing import NamedTuple

from controller.core.bindings import Binding, BindingTable
from hoaflow.addresses import Prefix

# How many removals are remembered for agents that ask for what is new; who asks for older gets the whole list.
REMEMBERED_REMOVALS = 100_000


class TunnelDifference(NamedTuple):
    """What an agent is told: everything (``full``) or what is new since the revision it named."""

    revision: int
    full: bool
    tunnels: list[Binding]
    removed: list[Prefix]


class Former(NamedTuple):
    """A binding that another one has replaced: the revision in which it was listed, and until when it may serve."""

    binding: Binding
    revision: int
    until: float


class TunnelList:
    """All tunnels by the revision in which they were listed.

    ``first_revision`` has to be higher than any that an earlier life of the controller gave out: the wall clock in
    microseconds is. Agents thus notice a restart and get the whole list. ``keep`` is how long former bindings may
    serve, in seconds.
    """

    def __init__(self, bindings: BindingTable, first_revision: int, keep: float) -> None:
        self.first_revision = first_revision
        self.revision = first_revision
        self._bindings = bindings
        self._keep = keep
        self._revisions: dict[Prefix, int] = {}  # in order of revision
        self._removed: dict[Prefix, int] = {}  # in order of revision
        self._forgotten_up_to = first_revision
        self._formers: dict[Prefix, list[Former]] = {}  # of each home address in order of revision
        self._fading: deque[Former] = deque()  # all of them, by ``until``
        self._formers_behind: dict[bytes, list[Prefix]] = {}  # home addresses by former care-of address
        # The last revision with a change in each home agent's tunnels, and when that was.
        self._latest: dict[bytes, tuple[int, float]] = {}

    def publish(self, binding: Binding, former: Binding | None, now: float) -> None:
        """List a binding's tunnel anew, in place of ``former``."""
        home_address = binding.home_address
        before = self._revisions.pop(home_address, 0)
        if former is not None:
            replaced = Former(former, before, now + self._keep)
            self._formers.setdefault(home_address, []).append(replaced)
            self._fading.append(replaced)
            self._formers_behind.setdefault(former.care_of_address, []).append(home_address)
        self.revision += 1
        self._removed.pop(home_address, None)
        self._revisions[home_address] = self.revision
        self._latest[binding.home_agent] = (self.revision, now)

    def withdraw(self, binding: Binding, now: float) -> None:
        """Take a binding's tunnel off the list."""
        del self._revisions[binding.home_address]
        for former in self._formers.pop(binding.home_address, ()):
            self._leave(former)
        self.revision += 1
        self._removed[binding.home_address] = self.revision
        self._latest[binding.home_agent] = (self.revision, now)
        if len(self._removed) > 1.1 * REMEMBERED_REMOVALS:  # many at once, as each look for the oldest passes the gaps
            for oldest in list(islice(self._removed, len(self._removed) - REMEMBERED_REMOVALS)):
                self._forgotten_up_to = self._removed.pop(oldest)

    def demand_full(self) -> None:
        """Have the agents compare the whole list with what their kernels hold: a home agent's snapshot has come, so
        routes of that home agent that are not on the list are none of its bindings."""
        self.revision += 1
        self._removed.clear()
        self._forgotten_up_to = self.revision

    def revision_of(self, home_address: Prefix) -> int:
        """Return the revision in which a binding's tunnel was listed; of one that is gone, one that nobody has yet."""
        return self._revisions.get(home_address, self.revision + 1)

    def newer_than(self, revision: int) -> list[Prefix]:
        """Return the home addresses of tunnels newer than ``revision``, oldest first, looking at no more than those."""
        newer = takewhile(lambda item: item[1] > revision, reversed(self._revisions.items()))
        return [home_address for home_address, _ in newer][::-1]

    def is_awaited(self, home_agent: bytes, acknowledged: int, now: float) -> bool:
        """Tell whether a home agent's last change may yet be acknowledged in time, after ``acknowledged``."""
        revision, changed_at = self._latest.get(home_agent, (0, 0.0))
        return revision > acknowledged and now < changed_at + self._keep

    def difference(self, after: int) -> TunnelDifference:
        """Return what is new since revision ``after``; everything if that is too long ago or not from this list."""
        full = not self._forgotten_up_to <= after <= self.revision
        listed = [held for address in self.newer_than(0 if full else after) if (held := self._bindings.get(address))]
        if full:
            return TunnelDifference(self.revision, True, listed, [])
        removed = takewhile(lambda item: item[1] > after, reversed(self._removed.items()))
        return TunnelDifference(self.revision, False, listed, [home_address for home_address, _ in removed][::-1])

    # Of bindings that others have replaced.

    def former(self, home_address: Prefix, acknowledged: int, now: float) -> Binding | None:
        """Return the former binding that a router may still serve whose agent has acknowledged so much."""
        for former in reversed(self._formers.get(home_address, ())):
            if former.revision <= acknowledged:
                return former.binding if now < former.until else None
        return None

    def formers(self, home_address: Prefix) -> list[Former]:
        """Return the former bindings of a home address."""
        return self._formers.get(home_address, [])

    def formers_behind(self, care_of_address: bytes) -> list[Prefix]:
        """Return the home addresses that were bound to a care-of address before."""
        return self._formers_behind.get(care_of_address, [])

    def former_care_of_addresses(self) -> list[bytes]:
        """Return all care-of addresses of former bindings."""
        return list(self._formers_behind)

    def replaced(self) -> list[Prefix]:
        """Return the home addresses that have former bindings."""
        return list(self._formers)

    def faded(self, now: float, most: int) -> list[Binding]:
        """Forget and return former bindings whose time is over, ``most`` of them at a time."""
        found: list[Binding] = []
        while self._fading and self._fading[0].until <= now and len(found) < most:
            former = self._fading.popleft()
            left = self._formers.get(former.binding.home_address)
            if left and left[0] is former:  # or the home address has been deregistered since
                del left[0]
                if not left:
                    del self._formers[former.binding.home_address]
                self._leave(former)
                found.append(former.binding)
        return found

    def next_fading(self) -> float | None:
        """Return when ``faded`` has something next."""
        return self._fading[0].until if self._fading else None

    def _leave(self, former: Former) -> None:
        behind = self._formers_behind[former.binding.care_of_address]
        behind.remove(former.binding.home_address)
        if not behind:
            del self._formers_behind[former.binding.care_of_address]
