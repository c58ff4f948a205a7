# SPDX-License-Identifier: Apache-2.0
"""What a home agent forgot in a restart goes back through its terminal, and the controller does not notice."""

import contextlib
import itertools
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from ha_bridge.__main__ import main
from ha_bridge.model import CacheEntry
from ha_bridge.restoration import Refusal, Restoration, add_command, refusal
from tests.support.bridge import HOME_AGENT, HOME_PREFIX, Bridge, Terminal, bridge, entry, unpadded
from tests.support.bridge_controller import Controller
from tests.support.waiting import wait_for

HOA, OTHER, LINK = "2001:db8:99::100", "2001:db8:99::200", "2001:db8:2::2"
ENTRY = CacheEntry(HOA, "registered", LINK, "AHL-", HOME_AGENT, 60, False, 60, 7)
MOVING = "2001:db8:99::300"
NOT_YET, NOT_READY = Refusal("status 132: not home subnet", passing=True), "bc status=132\n"


def restarted(*entries: CacheEntry) -> Restoration:
    restoration = Restoration(HOME_AGENT)
    restoration.observe(entries, 1000.0)
    restoration.restarted()
    return restoration


def test_what_is_left_of_the_lifetime_is_put_back() -> None:
    (due,) = restarted(ENTRY).due([], 1020.5)
    assert due == replace(ENTRY, left=39)
    assert add_command(due) == (
        f"bc add hoa {HOA} coa {LINK} local {HOME_AGENT} flags AHL lifetime 39 seq 7 dad never "
    )


def test_the_greatest_sequence_number_is_left_to_the_terminal() -> None:
    """It calls 65535 an overflow."""
    assert " seq auto " in add_command(replace(ENTRY, sequence=65535))


@pytest.mark.parametrize(
    ("seen", "after", "reason"),
    [
        (ENTRY, 57.0, "lifetime"),
        (replace(ENTRY, left=None), 1.0, "lifetime"),
        (replace(ENTRY, left=0, overdue=True), 0.0, "lifetime"),
        (replace(ENTRY, prefixes=("2001:db8:aa::/64",)), 1.0, "prefixes"),
    ],
)
def test_what_cannot_be_put_back_is_said(seen: CacheEntry, after: float, reason: str) -> None:
    restoration = restarted(seen)
    assert restoration.due([], 1000.0 + after) == []
    assert reason in restoration.take_given_up()[HOA]
    assert restoration.take_given_up() == {}, "once"
    assert restoration.waits_for is None


@pytest.mark.parametrize(
    "seen",
    [
        replace(ENTRY, status="dad"),
        replace(ENTRY, status="dying"),
        replace(ENTRY, status="cached"),
        replace(ENTRY, flags="A---"),
        replace(ENTRY, local="2001:db8:99::2"),
    ],
)
def test_only_accepted_home_registrations_are_put_back(seen: CacheEntry) -> None:
    assert restarted(seen).due([], 1001.0) == []


def test_what_has_registered_again_meanwhile_is_left_alone() -> None:
    restoration = restarted(ENTRY)
    assert restoration.due([replace(ENTRY, sequence=8)], 1001.0) == []
    assert restoration.waits_for is None


def test_what_was_not_put_back_for_a_failure_is_tried_again() -> None:
    restoration = restarted(ENTRY)
    assert restoration.due([], 1001.0)
    restoration.restarted()
    assert restoration.due([], 1002.0)
    restoration.added([HOA])
    assert not restoration.due([], 1003.0)


def test_a_home_agent_that_is_not_ready_is_asked_until_the_lifetime_ends() -> None:
    restoration = restarted(ENTRY)
    for now in (1001.0, 1020.0, 1050.0):
        assert restoration.due([], now)
        restoration.refused({HOA: NOT_YET})
        assert "status 132: not home subnet" in str(restoration.waits_for)
        assert restoration.take_given_up() == {}
    assert restoration.due([], 1057.0) == []
    assert restoration.take_given_up() == {HOA: "its lifetime is over; until then: status 132: not home subnet"}


@pytest.mark.parametrize(
    ("answer", "meant"),
    [
        (b"bc status=0\n", None),
        (b"bc status=1\n", None),
        (b"bc status=132\n", NOT_YET),
        (b"bc status=130\n", Refusal("status 130: insufficient resources", passing=True)),
        (b"bc status=129\n", Refusal("status 129: administratively prohibited", passing=False)),
        (b"bc status=200\n", Refusal("status 200: not known", passing=False)),
        (b"bc error=22(Invalid argument)\n", Refusal("bc error=22(Invalid argument)", passing=False)),
    ],
)
def test_answers_are_told_in_words(answer: bytes, meant: Refusal | None) -> None:
    assert refusal(answer) == meant


class VolatileHomeAgent:
    """Forgets its bindings with its process; takes them back by `bc add`."""

    def __init__(self, bindings: dict[str, str], port: int = 0, refusals: Iterable[str] = ()) -> None:
        """Start its terminal. refusals: its answers to the first commands."""
        self.bindings = bindings
        self.refusals = list(refusals)
        self.added: list[dict[str, str]] = []
        self.terminal = Terminal(self.text, port)
        self.terminal.add = self.add

    def text(self) -> str:
        return "".join(entry(home, care_of, sequence=9) for home, care_of in self.bindings.items())

    def add(self, words: dict[str, str]) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        if words["hoa"] == OTHER:
            return "bc status=129\n"
        self.added.append(words)
        self.bindings[words["hoa"]] = words["coa"]
        return "bc status=0\n"


@contextlib.contextmanager
def restarting(
    controller: Controller, bindings: dict[str, str], *options: str, refusals: Iterable[str] = ()
) -> Iterator[tuple[Bridge, VolatileHomeAgent]]:
    """Run a bridge whose home agent goes down when its bindings are reported, and comes back without them.

    refusals: what the home agent that is back answers first.
    """
    before = VolatileHomeAgent(bindings)
    port = before.terminal.port
    with bridge(*command(controller, port, *options)) as process:
        process.wait("snapshot-sent")
        before.terminal.close()
        process.wait("ha-down")
        after = VolatileHomeAgent({}, port, refusals)
        try:
            yield process, after
        finally:
            after.terminal.close()


def command(controller: Controller, port: int, *more: str) -> list[str]:
    return [
        *("--controller", controller.url, "--home-prefix", HOME_PREFIX, "--console", f"127.0.0.1:{port}"),
        *("--no-netlink", "--poll", "0.1", "--lease", "2", "--renew", "0.5", *more),
    ]


def test_bindings_are_back_before_the_controller_hears_of_the_restart(controller: Controller) -> None:
    with restarting(controller, {HOA: LINK, OTHER: LINK}, "--restore") as (process, after):
        assert "bindings=1" in process.wait("home-agent-restored")
        assert f"home_address={OTHER}" in process.wait("binding-not-restored")
        assert "status 129: administratively prohibited" in process.wait("binding-not-restored")
        process.wait("snapshot-sent", 2)
    (words,) = after.added
    assert 0 < int(words.pop("lifetime")) <= 60, "what is left of it"
    assert words == {"hoa": HOA, "coa": LINK, "local": HOME_AGENT, "flags": "AH", "seq": "9", "dad": "never"}
    snapshots = [body["bindings"] for method, path, body in controller.requests if path.endswith("/bindings")]
    assert [sorted(b["home_address"] for b in told) for told in snapshots] == [[HOA, OTHER]] * 2, (
        "and frozen is the other"
    )


def test_a_home_agent_that_is_not_ready_stays_down_until_it_takes_them_back(controller: Controller) -> None:
    with restarting(controller, {HOA: LINK}, "--restore", refusals=[NOT_READY] * 1000) as (process, after):
        snapshots = len(process.events("snapshot-sent"))
        wait_for("it was asked again", lambda: len(after.refusals) < 998)
        assert len(process.events("up")) == 1, "before the restart"
        assert controller.home_agents[HOME_AGENT]["status"] == "ha-down"
        after.refusals.clear()
        assert "bindings=1" in process.wait("home-agent-restored")
        process.wait("up", 2)
        process.wait("snapshot-sent", snapshots + 1)
    assert not process.events("binding-not-restored")
    assert not after.refusals
    assert controller.care_of() == {HOA: LINK}
    statuses = [body["status"] for _, path, body in controller.requests if path.endswith(HOME_AGENT)]
    assert [status for status, _ in itertools.groupby(statuses)] == ["up", "ha-down", "up"]
    told = [str(body) for method, path, body in controller.requests if path.endswith("bindings")]
    assert all(HOA in each and "'lifetime': 0" not in each for each in told)


def test_a_mobile_node_that_registers_elsewhere_does_not_wait_for_the_others(controller: Controller) -> None:
    bindings = {HOA: LINK, MOVING: LINK}
    with restarting(controller, bindings, "--restore", refusals=[NOT_READY] * 1000) as (_, after):
        wait_for("it was asked", lambda: len(after.refusals) < 1000)
        assert controller.care_of() == {HOA: LINK, MOVING: LINK}
        after.bindings[MOVING] = "2001:db8:3::2"
        controller.wait(lambda: controller.care_of() == {HOA: LINK, MOVING: "2001:db8:3::2"})
        after.refusals.clear()
        wait_for("the other one is put back", lambda: HOA in after.bindings)


def test_nothing_is_put_back_unless_asked_for_but_what_was_frozen_is_kept(controller: Controller) -> None:
    with restarting(controller, {HOA: LINK, MOVING: LINK}) as (process, after):
        assert "shows=0 frozen=2" in process.wait("home-agent-restarted")
        process.wait("snapshot-sent", 2)
        assert controller.care_of() == {HOA: LINK, MOVING: LINK}
        after.bindings[MOVING] = "2001:db8:3::2"
        controller.wait(lambda: controller.care_of() == {HOA: LINK, MOVING: "2001:db8:3::2"})
        del after.bindings[MOVING]
        controller.wait(lambda: controller.care_of() == {HOA: LINK})
    assert after.added == []


def test_what_the_home_agent_ends_by_itself_is_not_put_back(controller: Controller) -> None:
    home_agent = VolatileHomeAgent({HOA: LINK, MOVING: LINK})
    try:
        with bridge(*command(controller, home_agent.terminal.port, "--restore")) as process:
            process.wait("snapshot-sent")
            del home_agent.bindings[MOVING]
            controller.wait(lambda: controller.care_of() == {HOA: LINK})
    finally:
        home_agent.terminal.close()
    assert home_agent.added == []


def test_restoring_needs_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--controller", "http://127.0.0.1:1", "--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX]
    with pytest.raises(SystemExit):
        main([*arguments, "--no-console", "--restore"])
    assert "--restore needs the terminal" in capsys.readouterr().err


def test_the_terminal_of_the_tests_knows_a_word_by_the_blank_behind_it() -> None:
    """As UMIP's does: what the command must heed."""
    terminal = Terminal(lambda: "")
    try:
        with socket.create_connection(("127.0.0.1", terminal.port), timeout=5) as connection:
            assert connection.recv(100)
            connection.sendall(f"bc add hoa {unpadded(HOA)}\n".encode())
            assert connection.recv(1000).startswith(b"hoa ADDR")
    finally:
        terminal.close()
