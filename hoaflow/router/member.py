# SPDX-License-Identifier: Apache-2.0
"""Decide what the agent says to one controller next, and hold that controller's tunnel list. Pure.

Each controller has its own list, revisions, acknowledgements and waits after failures, so that one that is dead or
hangs delays no other. `Member.next` returns the commands that are due, at most one at a time for each of its two
workers (polls, announcements); each command's outcome comes back through a method. Times are seconds of one monotonic
clock.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from hoaflow.backoff import Backoff
from hoaflow.client.directory import MemberAddress
from hoaflow.router.announcement import Announcement
from hoaflow.router.client import ControllerError, Refused, UnknownRouter
from hoaflow.router.tunnel_plan import DesiredByHomeAgent, TunnelList

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # seconds between attempts while the controller cannot be reached
LONGEST_WAIT = 30  # seconds, the longest long poll that the controller allows
ASK = 10.0  # seconds between two questions which members the cluster has

Carries = Callable[[str, str, str], bool]  # of home agent, home address and care-of address
Note = Callable[[MemberAddress, str], None]


@dataclass(frozen=True)
class Acknowledge:
    """Announce the router, and acknowledge the controller's list up to a revision."""

    revision: int
    announcement: Announcement


@dataclass(frozen=True)
class Poll:
    """Wait up to `wait` seconds for what is new since revision `after`."""

    after: int
    wait: int


@dataclass(frozen=True)
class Ask:
    """Ask which members the cluster has."""


Command = Acknowledge | Poll | Ask


class Member:
    """The controller at `address`, as its agent knows it. `note(address, state)` is told how it stands.

    `desired`: the tunnels of its list. `listed`: it has given its list since it last did not know the router.
    `answers`: its last call was answered. `master`, `generation`: whether it says that it is the router's master, and
    the newest generation of masters that it knows.
    """

    def __init__(self, address: MemberAddress, note: Note, rng: random.Random) -> None:
        self.address = address
        self.desired = DesiredByHomeAgent()
        self.listed = self.answers = self.master = False
        self.generation = 0
        self._note = note
        self._retry = Backoff(FIRST_PAUSE, LONGEST_PAUSE, rng)
        self._lease = 0.0  # seconds; 0: the router is to be announced
        self._revision = 0  # up to which its list is known; 0: nothing is
        self._carried = 0  # the revision up to which the kernel carries its list
        self._pending: set[str] = (
            set()
        )  # home addresses on its list whose tunnels the kernel has not been seen to carry
        self._acknowledged: tuple[int, Announcement] | None = None
        # How often calls had failed when the command under way began, None if there is none. What comes of it after
        # another failure counts for nothing: it may be of a controller that has died since.
        self._polling: int | None = None
        self._announcing: int | None = None
        self._failures = 0
        self._rest_until = self._ask_at = float("-inf")

    @property
    def is_acknowledged(self) -> bool:
        """Whether the list is acknowledged as far as the kernel carries it."""
        return self._acknowledged is not None and self._acknowledged[0] == self._carried

    # What is to be said.

    def next(self, announcement: Announcement, now: float) -> list[Command]:
        """Return the commands that are due."""
        if now < self._rest_until:
            return []
        commands: list[Command] = []
        if self._announcing is None and (command := self._to_announce_or_ask(announcement, now)):
            self._announcing = self._failures
            commands.append(command)
        if self._polling is None and self._lease:
            self._polling = self._failures
            commands.append(Poll(self._revision, max(1, min(LONGEST_WAIT, int(self._lease / 3)))))
        return commands

    def due(self, now: float) -> float:
        """Return the time after `now` at which a command may be due, unless input comes before; infinite if none."""
        return min((end for end in (self._rest_until, self._ask_at) if end > now), default=float("inf"))

    def announce_anew(self) -> None:
        """Announce the router before anything else, as its lease must not go on by polls alone."""
        self._lease = 0.0

    def settle(self, carries: Carries) -> None:
        """Acknowledge the list as far as the kernel carries it, or has failed to.

        `carries` tells this of one tunnel. What the list no longer has may stay there: no flow leads to it.
        """
        self._pending = {
            home_address
            for home_address in self._pending
            for home_agent, desired in self.desired.by_home_agent.items()
            if (care_of_address := desired.tunnels.get(home_address)) is not None
            and not carries(home_agent, home_address, care_of_address)
        }
        if not self._pending:
            self._carried = self._revision

    # What came of it.

    def acknowledged(self, command: Acknowledge, outcome: float | ControllerError, now: float) -> None:
        """Take the outcome of an announcement: the lease, in seconds."""
        began, self._announcing = self._announcing, None
        if began != self._failures:
            return
        if isinstance(outcome, ControllerError):
            self._failed(outcome, now)
            return
        self._succeeded()
        self._lease, self._acknowledged = outcome, (command.revision, command.announcement)

    def polled(self, outcome: TunnelList | ControllerError, now: float) -> bool:
        """Take the outcome of a poll; return whether the list has changed."""
        began, self._polling = self._polling, None
        if began != self._failures:
            return False
        if isinstance(outcome, ControllerError):
            self._failed(outcome, now)
            return False
        self._succeeded()
        self.listed, self.master, self.generation = True, outcome.master, outcome.generation
        news = outcome.full or outcome.revision != self._revision
        if news:
            self._pending |= self.desired.update(outcome)
            self._revision = outcome.revision
        return news

    def asked(self, now: float) -> None:
        """Record that the question which members there are was answered, or has failed."""
        self._announcing = None
        self._ask_at = now + ASK

    def _to_announce_or_ask(self, announcement: Announcement, now: float) -> Acknowledge | Ask | None:
        if not self._lease or self._acknowledged != (self._carried, announcement):
            return Acknowledge(self._carried, announcement)
        return Ask() if self._ask_at <= now else None

    def _succeeded(self) -> None:
        self._retry.succeeded()
        self.answers = True
        self._note(self.address, "ok")

    def _failed(self, error: ControllerError, now: float) -> None:
        self._failures += 1
        self.master = False  # until it says so again
        pause = self._retry.failed()
        if isinstance(error, UnknownRouter):
            # It has restarted, or forgotten this router, and so has its list. What the kernel has stays until the
            # controller names the home agents whose bindings it knows.
            self._note(self.address, f"announcing again, routes kept ({error})")
            self.listed, self._lease = False, 0.0
            self._revision = self._carried = 0
        elif isinstance(error, Refused):
            self._note(self.address, f"refuses this agent, routes kept ({error})")
            self.answers = False
            pause = max(pause, error.retry_after)
        else:
            self._note(self.address, f"lost, routes kept ({error})")
            self.answers, self._lease = False, 0.0  # it may be another process when it answers again
        self._rest_until = now + pause
        self._ask_at = now
