# SPDX-License-Identifier: Apache-2.0
"""What a home agent forgot in a restart goes back through its terminal, and the controller does not notice."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from ha_bridge.__main__ import main
from ha_bridge.model import CacheEntry
from ha_bridge.restoration import Restoration, add_command
from tests.support.bridge import HOME_AGENT, HOME_PREFIX, Controller, Terminal, bridge, entry, unpadded

HOA, OTHER, LINK = "2001:db8:99::100", "2001:db8:99::200", "2001:db8:2::2"
ENTRY = CacheEntry(HOA, "registered", LINK, "AHL-", HOME_AGENT, 60, False, 60, 7)
NOBODY: frozenset[int] = frozenset()


def restarted(*entries: CacheEntry) -> Restoration:
    restoration = Restoration(HOME_AGENT)
    restoration.seen(entries, NOBODY, 1000.0)
    restoration.gone()
    return restoration


def test_what_is_left_of_the_lifetime_is_put_back() -> None:
    forgotten = restarted(ENTRY).forgotten([], NOBODY, 1020.5)
    assert forgotten.entries == [replace(ENTRY, left=39)]
    assert add_command(forgotten.entries[0]) == (
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
    forgotten = restarted(seen).forgotten([], NOBODY, 1000.0 + after)
    assert forgotten.entries == []
    assert reason in forgotten.given_up[HOA]


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
    assert restarted(seen).forgotten([], NOBODY, 1001.0).entries == []


def test_what_has_registered_again_meanwhile_is_left_alone() -> None:
    assert restarted(ENTRY).forgotten([replace(ENTRY, sequence=8)], NOBODY, 1001.0).entries == []


def test_a_deregistration_is_no_restart() -> None:
    restoration = Restoration(HOME_AGENT)
    restoration.seen([ENTRY], frozenset({4711}), 1000.0)
    assert restoration.forgotten([], frozenset({4711}), 1001.0).entries == []
    assert restoration.forgotten([], NOBODY, 1001.0).entries == []


def test_a_process_that_took_over_between_two_looks_is_known_by_its_socket() -> None:
    restoration = Restoration(HOME_AGENT)
    restoration.seen([ENTRY], frozenset({4711}), 1000.0)
    assert restoration.forgotten([], frozenset({4712}), 1001.0).entries == [replace(ENTRY, left=59)]


def test_what_was_not_put_back_for_a_failure_is_tried_again() -> None:
    restoration = restarted(ENTRY)
    assert restoration.forgotten([], NOBODY, 1001.0).entries
    assert restoration.forgotten([], NOBODY, 1002.0).entries
    restoration.seen([ENTRY], NOBODY, 1003.0)
    assert not restoration.forgotten([], NOBODY, 1004.0).entries


class VolatileHomeAgent:
    """Forgets its bindings with its process; takes them back by `bc add`."""

    def __init__(self, bindings: dict[str, str], port: int = 0) -> None:
        self.bindings = bindings
        self.added: list[dict[str, str]] = []
        self.terminal = Terminal(self.text, port)
        self.terminal.add = self.add

    def text(self) -> str:
        return "".join(entry(home, care_of, sequence=9) for home, care_of in self.bindings.items())

    def add(self, words: dict[str, str]) -> str:
        if words["hoa"] == OTHER:
            return "bc error=22(Invalid argument)\n"
        self.added.append(words)
        self.bindings[words["hoa"]] = words["coa"]
        return "bc status=0\n"


@pytest.fixture
def controller() -> Iterator[Controller]:
    running = Controller()
    yield running
    running.stop()


def command(controller: Controller, port: int, *more: str) -> list[str]:
    return [
        *("--controller", controller.url, "--home-prefix", HOME_PREFIX, "--console", f"127.0.0.1:{port}"),
        *("--no-netlink", "--poll", "0.1", "--lease", "2", "--renew", "0.5", *more),
    ]


def test_bindings_are_back_before_the_controller_hears_of_the_restart(controller: Controller) -> None:
    before = VolatileHomeAgent({HOA: LINK, OTHER: LINK})
    port = before.terminal.port
    with bridge(*command(controller, port, "--restore")) as process:
        process.wait("snapshot-sent")
        before.terminal.close()
        process.wait("ha-down")
        after = VolatileHomeAgent({}, port)
        try:
            assert "bindings=1" in process.wait("home-agent-restored")
            assert f"home_address={OTHER}" in process.wait("binding-not-restored")
            assert "Invalid argument" in process.wait("binding-not-restored")
            process.wait("snapshot-sent", 2)
        finally:
            after.terminal.close()
    (words,) = after.added
    assert words.pop("lifetime") in ("58", "59", "60")
    assert words == {"hoa": HOA, "coa": LINK, "local": HOME_AGENT, "flags": "AH", "seq": "9", "dad": "never"}
    snapshots = [body["bindings"] for method, path, body in controller.requests if path.endswith("/bindings")]
    assert [sorted(b["home_address"] for b in told) for told in snapshots] == [[HOA, OTHER], [HOA]]


def test_nothing_is_put_back_unless_asked_for(controller: Controller) -> None:
    before = VolatileHomeAgent({HOA: LINK})
    port = before.terminal.port
    with bridge(*command(controller, port)) as process:
        process.wait("snapshot-sent")
        before.terminal.close()
        process.wait("ha-down")
        after = VolatileHomeAgent({}, port)
        controller.wait(lambda: not controller.bindings)
        after.terminal.close()
    assert after.added == []


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
