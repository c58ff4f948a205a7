# SPDX-License-Identifier: Apache-2.0
"""List the tunnels that routers with the `route` backend should have: one for each binding, by revision.

The desired list is the same for all routers. Their agents ask for the difference to what their kernels have, apply it
and acknowledge. While an agent is behind, its router may still serve the former binding, so former ones are kept for a
while. Until the first agent has acknowledged tunnels, nobody asks for a difference, and no list is kept.
"""

from collections import Counter, deque
from collections.abc import Collection, Iterator
from itertools import islice, takewhile
from typing import NamedTuple

from controller.core.bindings import Binding, BindingTable
from hoaflow.addresses import Prefix

# How many removals are remembered; an agent that is further behind gets the whole list.
REMEMBERED_REMOVALS = 100_000
# How exactly it is known when a revision was given out, in seconds.
NOTED_EVERY = 0.25


class TunnelDifference(NamedTuple):
    """What an agent has to change: it gets the whole list (``full``), or what is new since the revision it named."""

    revision: int
    full: bool
    tunnels: list[Binding]
    removed: list[Prefix]


class FormerBinding(NamedTuple):
    """A binding that another one has replaced, the revision in which it was listed, and until when it may serve."""

    binding: Binding
    revision: int
    until: float


class _Listed(NamedTuple):
    """A moment, and the last revision with a tunnel that was listed then, or less than `NOTED_EVERY` later."""

    moment: float
    revision: int


class TunnelList:
    """All desired tunnels by the revision in which they were listed.

    ``first_revision`` has to be higher than any that the controller gave out before a restart, as the wall clock in
    microseconds is: agents thus notice the restart and get the whole list. ``keep`` is how long former bindings may
    serve, in seconds.
    """

    def __init__(self, bindings: BindingTable, first_revision: int, keep: float) -> None:
        self.first_revision = first_revision
        self.revision = first_revision
        self._is_kept = False
        self._bindings = bindings
        self._keep = keep
        self._revisions: dict[Prefix, int] = {}  # in order of revision
        self._removed: dict[Prefix, int] = {}  # in order of revision
        self._forgotten_up_to = first_revision
        self._formers: dict[Prefix, list[FormerBinding]] = {}  # of each home address in order of revision
        self._formers_by_end: deque[FormerBinding] = deque()  # all of them, by ``until``
        # Home addresses by former care-of address, each with how many of its former bindings were there.
        self._formers_behind: dict[bytes, Counter[Prefix]] = {}
        self._times: deque[_Listed] = deque()
        self._overdue = 0
        # The last revision with a change in each home agent's tunnels, and when that was.
        self._latest: dict[bytes, tuple[int, float]] = {}

    def begin(self, now: float) -> None:
        """Keep the list from now on, with all bindings in the present revision. Idempotent."""
        if self._is_kept:
            return
        self._is_kept = True
        self._revisions = dict.fromkeys(self._bindings.home_addresses(), self.revision)
        self._forgotten_up_to = self.revision
        self._latest = {binding.home_agent: (self.revision, now) for binding in self._bindings}
        self._note_time(now)

    def publish(self, binding: Binding, former: Binding | None, now: float) -> None:
        """List a binding's tunnel with a new revision, in place of ``former``."""
        self.revision += 1
        if not self._is_kept:
            return
        home_address = binding.home_address
        before = self._revisions.pop(home_address, 0)
        if former is not None:
            replaced = FormerBinding(former, before, now + self._keep)
            self._formers.setdefault(home_address, []).append(replaced)
            self._formers_by_end.append(replaced)
            self._formers_behind.setdefault(former.care_of_address, Counter())[home_address] += 1
        self._removed.pop(home_address, None)
        self._revisions[home_address] = self.revision
        self._latest[binding.home_agent] = (self.revision, now)
        self._note_time(now)

    def withdraw(self, binding: Binding, now: float) -> None:
        """Take a binding's tunnel off the list."""
        self.revision += 1
        if not self._is_kept:
            return
        del self._revisions[binding.home_address]
        for former in self._formers.pop(binding.home_address, ()):
            self._leave(former)
        self._removed[binding.home_address] = self.revision
        self._latest[binding.home_agent] = (self.revision, now)
        if len(self._removed) > 1.1 * REMEMBERED_REMOVALS:  # many at once, as finding the oldest walks over gaps
            for oldest in list(islice(self._removed, len(self._removed) - REMEMBERED_REMOVALS)):
                self._forgotten_up_to = self._removed.pop(oldest)

    def demand_full(self) -> None:
        """Have agents compare the whole list with what their kernels have.

        To be called when a home agent's snapshot has come: its routes that are not on the list have no binding.
        """
        self.revision += 1
        self._removed.clear()
        self._forgotten_up_to = self.revision

    def revision_of(self, home_address: Prefix) -> int:
        """Return the revision in which a tunnel was listed; if it is not, one that no agent has reached."""
        return self._revisions.get(home_address, self.revision + 1)

    def newer_than(self, revision: int) -> list[Prefix]:
        """Return the home addresses of tunnels newer than a revision, oldest first, without looking at older ones."""
        newer = takewhile(lambda item: item[1] > revision, reversed(self._revisions.items()))
        return [home_address for home_address, _ in newer][::-1]

    def overdue(self, acknowledged: int, now: float) -> Iterator[Prefix]:
        """Iterate over the home addresses of tunnels that an agent should have acknowledged by now, and has not."""
        late = self.overdue_revision(now)
        if late > acknowledged:
            yield from (each for each in self.newer_than(acknowledged) if self._revisions[each] <= late)

    def overdue_revision(self, now: float) -> int:
        """Return the newest revision that every agent should have acknowledged by now."""
        while self._times and self._times[0].moment + self._keep <= now:
            self._overdue = self._times.popleft().revision
        return self._overdue

    def next_overdue(self, acknowledged: int) -> float | None:
        """Return when a revision newer than ``acknowledged`` becomes overdue next, None if none does."""
        return next((each.moment + self._keep for each in self._times if each.revision > acknowledged), None)

    def _note_time(self, now: float) -> None:
        if self._times and now < self._times[-1].moment + NOTED_EVERY:
            self._times[-1] = _Listed(self._times[-1].moment, self.revision)
        else:
            self._times.append(_Listed(now, self.revision))

    def is_awaited(self, home_agent: bytes, acknowledged: int, now: float) -> bool:
        """Tell whether a home agent's last change may yet be acknowledged in time, after ``acknowledged``."""
        revision, changed_at = self._latest.get(home_agent, (0, 0.0))
        return revision > acknowledged and now < changed_at + self._keep

    def difference(self, after: int) -> TunnelDifference:
        """Return what is new since a revision: everything if that is too long ago or not of this list."""
        if not self._is_kept and after != self.revision:
            return TunnelDifference(self.revision, True, list(self._bindings), [])
        full = not self._forgotten_up_to <= after <= self.revision
        listed = [held for address in self.newer_than(0 if full else after) if (held := self._bindings.get(address))]
        if full:
            return TunnelDifference(self.revision, True, listed, [])
        removed = takewhile(lambda item: item[1] > after, reversed(self._removed.items()))
        return TunnelDifference(self.revision, False, listed, [home_address for home_address, _ in removed][::-1])

    # Former bindings.

    def former(self, home_address: Prefix, acknowledged: int, now: float) -> Binding | None:
        """Return the former binding that a router may still serve, given what its agent has acknowledged."""
        for former in reversed(self._formers.get(home_address, ())):
            if former.revision <= acknowledged:
                return former.binding if now < former.until else None
        return None

    def formers(self, home_address: Prefix) -> list[FormerBinding]:
        """Return the former bindings of a home address, oldest first."""
        return self._formers.get(home_address, [])

    def formers_behind(self, care_of_address: bytes) -> Collection[Prefix]:
        """Return the home addresses with a former binding to a care-of address."""
        return self._formers_behind.get(care_of_address, ())

    def former_care_of_addresses(self) -> list[bytes]:
        """Return the care-of addresses of all former bindings."""
        return list(self._formers_behind)

    def replaced(self) -> list[Prefix]:
        """Return the home addresses that have former bindings."""
        return list(self._formers)

    def expired_formers(self, now: float, most: int) -> list[Binding]:
        """Forget and return former bindings that may serve no longer, at most ``most``."""
        found: list[Binding] = []
        while self._formers_by_end and self._formers_by_end[0].until <= now and len(found) < most:
            former = self._formers_by_end.popleft()
            left = self._formers.get(former.binding.home_address)
            if left and left[0] is former:  # or the home address has been deregistered since
                del left[0]
                if not left:
                    del self._formers[former.binding.home_address]
                self._leave(former)
                found.append(former.binding)
        return found

    def next_former_expiry(self) -> float | None:
        """Return when ``expired_formers`` next has something to forget, None for not at all."""
        return self._formers_by_end[0].until if self._formers_by_end else None

    def _leave(self, former: FormerBinding) -> None:
        behind, home_address = self._formers_behind[former.binding.care_of_address], former.binding.home_address
        behind[home_address] -= 1
        if not behind[home_address]:
            del behind[home_address]
        if not behind:
            del self._formers_behind[former.binding.care_of_address]
