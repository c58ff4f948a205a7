# SPDX-License-Identifier: Apache-2.0
"""Decide which routers this member is master of, and tell what to do for that. Pure: time is an argument.

etcd alone decides who is master, by the records that it has agreed on: a member is master of a router while the
router's record names it and its present lease. Answers of elections are not looked at, for what they did is seen in the
records. So an answer that is lost, late or doubled changes nothing. No two grants of a router have the same generation,
and the switch takes only newer ones, so a member that acts on old records is refused.

Without etcd nobody can be elected, so whoever is master goes on, even when its lease would have ended. So does one
whose lease etcd has no more, or that reads of another's election, until the switch says that the other has taken it: an
etcd that is late may end leases and grant none, or tell whom it has elected last. A member that was stopped itself,
though, may have been overtaken: `is_certain` tells the two apart.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from controller.cluster.commands import Command, Elect, GiveUp, MasteredBy, Resign, TakenByStranger, TakeRole
from controller.cluster.placement import candidates_of, place, preference
from controller.cluster.records import Records, RouterRecord

GENERATIONS = 1 << 64  # generation_id has 64 bits

# Seconds. For how long an election that etcd was asked for may be on its way into the records.
ELECTED_WITHIN = 1.0
# For how long others leave a router without a master to the member that it would be placed on, and one to the other.
PRECEDENCE, STAGGER = 1.0, 0.5
# For how long a member with a new lease leaves routers without a master to others, unless it was their master: where
# all leases have ended, as in a paused etcd, or all members start, the others have yet to come.
JOINING = 2.0
# For how long another member must have been the better place before a router is moved there.
SETTLED = 3.0
# The same where this member lacks the switch, or bridges that the other has: gates last for seconds then.
UNSERVED = 1.0
# For how long a member is the master of a router that has lost its switch, and that no other member reaches: it comes
# back within seconds after Open vSwitch was restarted.
SWITCH_AWAY = 10.0
# For how long no further router is handed over until the other member has taken the role.
HANDED_OVER_WITHIN = 5.0
# For how long a question that etcd has not answered shows that etcd is away, and not this member.
UNANSWERED = 5.0
# For how long a router is left to a stranger that has taken it: the first time, and at most, as this doubles each time.
LEFT_TO_STRANGER, LONGEST_LEFT = 1.5, 30.0
# For how long no stranger must have taken it again before it is over.
STRANGER_GONE = 60.0


@dataclass(slots=True)
class _Switch:
    """A switch that is connected to this member.

    `known`: the newest generation that it is known to have. `asked`: that of the role that it was asked for, None: it
    has this member as SLAVE. `refused`: that with which this member can't have the role. `doubtful`: this member has
    stood still, and lost its lease meanwhile, so another may have become the switch's master.
    """

    known: int | None
    asked: int | None = None
    refused: int | None = None
    taken: bool = False
    leaving: bool = False
    doubtful: bool = False
    vacant_since: float | None = None


@dataclass(slots=True)
class _Stranger:
    """Whoever takes a router from this member without being of its cluster: it is left to it until `until`."""

    generation: int
    left_for: float
    until: float
    told: bool = False


class _Wanted(NamedTuple):
    """Another member that is the better place for a router, and since when."""

    member: str
    since: float


class Mastership:
    """What one member knows, and what follows from it: `decide` after each input, and when `next_look` has come."""

    def __init__(self, member: str) -> None:
        self._member = member
        self._records: Records | None = None
        self._lease: int | None = None
        self._joined = -math.inf
        self._promised_until = -math.inf
        self._asked_etcd: float | None = None
        self._last_asked = -math.inf
        self._stood_still = False  # for so long that others may have been elected, and etcd has not answered since
        self._switches: dict[int, _Switch] = {}
        self._told: dict[int, str | None] = {}  # the other masters that were last told of
        self._strangers: dict[int, _Stranger] = {}
        self._wanted: dict[int, _Wanted] = {}
        self._away_since: dict[int, float] = {}  # switches of routers of which this member is the master
        self._elected: dict[int, float] = {}
        self._handed_over: dict[int, float] = {}
        self._last_mastered: set[int] = set()  # routers of which this member was the last master that it knows of
        self._next_look = math.inf

    # What etcd says.

    def asking(self, now: float) -> None:
        """Take in that etcd is asked to renew the lease, or to grant one."""
        if self._lease is not None and now > max(self._promised_until, self._last_asked) + UNANSWERED:
            self._stood_still = True
        self._asked_etcd = self._last_asked = now

    def lease_renewed(self, lease: int, asked: float, seconds: float) -> None:
        """Take in that etcd, asked at `asked`, has renewed or granted a lease of some seconds.

        It lasts from when etcd was asked, for the answer may have been late.
        """
        if lease != self._lease:
            self._lease, self._joined = lease, asked
        self._promised_until = asked + seconds
        self._asked_etcd = None
        self._stood_still = False

    def lease_lost(self) -> None:
        """Take in that etcd no longer has the lease, and so none of this member's masterships."""
        for switch in self._switches.values():
            switch.doubtful = self._stood_still
        self._lease = None
        self._promised_until = -math.inf
        self._asked_etcd = None

    def observe(self, records: Records) -> None:
        """Take in what etcd holds."""
        self._records = records

    # What the switches say.

    def switch_connected(self, dpid: int, generation: int | None) -> None:
        """Take in that a switch is connected and has this member as SLAVE; `generation`: the newest it knows."""
        self._switches[dpid] = _Switch(generation)
        self._wanted.pop(dpid, None)

    def switch_gone(self, dpid: int) -> None:
        """Take in that a switch's connection has ended."""
        self._switches.pop(dpid, None)
        self._wanted.pop(dpid, None)
        self._handed_over.pop(dpid, None)

    def role_taken(self, dpid: int, generation: int) -> None:
        """Take in that a switch has confirmed this member as its MASTER."""
        if (switch := self._switches.get(dpid)) is not None:
            switch.known, switch.taken = generation, True

    def role_refused(self, dpid: int, generation: int | None) -> None:
        """Take in that the role is not to be had with the generation granted; `generation`: the newest it knows."""
        if (switch := self._switches.get(dpid)) is not None:
            switch.known, switch.refused = generation, switch.asked

    def overtaken(self, dpid: int, now: float) -> None:
        """Take in that a switch has another MASTER now, so its connection to this member ends.

        While this member's lease lasts, nobody of the cluster is elected in its place, unless it hands the router over.
        If another has ended the lease, the records have said so before that one has asked the switch for its role.
        """
        if (switch := self._switches.get(dpid)) is None:
            return
        switch.leaving = True
        if self._records is None or dpid in self._handed_over or now >= self._promised_until:
            return
        record = self._records.router(dpid)
        if self._is_mine(record) and switch.taken and switch.asked == record.generation:
            former = self._strangers.get(dpid)
            left_for = LEFT_TO_STRANGER if former is None else min(2 * former.left_for, LONGEST_LEFT)
            told = former is not None and former.told
            self._strangers[dpid] = _Stranger(record.generation, left_for, now + left_for, told)

    # What follows.

    @property
    def connected(self) -> frozenset[int]:
        """The switches that are connected to this member."""
        return frozenset(self._switches)

    def is_certain(self, now: float) -> bool:
        """Tell whether this member, as far as it can know, has not been overtaken where it is master.

        It is certain as long as its lease was promised to last, and while it keeps asking an etcd that does not answer.
        """
        if self._lease is None and self._stood_still:
            return False
        unanswered = -math.inf if self._asked_etcd is None else self._asked_etcd + UNANSWERED
        return now < max(self._promised_until, unanswered)

    def next_look(self) -> float:
        """Return when there may be something to do without an input: infinity for never."""
        return self._next_look

    def decide(self, now: float) -> list[Command]:
        """Return what to do now."""
        self._next_look = math.inf
        records = self._records
        if records is None:
            return []
        masters = {dpid: record.master for dpid, record in records.routers.items()}
        places = place(masters, self._candidates(records))
        for moments, within in ((self._elected, ELECTED_WITHIN), (self._handed_over, HANDED_OVER_WITHIN)):
            for dpid, at in list(moments.items()):
                if not self._is_ahead(at + within, now):
                    del moments[dpid]
        commands: list[Command] = []
        for dpid in sorted({*self._switches, *records.routers, *self._told, *self._strangers}):
            commands += self._decide_one(dpid, records, places.get(dpid), now)
        return commands

    def _decide_one(self, dpid: int, records: Records, place: str | None, now: float) -> Iterator[Command]:
        switch, record = self._switches.get(dpid), records.router(dpid)
        yield from self._tell(dpid, record)
        yield from self._tell_of_stranger(dpid, now)
        if self._is_mine(record):
            self._last_mastered.add(dpid)
            if self._is_left_to_stranger(dpid, now):
                return  # not to another member either: it would have to fight as well
            if switch is not None and not switch.leaving:
                yield from self._as_master(dpid, switch, record, now)
            yield from self._hand_over(dpid, switch, records, place, now)
        elif switch is not None and not switch.leaving:
            self._wanted.pop(dpid, None)
            yield from self._as_slave(dpid, switch, record, place, now)
        if self._is_mine(record) and switch is None and place is None:
            yield from self._resign(dpid, record, now)
        else:
            self._away_since.pop(dpid, None)

    def _tell(self, dpid: int, record: RouterRecord) -> Iterator[Command]:
        """Tell of another master, also of a switch that is not connected to this member."""
        other = None if record.master == self._member else record.master
        if self._told.get(dpid) != other:
            self._told[dpid] = other
            yield MasteredBy(dpid, other)

    def _tell_of_stranger(self, dpid: int, now: float) -> Iterator[Command]:
        if (stranger := self._strangers.get(dpid)) is None:
            return
        if not self._is_ahead(stranger.until + STRANGER_GONE, now):
            del self._strangers[dpid]
            yield TakenByStranger(dpid, None)
        elif not stranger.told:
            stranger.told = True
            yield TakenByStranger(dpid, stranger.generation)

    def _is_left_to_stranger(self, dpid: int, now: float) -> bool:
        stranger = self._strangers.get(dpid)
        return stranger is not None and self._is_ahead(stranger.until, now)

    def _as_master(self, dpid: int, switch: _Switch, record: RouterRecord, now: float) -> Iterator[Command]:
        switch.vacant_since = None
        if switch.taken:
            if switch.asked != record.generation:
                yield from self._give_up(dpid, switch)
        elif (switch.known or 0) > record.generation:
            yield from self._elect(dpid, self._member, "the switch knew a newer generation", now)
        elif switch.refused == record.generation:
            yield from self._elect(dpid, self._member, "the switch knew the generation of another master", now)
        elif switch.asked != record.generation:
            switch.asked = record.generation
            yield TakeRole(dpid, record.generation)

    def _as_slave(
        self, dpid: int, switch: _Switch, record: RouterRecord, place: str | None, now: float
    ) -> Iterator[Command]:
        if switch.asked is not None and (switch.doubtful or not switch.taken):
            yield from self._give_up(dpid, switch)
            return
        if record.master is not None:
            if record.master != self._member:
                self._last_mastered.discard(dpid)
            switch.vacant_since = None
            return
        if switch.vacant_since is None:
            switch.vacant_since = now
        if not self._is_ahead(self._takes_from(dpid, place, switch.vacant_since), now):
            yield from self._elect(dpid, self._member, "there was no master", now)

    def _hand_over(
        self, dpid: int, switch: _Switch | None, records: Records, place: str | None, now: float
    ) -> Iterator[Command]:
        """Move a router to a member that has been the better place for long enough, one at a time."""
        target = None if place is None or place == self._member else records.members.get(place)
        if target is None:
            self._wanted.pop(dpid, None)
            return
        name = target.member.name
        if (wanted := self._wanted.get(dpid)) is None or wanted.member != name:
            wanted = self._wanted[dpid] = _Wanted(name, now)
        own = records.members.get(self._member)
        unheard = own is None or len(own.home_agents) < len(target.home_agents)
        if self._is_ahead(wanted.since + (UNSERVED if switch is None or unheard else SETTLED), now):
            return
        if switch is not None:
            if not switch.taken or self._handed_over:
                return
            self._handed_over[dpid] = now
        if switch is None:
            reason = f"{self._member} had lost the switch"
        else:
            reason = f"{self._member} had fewer home agents" if unheard else "routers were uneven"
        yield from self._elect(dpid, name, reason, now)

    def _give_up(self, dpid: int, switch: _Switch) -> Iterator[Command]:
        switch.leaving = True
        self._handed_over.pop(dpid, None)
        yield GiveUp(dpid)

    def _elect(self, dpid: int, member: str, reason: str, now: float) -> Iterator[Command]:
        """Ask etcd for a new grant, unless it has just been asked, or this member is none at present."""
        records = self._records
        if records is None or dpid in self._elected or now >= self._promised_until:
            return
        own = records.members.get(self._member)
        target = records.members.get(member)
        if own is None or own.lease != self._lease or target is None:
            return
        self._elected[dpid] = now
        self._is_ahead(now + ELECTED_WITHIN, now)
        switch, record = self._switches.get(dpid), records.router(dpid)
        known = 0 if switch is None else switch.known or 0
        generation = (max(known, record.generation) + 1) % GENERATIONS
        yield Elect(dpid, member, target.lease, generation, record, reason)

    def _resign(self, dpid: int, record: RouterRecord, now: float) -> Iterator[Command]:
        """Be master no longer of a router that no member reaches, so that it is seen to have none."""
        away_since = self._away_since.setdefault(dpid, now)
        if self._is_ahead(away_since + SWITCH_AWAY, now) or dpid in self._elected or now >= self._promised_until:
            return
        self._elected[dpid] = now
        self._is_ahead(now + ELECTED_WITHIN, now)
        yield Resign(dpid, record)

    def _candidates(self, records: Records) -> dict[int, list[str]]:
        """Return the candidates by the records, in which this member's own switches may be outdated."""
        candidates = candidates_of(records)
        if self._member in records.members:
            for dpid, names in candidates.items():
                if dpid not in self._switches and self._member in names:
                    names.remove(self._member)
        return candidates

    def _takes_from(self, dpid: int, place: str | None, vacant_since: float) -> float:
        """Return the moment until which this member leaves a router without a master to others."""
        if dpid in self._last_mastered or self._records is None:
            return vacant_since
        if place == self._member:
            return self._joined + JOINING
        own = preference(self._member, dpid)
        before = sum(preference(name, dpid) > own for name in self._records.members)
        return max(vacant_since + PRECEDENCE + before * STAGGER, self._joined + JOINING)

    def _is_mine(self, record: RouterRecord) -> bool:
        return self._lease is not None and record.master == self._member and record.lease == self._lease

    def _is_ahead(self, at: float, now: float) -> bool:
        """Tell whether a moment is yet to come, and look again then."""
        if at > now:
            self._next_look = min(self._next_look, at)
        return at > now
