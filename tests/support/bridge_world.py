# SPDX-License-Identifier: Apache-2.0
"""A bridge's state between a home agent and controllers that are a few lines each, under a clock of the test's own."""

import heapq
import itertools
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ha_bridge.commands import Announce, Announced, Ask, Failed, MemberCommand, Replaced, Send, Snapshot, Verdict
from ha_bridge.home_agent import HomeAgent
from ha_bridge.member import Member
from ha_bridge.members import Members
from ha_bridge.model import Observed, Reading, ReadingFailed
from ha_bridge.settings import Settings
from hoaflow.client.directory import ClusterView
from tests.support.bridge import HOA, HOME_AGENT, LINK_1

UNREACHABLE = Failed("connection refused", reached=False)
URL = "http://192.0.2.1:8080"


@dataclass
class Registration:
    """A binding as the home agent holds it."""

    care_of: str
    expires: float = math.inf
    total: int = 60
    sequence: int = 1


@dataclass
class ModelController:
    """A controller; `fail` may answer a command in its stead, `delay` is how long (seconds) its answers take."""

    now: float = 1000.0
    held: dict[str, tuple[str, float, str | None]] = field(default_factory=dict)
    fail: Callable[[object], object] = lambda command: None
    delay: float = 0.0
    cluster: ClusterView = field(default_factory=ClusterView)
    home_agent_known: bool = False
    snapshot_held: bool = False
    status: str = ""
    last_change: int = -1  # up to which everything has been reported
    renewed: list[tuple[float, str]] = field(default_factory=list)
    certified: list[float] = field(default_factory=list)  # renewals for which everything had been reported
    commands: list[object] = field(default_factory=list)

    def answer(self, command: MemberCommand, now: float) -> tuple[float, object]:
        """Return how long the answer to a command takes, and the answer."""
        self.now = now
        self.commands.append(command)
        takes = self.delay + {Announce: 0.005, Ask: 0.005, Send: 0.005, Snapshot: 0.02}[type(command)]
        if (failed := self.fail(command)) is not None:
            return takes, failed
        if isinstance(command, Announce):
            return takes, self._announced(command)
        if isinstance(command, Send):
            return takes, self._sent(command)
        if isinstance(command, Snapshot):
            return takes, self._replaced(command)
        return takes, self.cluster

    def _announced(self, command: Announce) -> Announced:
        self.home_agent_known, self.status = True, command.status
        self.renewed.append((self.now, command.status))
        if command.last_change is None or command.last_change <= self.last_change:
            self.certified.append(self.now)
        return Announced(not self.snapshot_held, len(self.held))

    def _sent(self, command: Send) -> list[Verdict] | Failed:
        if not self.home_agent_known:
            return Failed("404", reached=True, unknown=True)
        for report in command.reports:
            if report.registration is None:
                self.held.pop(report.home_address, None)
            else:
                self._hold(report.as_json(HOME_AGENT, command.started))
        if command.last_change is not None:
            self.last_change = max(self.last_change, command.last_change)
        return [Verdict(200) for _ in command.reports]

    def _replaced(self, command: Snapshot) -> Replaced | Failed:
        if not self.home_agent_known:
            return Failed("404", reached=True, unknown=True)
        self.snapshot_held, self.last_change = True, command.last_change
        self.held.clear()
        for report in command.reports:
            self._hold(report.as_json(HOME_AGENT, command.started))
        return Replaced({"added": 0, "changed": 0, "removed": 0, "unchanged": 0}, {})

    def _hold(self, body: dict[str, object]) -> None:
        lifetime = body.get("lifetime", math.inf)
        assert isinstance(lifetime, int | float)
        withheld = body.get("withheld")
        assert withheld is None or isinstance(withheld, str)
        self.held[str(body["home_address"])] = (str(body["care_of_address"]), self.now + lifetime, withheld)

    def restart(self) -> None:
        """Forget everything."""
        self.held.clear()
        self.home_agent_known = self.snapshot_held = False
        self.last_change = -1

    def care_of(self) -> dict[str, str]:
        """Return what is served now."""
        return {
            home: care_of
            for home, (care_of, expires, withheld) in self.held.items()
            if expires > self.now and withheld is None
        }

    @property
    def withheld(self) -> dict[str, str]:
        """What it was told is left to the home agent, and why."""
        return {home: withheld for home, (_, _, withheld) in self.held.items() if withheld is not None}

    def count(self, kind: type) -> int:
        """Return how many commands of that kind there were."""
        return sum(isinstance(command, kind) for command in self.commands)


@dataclass
class World(ModelController):
    """A home agent, a bridge and its first controller. `others` are the further ones, by URL."""

    poll: float = 1.0
    kernel: bool = False
    pods: bool = False
    lifetimes: bool = True
    cache: dict[str, Registration] = field(default_factory=dict)
    protected: dict[str, str] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    unreadable: Callable[[], ReadingFailed | None] = lambda: None
    others: dict[str, ModelController] = field(default_factory=dict)
    configured: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    turns: int = 0

    def __post_init__(self) -> None:
        settings = Settings(lease=10, renew=3.0, snapshot=60.0, poll=self.poll, kernel=self.kernel, pods=self.pods)
        self.home_agent = HomeAgent(settings, self._log, random.Random(1))
        configured = self.configured or (URL, *self.others)
        self.members = Members(configured, self.home_agent, settings, self._log, random.Random(1))
        self._outcomes: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def _log(self, level: int, event: str, **fields: object) -> None:
        assert level >= logging.INFO
        self.log.append(event + "".join(f" {name}={value}" for name, value in fields.items()))

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Let `do` happen at time `when`."""
        heapq.heappush(self._outcomes, (when, next(self._order), do))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while True:
            self.turns += 1
            self._start_due()
            wake = min(self.now + 1.0, self.home_agent.due(self.members.expiry), self.members.due(self.now))
            if self._outcomes and self._outcomes[0][0] <= min(wake, end):
                self.now, _, do = heapq.heappop(self._outcomes)
                do()
            elif wake >= end:
                self.now = end
                break
            else:
                self.now = wake
        for other in self.others.values():
            other.now = self.now

    def change(self) -> None:
        """Tell of a change, as the kernel does."""
        self.home_agent.changed(self.now)

    def _start_due(self) -> None:
        started = self.now
        if read := self.home_agent.next(self.now, self.members.expiry):
            self.commands.append(read)
            reading = self.unreadable() or Reading(started, self._observe())
            self.at(self.now + 0.002, lambda: self.home_agent.read(reading, self.now, read.owner))
        if self.members.names_to_resolve(self.now):
            self.at(self.now + 0.001, lambda: self.members.resolved(self.names, self.now))
        for member, command in self.members.next(self.now):
            self._start(member, command)

    def _start(self, member: Member, command: MemberCommand) -> None:
        controller = self.others.get(str(member.address), self)
        takes, outcome = controller.answer(command, self.now)
        self.at(self.now + takes, lambda: self._finish(member, command, outcome))

    def _finish(self, member: Member, command: MemberCommand, outcome: object) -> None:
        if isinstance(command, Announce):
            assert isinstance(outcome, Announced | Failed)
            self.members.announced(member, command, outcome, self.now)
        elif isinstance(command, Ask):
            assert isinstance(outcome, ClusterView | Failed)
            self.members.asked(member, outcome, self.now)
        elif isinstance(command, Send):
            assert isinstance(outcome, list | Failed)
            member.sent(command, outcome, self.now)
        else:
            assert isinstance(outcome, Replaced | Failed)
            member.replaced(command, outcome, self.now)

    def _observe(self) -> list[Observed]:
        self.cache = {home: it for home, it in self.cache.items() if it.expires > self.now}
        if not self.lifetimes:
            return [Observed(home, it.care_of) for home, it in self.cache.items()]
        return [
            Observed(
                home,
                it.care_of,
                math.floor(min(it.expires - self.now, it.total)),
                it.total,
                it.sequence,
                self.protected.get(home),
                home in self.frozen,
            )
            for home, it in self.cache.items()
        ]

    def events(self, name: str) -> list[str]:
        """Return the log's lines of that event."""
        return [line for line in self.log if line.split(" ")[0] == name]


def at_link_1(**changes: object) -> World:
    """Return a world in which the mobile node is registered and the controller knows it."""
    world = World(**changes)  # type: ignore[arg-type]
    world.cache[HOA] = Registration(LINK_1)
    world.run(1.0)
    assert world.care_of() == {HOA: LINK_1}
    return world


def down() -> ReadingFailed:
    return ReadingFailed(0.0, down=True, detail="nobody listens")


def hung() -> ReadingFailed:
    return ReadingFailed(0.0, down=False, detail="timed out")
