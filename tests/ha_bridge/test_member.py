# SPDX-License-Identifier: Apache-2.0
"""The bridge's decisions, under a clock of the test's own: changes, lifetimes, withheld bindings, recorded runs."""

import itertools
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ha_bridge.commands import Announce, Ask, Failed, Read, Send, Snapshot, Verdict
from ha_bridge.model import Observed, offloadable
from ha_bridge.settings import Settings
from ha_bridge.terminal_answers import AnswerReader, parse_binding_cache
from tests.support.bridge import DATA, HOA, HOME_AGENT, LINK_1, LINK_2
from tests.support.bridge_world import UNREACHABLE, Registration, World, at_link_1, down, hung


def test_starts_with_announcement_then_snapshot() -> None:
    world = at_link_1()
    assert [type(command) for command in world.commands if not isinstance(command, Read | Ask)] == [Announce, Snapshot]


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
    (member,) = world.members
    member._settings = Settings(10, 3.0, 1e9, 1.0, kernel=False)  # the minute's snapshot would count as a refresh
    world.run(600)
    assert 600 / 60 <= world.count(Send) <= 600 / (60 / 4)
    assert world.care_of() == {HOA: LINK_1}


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
            world.restart()
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
