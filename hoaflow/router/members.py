# SPDX-License-Identifier: Apache-2.0
"""Hold a `Member` for each controller, as controllers come and go, and the one whose tunnel list is followed. Pure.

Times are seconds of one monotonic clock.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from hoaflow.client.directory import ClusterView, Directory, Log, MemberAddress
from hoaflow.client.errors import NorthboundError
from hoaflow.router.announcement import Announcement
from hoaflow.router.client import ControllerError
from hoaflow.router.leader import choose_leader
from hoaflow.router.member import Acknowledge, Carries, Command, Member, Note
from hoaflow.router.tunnel_plan import DesiredByHomeAgent, TunnelList


class Members:
    """The controllers of one router: those configured, by URL, and those that they tell of.

    `log` is told which are found and dropped, `note` how each stands. `changed`: the list to be followed has changed,
    or is another one, since `take_changed`.
    """

    def __init__(self, configured: Sequence[str], log: Log, note: Note, rng: random.Random) -> None:
        self._directory = Directory(configured, log)
        self._note = note
        self._rng = rng
        self._members: dict[MemberAddress, Member] = {}
        self._leader: Member | None = None
        self._changed = False
        self._update()

    def __iter__(self) -> Iterator[Member]:
        """Return an iterator over the members."""
        return iter(self._members.values())

    @property
    def desired(self) -> DesiredByHomeAgent:
        """Return the tunnels of the list to be followed; none before there is a list."""
        return DesiredByHomeAgent() if self._leader is None else self._leader.desired

    @property
    def is_acknowledged(self) -> bool:
        """Whether the list that is followed is acknowledged as far as the kernel carries it."""
        return self._leader is None or self._leader.is_acknowledged

    def take_changed(self) -> bool:
        """Return whether the list to be followed has changed, or is another one, since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def next(self, announcement: Announcement, now: float) -> list[tuple[Member, Command]]:
        """Return the commands that are due, each with its member."""
        return [(member, command) for member in self for command in member.next(announcement, now)]

    def names_to_resolve(self, now: float) -> tuple[str, ...]:
        """Return the URLs whose names are to be resolved now."""
        return self._directory.names_to_resolve(now)

    def due(self, now: float) -> float:
        """Return the time after `now` at which a command may be due, unless input comes before."""
        return min([self._directory.resolve_at, *(member.due(now) for member in self)])

    def announce_anew(self) -> None:
        """Announce the router to all before anything else."""
        for member in self:
            member.announce_anew()

    def settle(self, carries: Carries) -> None:
        """Acknowledge each list as far as the kernel carries it."""
        for member in self:
            member.settle(carries)

    def resolved(self, ips: Mapping[str, Sequence[str]], now: float) -> None:
        """Take the addresses of the controllers' names, by URL."""
        self._directory.resolved(ips, now)
        self._update()

    def acknowledged(self, member: Member, command: Acknowledge, outcome: float | ControllerError, now: float) -> None:
        """Take the outcome of an announcement to `member`."""
        member.acknowledged(command, outcome, now)
        self._take_failure(member)

    def polled(self, member: Member, outcome: TunnelList | ControllerError, now: float) -> None:
        """Take the outcome of a poll of `member`."""
        self._changed |= member.polled(outcome, now) and member is self._leader
        self._take_failure(member)

    def asked(self, member: Member, outcome: ClusterView | NorthboundError, now: float) -> None:
        """Take what `member` says of its cluster."""
        member.asked(now)
        if isinstance(outcome, ClusterView):
            self._directory.answered(member.address, outcome, now)
            self._update()

    def _take_failure(self, member: Member) -> None:
        if not member.answers:
            self._directory.failed(member.address)
        self._update()

    def _update(self) -> None:
        """Begin with new members, leave those that have vanished, and choose whose list to follow."""
        addresses = self._directory.addresses()
        for address in addresses:
            if address not in self._members:
                self._members[address] = Member(address, self._note, self._rng)
        for address in self._members.keys() - set(addresses):
            del self._members[address]
        leader = choose_leader(list(self), self._leader)
        if leader is not self._leader:
            self._leader, self._changed = leader, True
            for desired in self.desired.by_home_agent.values():
                desired.changed = None  # all may differ from what the kernel has by another list
