# SPDX-License-Identifier: Apache-2.0
"""The bridge's decisions, under a clock of the test's own: a home agent and a controller that are a few lines each."""

import heapq
import itertools
import logging
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ha_bridge.core import UNCONFIRMED, Core, Settings
from ha_bridge.exchange import Announce, Announced, Failed, Read, Replaced, Send, Snapshot, Verdict
from ha_bridge.frozen import WITHOUT_LIFETIME
from ha_bridge.model import Observed, Reading, ReadingFailed, offloadable
from ha_bridge.terminal import AnswerReader, parse_binding_cache
from tests.support.bridge import DATA, HOME_AGENT

HOA = "2001:db8:99::100"
OTHER = "2001:db8:99::200"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"
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
        """How many commands of that kind there were."""
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


def test_starts_with_announcement_then_snapshot() -> None:
    world = at_link_1()
    assert [type(command) for command in world.commands if not isinstance(command, Read)] == [Announce, Snapshot]


def test_renews_snapshots_and_does_nothing_else_when_nothing_changes() -> None:
    world = at_link_1(lifetimes=False)
    world.run(300)
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(world.renewed)]
    assert max(gaps) < 3.1
    assert world.count(Snapshot) == 6
    assert world.count(Send) == 0
    assert world.turns < 301 * 20


def test_handover_is_sent_at_once_as_one_binding() -> None:
    world = at_link_1(kernel=True, poll=3.0)
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.change()
    world.run(0.02)
    assert world.care_of() == {HOA: LINK_2}
    (send,) = [command for command in world.commands if isinstance(command, Send)]
    assert [report.home_address for report in send.reports] == [HOA]


def test_a_cache_that_changes_after_the_kernel_is_seen_without_waiting_for_the_poll() -> None:
    world = at_link_1(kernel=True, poll=30.0)
    world.change()
    world.at(world.now + 0.5, lambda: world.cache.update({HOA: Registration(LINK_2)}))
    world.run(1.0)
    assert world.care_of() == {HOA: LINK_2}


def test_removal() -> None:
    world = at_link_1()
    del world.cache[HOA]
    world.run(1.5)
    assert world.held == {}
    assert world.count(Snapshot) == 1


def test_refreshes_are_coalesced() -> None:
    world = World(poll=1.0)

    def refresh() -> None:
        world.cache[HOA] = Registration(LINK_1, world.now + 60, 60, world.turns)
        world.at(world.now + 1.3, refresh)

    refresh()
    world.run(1)
    world.core._settings = Settings(10, 3.0, 1e9, 1.0, kernel=False)  # the minute's snapshot would count as a refresh
    world.run(600)
    assert 600 / 60 <= world.count(Send) <= 600 / (60 / 4)
    assert world.care_of() == {HOA: LINK_1}


@settings(max_examples=60, deadline=None)
@given(
    total=st.sampled_from([8, 20, 60, 420]),
    poll=st.sampled_from([1.0, 3.0, 30.0]),
    pauses=st.lists(st.floats(0.3, 0.97), min_size=5, max_size=25),
)
def test_the_controllers_copy_never_ends_before_the_home_agents(total: int, poll: float, pauses: list[float]) -> None:
    world = World(poll=poll)
    world.cache[HOA] = Registration(LINK_1, world.now + total, total)
    world.run(0.1)
    for pause in pauses:
        # Refreshed before the end, by more than what rounding to whole seconds can hide.
        until = min(world.now + pause * total, world.cache[HOA].expires - 2.5)
        while world.now < until:
            world.run(min(0.2, until - world.now + 0.001))
            assert world.care_of() == {HOA: LINK_1}, world.now - 1000
        world.cache[HOA] = Registration(LINK_1, world.now + total, total)
    assert world.held[HOA][1] <= world.cache[HOA].expires + 1


def test_a_refresh_too_small_to_pass_on_is_passed_on_before_the_end() -> None:
    world = World(poll=3.0)
    world.cache[HOA] = Registration(LINK_1, world.now + 60)
    world.run(8)
    world.cache[HOA] = Registration(LINK_1, world.now + 60)
    world.run(1)
    assert world.count(Send) == 0
    world.run(57)
    assert world.care_of() == {HOA: LINK_1}
    assert world.count(Send) == 1


def test_a_shortened_lifetime_is_passed_on() -> None:
    world = World()
    world.cache[HOA] = Registration(LINK_1, world.now + 600, 600)
    world.run(1)
    world.cache[HOA] = Registration(LINK_1, world.now + 20, 20)
    world.run(1.5)
    assert world.held[HOA][1] <= world.cache[HOA].expires + 1


def test_lifetime_that_cannot_be_told() -> None:
    world = World()
    world._observe = lambda: [Observed(HOA, LINK_1, None, 60, 1)]  # type: ignore[method-assign]
    world.run(5)
    assert world.held == {}, "no lifetime to bind it by"
    known = World()
    known.cache[HOA] = Registration(LINK_1, known.now + 60)
    known.run(1)
    known._observe = lambda: [Observed(HOA, LINK_1, None, 60, 1)]  # type: ignore[method-assign]
    known.run(20)
    assert known.care_of() == {HOA: LINK_1}, "the end known before stands"


@pytest.mark.parametrize("failure", [UNREACHABLE, Failed("status 500", reached=True)])
def test_nothing_is_lost_while_the_controller_fails(failure: Failed) -> None:
    world = at_link_1()
    world.fail = lambda command: failure
    world.cache[HOA] = Registration(LINK_2)
    world.cache[OTHER] = Registration(LINK_1)
    world.run(120)
    attempts = world.count(Announce) + world.count(Send) + world.count(Snapshot)
    assert 30 < attempts < 150, "retries are bounded"
    world.fail = lambda command: None
    world.run(6)
    assert world.care_of() == {HOA: LINK_2, OTHER: LINK_1}
    met = world.events("controller-unreachable") + world.events("announcement-refused")
    assert len(met) == len(world.events("controller-reachable")) == 1


def test_a_controller_that_denies_access_is_not_hammered_and_let_in_again() -> None:
    world = at_link_1()
    denied = Failed("401: not a token that is known here", reached=True, retry_after=10.0)
    world.fail = lambda command: denied if isinstance(command, Announce | Send | Snapshot) else None
    world.run(5)
    before = len(world.commands)
    world.change()
    world.cache[HOA].care_of = LINK_2
    world.run(60)
    asked = [command for command in world.commands[before:] if isinstance(command, Announce | Send | Snapshot)]
    assert 5 <= len(asked) <= 7
    assert len(world.events("announcement-refused")) == 1
    world.fail = lambda command: None
    world.run(11)
    assert world.held[HOA][0] == LINK_2


def test_a_request_that_may_have_been_applied_is_put_right_by_a_snapshot() -> None:
    world = at_link_1()

    def applied_but_timed_out(command: object) -> Failed | None:
        if isinstance(command, Send):
            world._sent(command)
            del world.cache[OTHER]
            world.fail = lambda command: None
            return Failed("read timed out", reached=False)
        return None

    world.fail = applied_but_timed_out
    world.cache[OTHER] = Registration(LINK_1)
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}


def test_controller_restart_is_noticed_by_the_next_renewal() -> None:
    world = at_link_1()
    world.restart_controller()
    world.run(3.5)
    assert world.care_of() == {HOA: LINK_1}


def test_unknown_home_agent_is_announced_then_sent_whole() -> None:
    world = at_link_1()
    world.restart_controller()
    world.cache[OTHER] = Registration(LINK_1)
    world.run(2)
    assert world.care_of() == {HOA: LINK_1, OTHER: LINK_1}
    assert world.events("home-agent-unknown")


def test_stale_binding_leads_to_a_fresh_look_then_to_a_snapshot() -> None:
    world = at_link_1(poll=30.0, lifetimes=False)

    def stale(command: object) -> list[Verdict] | None:
        return [Verdict(409) for _ in command.reports] if isinstance(command, Send) else None

    world.fail = stale
    world.cache[HOA] = Registration(LINK_2, sequence=0)
    world.run(32)  # one regular look, at once another, and the snapshot
    assert world.care_of() == {HOA: LINK_2}
    assert (world.count(Send), world.count(Snapshot)) == (1, 2)


def test_stale_binding_that_the_home_agent_no_longer_shows_needs_no_snapshot() -> None:
    world = at_link_1()

    def stale(command: object) -> list[Verdict] | None:
        if isinstance(command, Send) and command.reports[0].registration is not None:
            world.cache[HOA] = Registration(LINK_1)
            return [Verdict(409)]
        return None

    world.fail = stale
    world.cache[HOA] = Registration(LINK_2, sequence=0)
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}
    assert (world.count(Send), world.count(Snapshot)) == (1, 1)


def test_refused_binding_is_said_once_and_its_old_care_of_address_withdrawn() -> None:
    world = at_link_1(lifetimes=False)
    world.cache[OTHER] = Registration(LINK_1)
    world.run(1.5)

    def forbidden(command: object) -> list[Verdict] | None:
        if isinstance(command, Send) and any(report.registration for report in command.reports):
            return [Verdict(422, "care_of_address: no")]
        return None

    world.fail = forbidden
    world.cache[HOA] = Registration(LINK_2)
    sent = world.count(Send)
    world.run(20)
    assert world.care_of() == {OTHER: LINK_1}
    assert len(world.events("binding-refused")) == 1
    assert world.count(Send) == sent + 2
    world.fail = lambda command: None
    world.cache[HOA] = Registration(LINK_1)
    world.run(1.5)
    assert world.care_of() == {HOA: LINK_1, OTHER: LINK_1}


def down() -> ReadingFailed:
    return ReadingFailed(0.0, down=True, detail="nobody listens")


def test_home_agent_down_freezes_bindings_until_it_answers() -> None:
    world = at_link_1()
    world.unreadable = down
    world.run(50)
    assert world.status == "ha-down"
    assert world.now - world.renewed[-1][0] < 3.1, "the lease goes on"
    assert world.care_of() == {HOA: LINK_1}
    sends, snapshots = world.count(Send), world.count(Snapshot)
    world.unreadable = lambda: None
    world.cache = {OTHER: Registration(LINK_2)}
    world.run(1.5)
    assert world.status == "up"
    assert world.care_of() == {OTHER: LINK_2}
    assert (world.count(Send), world.count(Snapshot)) == (sends, snapshots + 1)


def test_home_agent_down_from_the_start_is_announced() -> None:
    world = World(unreadable=down)
    world.run(5)
    assert world.status == "ha-down"
    assert world.count(Snapshot) == 0


def test_frozen_bindings_without_lifetimes_do_not_live_for_ever() -> None:
    world = at_link_1(lifetimes=False, kernel=True)
    world.unreadable = down
    world.run(WITHOUT_LIFETIME + 60)
    assert world.renewed[-1][0] < world.now - 50
    assert len(world.events("lease-suspended")) == 1


def hung() -> ReadingFailed:
    return ReadingFailed(0.0, down=False, detail="timed out")


def test_hung_terminal_without_the_kernel_is_believed_for_one_lease() -> None:
    world = at_link_1()
    hang = world.now
    world.unreadable = hung
    world.run(60)
    assert 6 < world.renewed[-1][0] - hang <= 1 + 10
    assert world.status == "up", "it is not down"
    world.unreadable = lambda: None
    world.cache[HOA] = Registration(LINK_2)
    world.run(1.5)
    assert world.care_of() == {HOA: LINK_2}
    assert world.now - world.renewed[-1][0] < 1.5
    assert world.turns < 70 * 20, "no busy loop"


def test_looks_that_are_rare_by_choice_are_no_reason_for_doubt() -> None:
    world = at_link_1(poll=30.0)
    world.run(300)
    assert not world.events("lease-suspended")


def test_hung_terminal_with_a_quiet_kernel_is_no_reason_for_doubt() -> None:
    world = at_link_1(kernel=True, lifetimes=False)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.run(600)
    assert world.now - world.renewed[-1][0] < 3.1
    assert world.care_of() == {HOA: LINK_1}


def test_what_ends_while_the_terminal_hangs_stays_ended() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = hung
    world.run(62)
    for _ in range(300):
        assert world.care_of() == {}
        world.run(0.5)
    assert world.count(Snapshot) > 2


def test_hung_terminal_and_a_change_leaves_what_the_kernel_confirms() -> None:
    world = World(kernel=True)
    world.cache = {HOA: Registration(LINK_1), OTHER: Registration(LINK_1)}
    world.run(1)
    confirmed = {HOA: LINK_2, OTHER: LINK_1}
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed=confirmed)
    world.change()
    world.run(60)
    assert world.care_of() == {OTHER: LINK_1}
    assert world.withheld == {HOA: UNCONFIRMED}, "registered all the same"
    assert world.now - world.renewed[-1][0] < 3.1
    world.unreadable = lambda: None
    world.cache[HOA] = Registration(LINK_2, sequence=2)
    world.run(2)
    assert (world.care_of(), world.withheld) == ({HOA: LINK_2, OTHER: LINK_1}, {})


def test_what_was_doubted_for_nothing_goes_direct_again() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.change()
    world.run(5)
    assert world.withheld == {HOA: UNCONFIRMED}
    world.unreadable = lambda: None
    world.run(2)
    assert (world.care_of(), world.withheld) == ({HOA: LINK_1}, {})


def test_what_the_home_agent_forgot_is_not_doubted_for_lack_of_a_tunnel() -> None:
    world = at_link_1(kernel=True)
    world.frozen = {HOA}
    world.run(4)
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={})
    world.change()
    world.run(5)
    assert world.care_of() == {HOA: LINK_1}
    world.unreadable = lambda: ReadingFailed(world.now, down=False, detail="timed out", confirmed={HOA: LINK_2})
    world.change()
    world.run(5)
    assert world.withheld == {HOA: UNCONFIRMED}, "it is known to be elsewhere"


def test_hung_terminal_and_a_change_nobody_can_read_lets_the_lease_go() -> None:
    world = at_link_1(kernel=True)
    world.unreadable = hung
    world.run(30)
    world.change()
    changed = world.now
    world.run(60)
    assert world.renewed[-1][0] <= changed + 10


def test_withheld_binding_is_reported_as_such_and_said_once() -> None:
    world = at_link_1()
    world.protected = {HOA: "ipsec"}
    world.run(10)
    assert world.care_of() == {}
    assert world.withheld == {HOA: "ipsec"}
    assert len(world.events("binding-withheld")) == 1
    world.held.clear()
    world.run(60)
    assert world.withheld == {HOA: "ipsec"}, "in snapshots, too"
    world.protected = {}
    world.run(3)
    assert (world.care_of(), world.withheld) == ({HOA: LINK_1}, {})


def test_withheld_binding_that_ends_is_removed() -> None:
    world = at_link_1()
    world.protected = {HOA: "ipsec"}
    world.run(5)
    del world.cache[HOA]
    world.run(2)
    assert world.withheld == {}


def test_a_controller_that_does_not_know_the_word_withdraws_it() -> None:
    world = at_link_1()

    def older(command: object) -> list[Verdict] | None:
        if isinstance(command, Send) and any(it.registration and it.registration.withheld for it in command.reports):
            return [Verdict(422, "withheld: unknown field") for _ in command.reports]
        return None

    world.fail = older
    world.protected = {HOA: "ipsec"}
    world.run(5)
    assert (world.care_of(), world.withheld) == ({}, {})


def sometimes(failure: Failed | None, chance: float) -> Callable[[object], Failed | None]:
    """Let requests fail with that probability."""
    rng = random.Random(7)
    return lambda command: failure if rng.random() < chance else None


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_fails_in_the_end_both_agree(data: st.DataObject) -> None:
    world = World(kernel=data.draw(st.booleans()), poll=data.draw(st.sampled_from([1.0, 3.0])))
    homes = [f"2001:db8:99::{n:x}" for n in range(256, 260)]
    for _ in range(data.draw(st.integers(3, 15))):
        what = data.draw(st.sampled_from(["move", "leave", "refuse", "error", "ok", "restart", "down", "hang", "read"]))
        home = data.draw(st.sampled_from(homes))
        if what == "move":
            lifetime = data.draw(st.integers(5, 100))
            world.cache[home] = Registration(
                data.draw(st.sampled_from([LINK_1, LINK_2])), world.now + lifetime, lifetime
            )
        elif what == "leave":
            world.cache.pop(home, None)
        elif what in ("refuse", "error", "ok"):
            failure = {"refuse": UNREACHABLE, "error": Failed("500", reached=True), "ok": None}[what]
            world.fail = sometimes(failure, data.draw(st.sampled_from([0.5, 1.0])))
        elif what == "restart":
            world.restart_controller()
        else:
            world.unreadable = {"down": down, "hang": hung, "read": lambda: None}[what]
        if world.kernel and what in ("move", "leave"):
            world.change()
        world.run(data.draw(st.floats(0.01, 15)))
    world.fail, world.unreadable = lambda command: None, lambda: None
    for home in homes[:2]:
        world.cache[home] = Registration(LINK_1, world.now + 100, 100)
    world.run(15)
    lasting = {home: it.care_of for home, it in world.cache.items() if it.expires > world.now + 2}
    last_seconds = {home: it.care_of for home, it in world.cache.items() if home not in lasting}
    assert lasting.items() <= world.care_of().items() <= (lasting | last_seconds).items()
    assert world.status == "up"


def recorded(name: str) -> list[tuple[float, list[Observed]]]:
    """Return a recorded run: epoch and the bindings that its answer shows."""
    parts = re.split(rb"--- ([0-9.]+)\n", (DATA / name).read_bytes())[1:]
    run = []
    for epoch, data in zip(parts[::2], parts[1::2], strict=True):
        reader = AnswerReader()
        reader.feed(data)
        answer = reader.take()
        assert answer is not None
        run.append((float(epoch), offloadable(parse_binding_cache(answer), HOME_AGENT)))
    return run


def replay(name: str) -> World:
    """Let a recorded run happen at the pace of its recording."""
    run = recorded(name)
    world = World(now=run[0][0])

    def observe() -> list[Observed]:
        epoch, shown = max((look for look in run if look[0] <= world.now), key=lambda look: look[0])
        gone_by = math.ceil(world.now - epoch)
        return [replace(it, left=it.left - gone_by) for it in shown if it.left is not None]

    world._observe = observe  # type: ignore[method-assign]
    world.run(run[-1][0] - run[0][0] + 2)
    return world


def test_recorded_handover() -> None:
    world = replay("mipv6/vt-handover-polls.txt")
    assert world.care_of() == {HOA: "2001:db8:3:0:945f:28ff:fe6e:2f82"}
    sent = [command.reports for command in world.commands if isinstance(command, Send)]
    assert [report.registration.sequence for reports in sent for report in reports if report.registration] == [52725]


def test_recorded_expiry() -> None:
    world = replay("mipv6/vt-expiry-polls.txt")
    assert world.held == {}
    sent = [report for command in world.commands if isinstance(command, Send) for report in command.reports]
    assert sent[-1].registration is None
    assert sum(report.registration is None for report in sent) == 1
