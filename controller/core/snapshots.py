# SPDX-License-Identifier: Apache-2.0
"""Take in snapshots of binding caches, slice by slice, while everything else goes on.

A snapshot is the truth of the moment at which it began. A report of a home address after that is newer and stays, in
whatever order the two are applied: a snapshot does not touch what was updated or removed meanwhile, unless its sequence
number is newer. The result is as if it had been taken in at once when it began, or as if a report refused as stale had
come before it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.core.admission import NotAnnounced, Refused, is_deregistration
from controller.core.bindings import Binding, Change, Key, may_follow
from controller.core.home_agents import HomeAgent
from controller.core.owners import Owner, check_report
from controller.core.protocols import Protocol
from controller.core.updates import BINDINGS_AT_ONCE, Updates
from controller.core.urgency import MOST_EVENTS, Urgency
from hoaflow.addresses import Prefix, format_address
from hoaflow.errors import HoaflowError


class Superseded(HoaflowError):
    """A newer snapshot of the same home agent has come, and counts instead."""

    def __init__(self) -> None:
        super().__init__("a newer snapshot of this home agent has come meanwhile, and counts instead")


class SnapshotRefusal(NamedTuple):
    """A binding of a snapshot that was refused, its place in the snapshot, and why."""

    place: int
    binding: Binding
    why: Refused


@dataclass(slots=True)
class SnapshotResult:
    """What a snapshot did.

    ``changed`` counts bindings with a new path; a mere refresh counts as ``unchanged``, and so does an outdated one.
    """

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: list[SnapshotRefusal] = field(default_factory=list)

    @property
    def changes(self) -> int:
        """How many bindings came, went or moved to another path."""
        return self.added + self.changed + self.removed


class Snapshot:
    """One snapshot. Its slices are taken in once all have arrived, so that one that can't be read changes nothing.

    ``owner``: whose binding cache it is, of several pods; None if it does not say.
    """

    def __init__(self, snapshots: "Snapshots", home_agent: bytes, number: int, began: float) -> None:
        self.home_agent = home_agent
        self.number = number
        self.began = began
        self.owner: Owner | None = None
        self.arrived = False
        self.superseded = False
        self.result = SnapshotResult()
        self._snapshots = snapshots
        self._updates = snapshots.updates
        self._registrations = snapshots.updates.registrations
        # Home addresses that it has, by protocol.
        self._present: dict[Protocol, set[Prefix]] = {each: set() for each in Protocol}
        self._to_compare: list[Prefix] | None = None
        # Bindings reported since it began, and the numbers with which they were removed since then, None for a removal
        # without one.
        self._newer: set[Key] = set()
        self._removed: dict[Key, set[int | None]] = {}

    def take_in(self, bindings: Iterable[tuple[int, Binding]], now: float) -> None:
        """Take in a slice: bindings, each with its place in the snapshot.

        A binding that can't be taken is reported in the result, and counts as missing. Raises NotAnnounced, Superseded,
        AnotherOwner: what was taken in before is gone then, or about to be replaced.
        """
        home_agent, result = self._snapshots.in_force(self), self.result
        urgency, refresh = self._urgency, self._updates.refresh
        alone = home_agent.group is None and not self._newer  # nobody else has anything newer
        for place, binding in bindings:
            present = self._present[binding.protocol]
            is_first = binding.home_agent == home_agent.address and binding.home_address not in present
            if alone and is_first and refresh(binding, "snapshot", now, ordered=False) is not None:
                present.add(binding.home_address)
                result.unchanged += 1
                continue
            ends = is_deregistration(binding)
            try:
                if binding.home_agent != home_agent.address:
                    raise Refused("home_agent", f"this is the snapshot of {format_address(home_agent.address)}")
                self._updates.check(binding, ends)
                if binding.home_address in present:
                    raise Refused("home_address", f"{binding.home_address} is in this snapshot twice")
            except Refused as refused:
                self._refuse(binding, refused, now)
                result.refused.append(SnapshotRefusal(place, binding, refused))
                continue
            if ends:
                continue
            present.add(binding.home_address)
            if self._is_outdated(binding) or (home_agent.group is not None and self._is_of_another(binding, now)):
                result.unchanged += 1
                continue
            change = self._updates.put(binding, "snapshot", now, urgency)
            if change is Change.ADDED:
                result.added += 1
            elif change is Change.CHANGED:
                result.changed += 1
            else:
                result.unchanged += 1
                continue
            if urgency.has_event:
                urgency = self._urgency

    def complete(self, now: float) -> bool:
        """Remove, a slice at a time, what the snapshot lacks; tell whether that was all.

        Raises NotAnnounced, Superseded, AnotherOwner.
        """
        home_agent, result = self._snapshots.in_force(self), self.result
        if self._to_compare is None:
            self._to_compare = self._registrations.home_addresses()
        for home_address in self._to_compare[-BINDINGS_AT_ONCE:]:
            for held in self._registrations.all_at(home_address):
                if held.home_agent != home_agent.address:
                    continue
                if home_address not in self._present[held.protocol] and held.key not in self._newer:
                    self._updates.remember_number(held, held, now)
                    self._updates.drop(held, now, "not-in-snapshot", "snapshot", self._urgency)
                    result.removed += 1
        del self._to_compare[-BINDINGS_AT_ONCE:]
        # Bindings of an earlier lease have to go before anything may be offloaded under this one.
        if self._to_compare or self._updates.has_removals:
            return False
        for outdated in self._registrations.refused.outdated(home_agent.address, self.began):
            self._updates.recheck_path(outdated)
        if result.changes > MOST_EVENTS:
            self._updates.event("bindings-updated", source="snapshot", changes=result.changes)
        if not home_agent.synced and home_agent.lease_holds(now) and home_agent.lease_since <= self.began:
            self._snapshots.synced(home_agent, sum(map(len, self._present.values())), now)
        return True

    def _refuse(self, binding: Binding, refused: Refused, now: float) -> None:
        """Refuse a binding, and withdraw the one held, unless that is newer or of this snapshot."""
        known = binding.key in self._newer or binding.home_address in self._present[binding.protocol]
        if known or binding.home_agent != self.home_agent:
            self._updates.record_refusal(binding, str(refused), "snapshot", now)
        elif self._updates.refuse(binding, str(refused), "snapshot", now, self._urgency):
            self.result.removed += 1

    def note_update(self, binding: Binding) -> None:
        """Record that a binding was updated since the snapshot began."""
        self._newer.add(binding.key)

    def note_removal(self, binding: Binding, number: int | None) -> None:
        """Record that a binding was removed since the snapshot began."""
        self._newer.add(binding.key)
        self._removed.setdefault(binding.key, set()).add(number)

    @property
    def _urgency(self) -> Urgency:
        return Urgency.of_many(self.result.changes)

    def _is_outdated(self, binding: Binding) -> bool:
        """Tell whether a report since the snapshot began would have been taken after its binding."""
        key = binding.key if self._newer else None
        if key is None or key not in self._newer:
            return False
        reports: list[tuple[int | None, bytes | None]]
        reports = [(number, None) for number in self._removed.get(key, ())]
        held = self._registrations.at(key)
        if held is not None:
            reports.append((held.number, held.care_of_address))
        # Without reports, an update since then has ended already: it was newer.
        return not reports or any(may_follow(binding, *report) for report in reports)

    def _is_of_another(self, binding: Binding, now: float) -> bool:
        """Tell whether another anchor of the group holds a binding, and may be right.

        A mobile node that has moved from one anchor to another stays in the former one's cache for a while. Sequence
        numbers belong to each pair of mobile node and home agent, so only timestamps tell which is newer.
        """
        held = self._registrations.at(binding.key)
        if held is None or held.home_agent == binding.home_agent:
            return False
        other = self._registrations.home_agents.get(held.home_agent)
        if other is None or not other.lease_holds(now):
            return False
        return held.timestamp is None or binding.timestamp is None or binding.timestamp <= held.timestamp


class Snapshots:
    """The snapshots that are being taken in. ``synced`` is called after the first under each lease."""

    def __init__(self, updates: Updates, synced: Callable[[HomeAgent, int, float], None]) -> None:
        self.updates = updates
        self.synced = synced
        self._under_way: list[Snapshot] = []
        self._begun = 0
        self._newest: dict[bytes, int] = {}  # of each home agent, the number of the newest that has arrived

    @contextmanager
    def begin(self, home_agent: bytes, now: float) -> Iterator[Snapshot]:
        """Begin a snapshot: other reports from now on are newer. Raises NotAnnounced when entered."""
        if self.updates.registrations.home_agents.get(home_agent) is None:
            raise NotAnnounced(home_agent)
        self._begun += 1
        snapshot = Snapshot(self, home_agent, self._begun, now)
        self._under_way.append(snapshot)
        try:
            yield snapshot
        finally:
            self._under_way.remove(snapshot)

    def in_force(self, snapshot: Snapshot) -> HomeAgent:
        """Return the home agent of a snapshot that has arrived, which supersedes those that began before.

        Raises Superseded, NotAnnounced, AnotherOwner.
        """
        home_agent = self.updates.registrations.home_agents.get(snapshot.home_agent)
        if home_agent is not None:  # before anything else: that of a former owner supersedes none
            check_report(home_agent.address, home_agent.owner, snapshot.owner)
        if not snapshot.arrived:
            snapshot.arrived = True
            snapshot.superseded = self._newest.get(snapshot.home_agent, 0) > snapshot.number
            for other in self._under_way:
                if other.home_agent == snapshot.home_agent and other.number < snapshot.number:
                    other.superseded = True
            if not snapshot.superseded:
                self._newest[snapshot.home_agent] = snapshot.number
        if snapshot.superseded:
            raise Superseded
        if home_agent is None:
            raise NotAnnounced(snapshot.home_agent)
        return home_agent

    def note_update(self, binding: Binding) -> None:
        """Record in all snapshots that a binding is updated now."""
        for snapshot in self._under_way:
            snapshot.note_update(binding)

    def note_removal(self, binding: Binding, number: int | None = None) -> None:
        """Record in all snapshots that a binding is removed now."""
        for snapshot in self._under_way:
            snapshot.note_removal(binding, number)
