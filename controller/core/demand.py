# SPDX-License-Identifier: Apache-2.0
"""Know which home addresses a router is asked for: of those alone an on-demand router has flows.

What has no flow goes on to the home agent, and the switch tells the controller now and then (`Controller` action). The
home addresses that are asked for then get their flows, until nothing has come for a while. Those whose flows can only
stand together are asked for together: those behind one care-of address, as an uplink flow takes the packets of all of
them, and those in a mobile network prefix, whose flow would take theirs.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain, islice
from typing import NamedTuple

from msgspec import Struct

from controller.core.bindings import Binding
from controller.core.flow_keys import home_end, uplink_source
from controller.core.flow_sets import Path
from controller.core.flows import FlowKey, table_of
from controller.core.pipeline import DOWNLINK, VERIFY
from controller.core.registrations import Registrations
from hoaflow.addresses import Prefix

# For how many seconds nothing is heard of a home address that can't be offloaded, and for how many of them at a time.
SUPPRESSED_FOR = 30
MOST_SUPPRESSED = 3000


class Install(StrEnum):
    """Which bindings' flows a router has: those of all, or of those whose packets it sees."""

    EVERYTHING = "everything"
    ON_DEMAND = "on-demand"


class Request(NamedTuple):
    """A packet that no flow has taken: of which home address, and if it came from there, by which path."""

    home_address: Prefix
    path: Path | None


class Askers:
    """The routers that are asked for each home address, so that an update looks at no others."""

    def __init__(self) -> None:
        self.on_demand: dict[int, None] = {}
        self._routers: dict[Prefix, tuple[int, ...]] = {}

    def __iter__(self) -> Iterator[Prefix]:
        """Iterate over the home addresses that any is asked for, as they are now."""
        return iter(list(self._routers))

    def of(self, home_address: Prefix) -> tuple[int, ...]:
        """Return the datapath ids of the on-demand routers that are asked for a home address."""
        return self._routers.get(home_address, ())

    def add(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router is asked for a home address. Idempotent."""
        known = self._routers.get(home_address, ())
        if dpid not in known:
            self._routers[home_address] = (*known, dpid)

    def remove(self, home_address: Prefix, dpid: int) -> None:
        """Record that a router is no longer asked for a home address. Idempotent."""
        left = tuple(each for each in self._routers.get(home_address, ()) if each != dpid)
        if left:
            self._routers[home_address] = left
        else:
            self._routers.pop(home_address, None)


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
        self._default = default
        self._idle_after = idle_after
        self._bindings = registrations.bindings
        self._formers_behind = registrations.tunnel_list.formers_behind
        self._askers = askers
        self._asked: dict[Prefix, _Asked] = {}
        self._suppressed: dict[Prefix, float] = {}  # until when, the first to end first
        self._counted: dict[Prefix, int] = {}
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

    @property
    def count_suppressed(self) -> int:
        """How many home addresses are not heard of for a while."""
        return len(self._suppressed)

    def announce(self, install: Install | None) -> bool:
        """Take in what the router's agent says, None for nothing; tell whether that changes what it has."""
        self.announced = install
        return self._note_mode()

    def refuse(self, reason: str | None) -> bool:
        """Record why the switch can't do it, None for a new connection; tell whether that changes what it has."""
        self.unsupported = reason
        return self._note_mode()

    def disconnect(self) -> None:
        """Forget what was known of the switch."""
        self.meters.clear()
        self._counted.clear()

    def forget(self) -> None:
        """Forget everything, as the router is forgotten."""
        self._clear()
        self._askers.on_demand.pop(self.dpid, None)

    def _note_mode(self) -> bool:
        """Take over whether the router is on demand; tell whether that is news."""
        before, self.on = self.on, self.unsupported is None and self.wanted is Install.ON_DEMAND
        if self.on:
            self._askers.on_demand[self.dpid] = None
        else:
            self.forget()
        return before != self.on

    def _clear(self) -> None:
        for home_address in chain(self._asked, self._suppressed):
            self._askers.remove(home_address, self.dpid)
        for memory in (self._asked, self._suppressed, self._counted):
            memory.clear()

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
                self._askers.add(each, self.dpid)
                new.append(each)
            left += self._together(each, paths)
        return new

    def is_concerned(self, binding: Binding) -> bool:
        """Tell whether a binding that is new, or has moved, is asked for here, or shares its path with one that is."""
        home_address = binding.home_address
        if home_address in self._asked or home_address in self._suppressed:
            return True
        beside = chain(self._beside(home_address, binding.care_of_address), self._around(home_address))
        return any(each in self._asked for each in beside)

    def drop(self, home_address: Prefix) -> None:
        """Ask for a home address no longer. Idempotent."""
        if self._asked.pop(home_address, None) is not None and home_address not in self._suppressed:
            self._askers.remove(home_address, self.dpid)

    def suppress(self, home_address: Prefix, now: float) -> bool:
        """Have nothing heard of a home address for `SUPPRESSED_FOR` seconds; tell whether there is room for that."""
        for ended in [each for each, _ in islice(self._suppressed.items(), 2) if self._suppressed[each] <= now]:
            del self._suppressed[ended]
            if ended not in self._asked:
                self._askers.remove(ended, self.dpid)
        if home_address in self._suppressed or len(self._suppressed) >= MOST_SUPPRESSED:
            return False
        self._suppressed[home_address] = now + SUPPRESSED_FOR
        self._askers.add(home_address, self.dpid)
        return True

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
