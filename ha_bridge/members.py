# SPDX-License-Identifier: Apache-2.0
"""Hold a `Member` for each controller, as controllers come and go. Pure.

Times are seconds of one monotonic clock.
"""

import random
from collections.abc import Iterator, Mapping, Sequence

from ha_bridge.commands import Announce, Announced, Failed, MemberCommand
from ha_bridge.home_agent import HomeAgent, Log
from ha_bridge.member import Member
from ha_bridge.settings import Settings
from hoaflow.client.directory import ClusterView, Directory, MemberAddress


class Members:
    """Keep all controllers in step with `home_agent`: those configured, by URL, and those that they tell of."""

    def __init__(
        self, configured: Sequence[str], home_agent: HomeAgent, settings: Settings, log: Log, rng: random.Random
    ) -> None:
        self._directory = Directory(configured, log)
        self._home_agent = home_agent
        self._settings = settings
        self._log = log
        self._rng = rng
        self._members: dict[MemberAddress, Member] = {}
        self._update()

    def __iter__(self) -> Iterator[Member]:
        """Return an iterator over the members of this moment. May be called from any thread."""
        return iter(list(self._members.values()))

    @property
    def expiry(self) -> float | None:
        """Return the earliest end of a binding that a controller has."""
        return min((each.expiry for each in self if each.expiry is not None), default=None)

    def resolved(self, ips: Mapping[str, Sequence[str]], now: float) -> None:
        """Take the addresses of the controllers' names, by URL."""
        self._directory.resolved(ips, now)
        self._update()

    def announced(self, member: Member, command: Announce, outcome: Announced | Failed, now: float) -> None:
        """Take the outcome of an announcement to `member`."""
        member.announced(command, outcome, now)
        if isinstance(outcome, Failed):
            self._directory.failed(member.address)
            self._update()

    def asked(self, member: Member, outcome: ClusterView | Failed, now: float) -> None:
        """Take what `member` says of its cluster."""
        member.asked(outcome, now)
        if not isinstance(outcome, Failed):
            self._directory.answered(member.address, outcome, now)
        elif outcome.reached:
            self._directory.answered(member.address, ClusterView(), now)
        else:
            self._directory.failed(member.address)
        self._update()

    def next(self, now: float) -> list[tuple[Member, MemberCommand]]:
        """Return the commands that are due, each with its member."""
        return [(member, command) for member in self for command in member.next(now)]

    def names_to_resolve(self, now: float) -> tuple[str, ...]:
        """Return the URLs whose names are to be resolved now."""
        return self._directory.names_to_resolve(now)

    def due(self, now: float) -> float:
        """Return the time after `now` at which a command may be due, unless input comes before."""
        return min([self._directory.resolve_at, *(member.due(now) for member in self)])

    def _update(self) -> None:
        """Begin with new members, and leave those that have vanished."""
        addresses = self._directory.addresses()
        for address in addresses:
            if address not in self._members:
                self._members[address] = Member(address, self._home_agent, self._settings, self._log, self._rng)
        for address in self._members.keys() - set(addresses):
            del self._members[address]
        for member in self:
            member.renew = self._settings.renewal(len(self._members))
