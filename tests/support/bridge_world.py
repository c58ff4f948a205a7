# SPDX-License-Identifier: Apache-2.0
"""A bridge's core between a home agent and a controller that are a few lines each, under a clock of the test's own."""

import heapq
import itertools
import logging
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ha_bridge.core import Core, Settings
from ha_bridge.exchange import Announce, Announced, Failed, Read, Replaced, Send, Snapshot, Verdict
from ha_bridge.model import Observed, Reading, ReadingFailed
from tests.support.bridge import HOA, HOME_AGENT, LINK_1

UNREACHABLE = Failed("connection refused", reached=False)


@dataclass
class Registration:
    """A binding as the home agent holds it."""

    care_of: str
    expires: float = math.inf
    total: int = 60
    sequence: int = 1


@dataclass
class World:
    """A home agent, a bridge and a controller; `fail` may answer a command in the controller's stead."""

    poll: float = 1.0
    kernel: bool = False
    lifetimes: bool = True
    now: float = 1000.0
    cache: dict[str, Registration] = field(default_factory=dict)
    held: dict[str, tuple[str, float, str | None]] = field(default_factory=dict)
    protected: dict[str, str] = field(default_factory=dict)
    frozen: set[str] = field(default_factory=set)
    unreadable: Callable[[], ReadingFailed | None] = lambda: None
    fail: Callable[[object], object] = lambda command: None
    home_agent_known: bool = False
    snapshot_held: bool = False
    status: str = ""
    renewed: list[tuple[float, str]] = field(default_factory=list)
    commands: list[object] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    turns: int = 0

    def __post_init__(self) -> None:
        limits = Settings(lease=10, renew=3.0, snapshot=60.0, poll=self.poll, kernel=self.kernel)
        self.core = Core(limits, self._log, random.Random(1))
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
            for command in self.core.next(self.now):
                self.commands.append(command)
                self._start(command)
            wake = self.now + self.core.wait(self.now)
            if self._outcomes and self._outcomes[0][0] <= min(wake, end):
                self.now, _, do = heapq.heappop(self._outcomes)
                do()
            elif wake >= end:
                self.now = end
                return
            else:
                self.now = wake

    def change(self) -> None:
        """Tell of a change, as the kernel does."""
        self.core.changed(self.now)

    def _start(self, command: object) -> None:
        started = self.now
        if isinstance(command, Read):
            failed = self.unreadable()
            reading = failed or Reading(started, self._observe())
            self.at(self.now + 0.002, lambda: self.core.read(reading, self.now))
        elif isinstance(command, Announce):
            outcome = self.fail(command) or self._announced(command)
            self.at(self.now + 0.005, lambda: self.core.announced(command, outcome, self.now))  # type: ignore[arg-type]
        elif isinstance(command, Send):
            verdicts = self.fail(command) or self._sent(command)
            self.at(self.now + 0.005, lambda: self.core.sent(command, verdicts, self.now))  # type: ignore[arg-type]
        elif isinstance(command, Snapshot):
            replaced = self.fail(command) or self._replaced(command)
            self.at(self.now + 0.02, lambda: self.core.replaced(command, replaced, self.now))  # type: ignore[arg-type]

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

    def _announced(self, command: Announce) -> Announced:
        self.home_agent_known, self.status = True, command.status
        self.renewed.append((self.now, command.status))
        return Announced(not self.snapshot_held, len(self.held))

    def _sent(self, command: Send) -> list[Verdict] | Failed:
        if not self.home_agent_known:
            return Failed("404", reached=True, unknown=True)
        for report in command.reports:
            if report.registration is None:
                self.held.pop(report.home_address, None)
            else:
                self._hold(report.as_json(HOME_AGENT, command.started))
        return [Verdict(200) for _ in command.reports]

    def _replaced(self, command: Snapshot) -> Replaced | Failed:
        if not self.home_agent_known:
            return Failed("404", reached=True, unknown=True)
        self.snapshot_held = True
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

    def restart_controller(self) -> None:
        """Let the controller forget everything."""
        self.held.clear()
        self.home_agent_known = self.snapshot_held = False

    def care_of(self) -> dict[str, str]:
        """Return what the controller serves now."""
        return {
            home: care_of
            for home, (care_of, expires, withheld) in self.held.items()
            if expires > self.now and withheld is None
        }

    @property
    def withheld(self) -> dict[str, str]:
        """What the controller was told is left to the home agent, and why."""
        return {home: withheld for home, (_, _, withheld) in self.held.items() if withheld is not None}

    def count(self, kind: type) -> int:
        """Return how many commands of that kind there were."""
        return sum(isinstance(command, kind) for command in self.commands)

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
