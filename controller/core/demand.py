# SPDX-License-Identifier: Apache-2.0
"""Know which home addresses a router is asked for: of those alone an on-demand router has flows.

What has no flow goes on to the home agent, and the switch tells the controller now and then (`Controller` action). The
home addresses that are asked for then get their flows, until nothing has come for a while. Those whose flows can only
stand together are asked for together: those behind one care-of address, as an uplink flow takes the packets of all of
them, and those in a mobile network prefix, whose flow would take theirs.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain

from msgspec import Struct

from controller.core.askers import Askers
from controller.core.bindings import Binding
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flows import FlowKey, table_of
from controller.core.pipeline import DOWNLINK, VERIFY
from controller.core.registrations import Registrations
from controller.core.suppressions import Suppressions
from controller.core.traffic import PacketInDrops
from hoaflow.addresses import Prefix


class Install(StrEnum):
    """Which bindings' flows a router has: those of all, or of those whose packets it sees."""

    EVERYTHING = "everything"
    ON_DEMAND = "on-demand"


class _Asked(Struct, gc=False):
    """What the flows of a home address had counted at the last reading, and since when that has not changed.

    ``since`` is None before the first reading.
    """

    packets: int
    since: float | None


class Demand:
    """What one router is asked for. Without ``on`` it has the flows of all bindings, and nothing is kept here."""

    def __init__(
        self, dpid: int, registrations: Registrations, askers: Askers, default: Install, idle_after: float
    ) -> None:
        """``default``: what holds unless the agent says something else. ``idle_after``: seconds, see ``take_idle``."""
        self.dpid = dpid
        self.announced: Install | None = None
        # Why the switch can't tell of packets without flows, on its present connection; None if that is not known.
        self.unsupported: str | None = None
        self.meters: set[int] = set()  # those that the switch has confirmed
        self.drops = PacketInDrops()
        self._default = default
        self._idle_after = idle_after
        self._bindings = registrations.bindings
        self._formers_behind = registrations.tunnel_list.formers_behind
        self._askers = askers
        self._asked: dict[Prefix, _Asked] = {}
        self.suppressions = Suppressions(dpid, askers)
        self._counted: dict[Prefix, int] = {}
        self._adopted: frozenset[bytes] = frozenset()  # care-of addresses, see ``note_adopted``
        # Whether the router has the flows of those home addresses only that it is asked for.
        self.on = False
        self._note_mode()

    @property
    def wanted(self) -> Install:
        """What the router is to have, if its switch can do that."""
        return self._default if self.announced is None else self.announced

    def __len__(self) -> int:
        return len(self._asked)

    def __iter__(self) -> Iterator[Prefix]:
        return iter(list(self._asked))

    def wants(self, home_address: Prefix) -> bool:
        """Tell whether a home address is to have flows here, if it has a binding."""
        return home_address in self._asked or not self.on

    def announce(self, install: Install | None) -> bool:
        """Take in what the router's agent says, None for nothing; tell whether that changes what it has."""
        self.announced = install
        return self._note_mode()

    def refuse(self, reason: str) -> bool:
        """Record why the switch can't do it, until it connects anew; tell whether that changes what it has."""
        self.unsupported = reason
        return self._note_mode()

    def disconnect(self) -> None:
        """Forget what was known of the switch. What it is asked for stays: packets go on coming when it is back."""
        self.meters.clear()
        self._counted.clear()
        self.note_adopted(frozenset())
        self.unsupported = None
        self._note_mode()

    def stand_by(self) -> None:
        """Forget what the router is asked for: another controller writes to the switch and is told of its packets."""
        for home_address in self._asked:
            self._askers.asked.remove(home_address, self.dpid)
        self.note_adopted(frozenset())
        for memory in (self._asked, self.suppressions, self._counted):
            memory.clear()

    def forget(self) -> None:
        """Forget everything, as the router is forgotten."""
        self.stand_by()
        self._askers.forget(self.dpid)

    def _note_mode(self) -> bool:
        """Take over whether the router is on demand; tell whether that is news."""
        before, self.on = self.on, self.unsupported is None and self.wanted is Install.ON_DEMAND
        if not self.on:
            self.stand_by()
        self._askers.note_mode(self.dpid, self.on)
        return before != self.on

    # What comes in.

    def ask(self, home_address: Prefix) -> list[Prefix]:
        """Ask for a home address and for all that has to stand with it; return those that were not asked for."""
        new, left, paths = [], [home_address], set[bytes]()
        while left:
            each = left.pop()
            known = each in self._asked
            if known and each != home_address:
                continue  # and so is what has to stand with it
            if not known:
                self._asked[each] = _Asked(0, None)
                self._askers.asked.add(each, self.dpid)
                new.append(each)
            left += self._together(each, paths)
        return new

    def note_adopted(self, care_of_addresses: frozenset[bytes]) -> None:
        """Take in from which care-of addresses the switch has adopted uplink flows: any binding there needs flows."""
        for care_of_address in self._adopted - care_of_addresses:
            self._askers.adopting.remove(care_of_address, self.dpid)
        for care_of_address in care_of_addresses - self._adopted:
            self._askers.adopting.add(care_of_address, self.dpid)
        self._adopted = care_of_addresses

    def is_concerned(self, binding: Binding) -> bool:
        """Tell whether a binding that is new, or has moved, is asked for here, or shares its path with one that is.

        Or with one that was, when a former controller installed the uplink flow of that path.
        """
        home_address = binding.home_address
        if home_address in self._asked or self.suppressions.any_within(home_address):
            return True
        if binding.care_of_address in self._adopted:
            return True
        beside = chain(self._beside(home_address, binding.care_of_address), self._around(home_address))
        return any(each in self._asked for each in beside)

    def drop(self, home_address: Prefix) -> None:
        """Ask for a home address no longer. Idempotent."""
        if self._asked.pop(home_address, None) is not None:
            self._askers.asked.remove(home_address, self.dpid)

    # What flows have counted.

    def count(self, key: FlowKey, packets: int) -> None:
        """Take in what a flow has counted, while all are read."""
        table = table_of(key) if len(key) > 1 else None
        home_address = home_end(key) if table in (DOWNLINK, VERIFY) else None
        if (source := uplink_source(key)) is not None:
            home_address = next(iter(self._bindings.behind(source)), None)
        if home_address in self._asked and home_address is not None:
            self._counted[home_address] = self._counted.get(home_address, 0) + packets

    def take_idle(self, now: float) -> list[Prefix]:
        """Return, once all flows have been read, the home addresses for which nothing has come for a while.

        Those that have to stand with one that is in use are not among them. The caller drops them.
        """
        idle: dict[Prefix, None] = {}
        for home_address, asked in self._asked.items():
            packets = self._counted.get(home_address, 0)
            if packets != asked.packets or asked.since is None:  # fewer, where a flow has taken another's place
                asked.since = now
            elif now - asked.since >= self._idle_after:
                idle[home_address] = None
            asked.packets = packets
        self._counted.clear()
        found: list[Prefix] = []
        while idle:
            group = self._group(next(iter(idle)))
            if all(each in idle for each in group):
                found += group
            for each in group:
                idle.pop(each, None)
        return found

    def _group(self, home_address: Prefix) -> dict[Prefix, None]:
        """Return the home addresses asked for that can only stand with one, however many lie between, and that one."""
        group, left, paths = {home_address: None}, [home_address], set[bytes]()
        while left:
            for each in (*self._together(left[-1], paths), *self._around(left.pop())):
                if each not in group and each in self._asked:
                    group[each] = None
                    left.append(each)
        return group

    # What has to stand together.

    def _together(self, home_address: Prefix, paths: set[bytes]) -> Iterable[Prefix]:
        """Iterate over the home addresses that have to stand if one does, without those asked for as it is.

        ``paths``: care-of addresses that have been gone through, to which its own is added. There may be thousands of
        home addresses behind one, and each would find all others.
        """
        binding = self._bindings.get(home_address)
        if binding is None:
            return ()
        beside: Iterable[Prefix] = ()
        if binding.care_of_address not in paths:
            paths.add(binding.care_of_address)
            beside = self._beside(home_address, binding.care_of_address)
        if not self._bindings.any_within(home_address):
            return beside
        within = (each for each in self._bindings.home_addresses() if home_address.contains(each))
        return chain(beside, (each for each in within if each != home_address))

    def _beside(self, home_address: Prefix, care_of_address: bytes) -> Iterator[Prefix]:
        """Iterate over the other home addresses behind a care-of address, now or until a moment ago."""
        everybody = chain(self._bindings.behind(care_of_address), self._formers_behind(care_of_address))
        return (each for each in everybody if each != home_address)

    def _around(self, home_address: Prefix) -> Iterator[Prefix]:
        """Iterate over the prefixes with bindings in which a home address lies."""
        found = (each.home_address for each in self._bindings.all_covering(home_address))
        return (each for each in found if each != home_address)
