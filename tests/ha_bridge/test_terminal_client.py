# SPDX-License-Identifier: Apache-2.0
"""The virtual terminal: its captured bytes, its oddities, answers cut and segmented at every place."""

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_bridge.desired import DesiredBindings
from ha_bridge.model import CacheEntry, Observed, offloadable
from ha_bridge.reconciliation import Reconciliation, Report
from ha_bridge.terminal_answers import AnswerReader, UnreadableAnswer, parse_binding_cache
from ha_bridge.terminal_client import TerminalClient, TerminalRefused, TerminalUnreadable
from tests.support.bridge import DATA, HOME_AGENT, Terminal, entry

REGISTERED = CacheEntry(
    home_address="2001:db8:99::100",
    status="registered",
    care_of_address="2001:db8:2:0:f4a9:63ff:fe44:404e",
    flags="AH--",
    local=HOME_AGENT,
    left=53,
    overdue=False,
    total=60,
    sequence=52723,
)


def answers(data: bytes) -> list[bytes]:
    """All complete answers in a stream."""
    reader = AnswerReader()
    reader.feed(data)
    return list(iter(reader.take, None))


def capture(name: str) -> bytes:
    """Return the last complete answer of a capture."""
    return answers((DATA / name).read_bytes())[-1]


def test_default_output() -> None:
    assert parse_binding_cache(capture("mipv6/vt-registered.bin")) == [REGISTERED]


def test_plain_output_without_prompt() -> None:
    greeting, prompt_off, cache = answers((DATA / "mipv6/vt-registered-plain.bin").read_bytes())
    assert (greeting, prompt_off) == (b"no\n", b"no\n")
    assert [found.left for found in parse_binding_cache(cache)] == [51]


def test_verbose_output_says_the_same() -> None:
    (found,) = parse_binding_cache(capture("mipv6/vt-registered-verbose.bin"))
    assert (found.home_address, found.care_of_address, found.left) == (
        REGISTERED.home_address,
        REGISTERED.care_of_address,
        52,
    )


def test_mobile_network_prefixes() -> None:
    (found,) = parse_binding_cache(capture("nemo/vt-registered-nemo.bin"))
    assert found.prefixes == ("2001:db8:aa:1::/64", "2001:db8:aa:2::/64")
    care_of = "2001:db8:2:0:4cd1:4fff:fe22:ae63"
    assert offloadable([found], HOME_AGENT) == [
        Observed(home, care_of, 53, 60, 32619)
        for home in ("2001:db8:99::100", "2001:db8:aa:1::/64", "2001:db8:aa:2::/64")
    ]


def test_an_ipv4_home_address_is_a_binding_of_its_own() -> None:
    shown = entry("2001:db8:99::100", "2001:db8:2::2") + " IPv4-HoA: 10.99.0.100\n"
    (found,) = parse_binding_cache(shown.encode())
    assert [each.home_address for each in offloadable([found], HOME_AGENT)] == ["2001:db8:99::100", "10.99.0.100"]


def test_an_ipv4_care_of_address_is_reported_as_the_end_of_a_tunnel_over_ipv4() -> None:
    shown = entry("2001:db8:99::100", "::ffff:10.2.0.2") + " IPv4-HoA: 10.99.0.100\n"
    desired = DesiredBindings()
    desired.observe(offloadable(parse_binding_cache(shown.encode()), HOME_AGENT), 0.0)
    reported = [each.as_json(HOME_AGENT, 0.0) for each in Reconciliation(desired).difference(0.0)]
    assert {(each["home_address"], each["care_of_address"], each["tunnel"]) for each in reported} == {
        ("2001:db8:99::100", "10.2.0.2", "ipv4"),
        ("10.99.0.100", "10.2.0.2", "ipv4"),
    }
    removed = Report("2001:db8:99::100", "10.2.0.2", None).as_json(HOME_AGENT, 0.0)
    assert (removed["lifetime"], removed["tunnel"]) == (0, "ipv4")
    assert "tunnel" not in Report("2001:db8:99::100", "2001:db8:2::2", None).as_json(HOME_AGENT, 0.0)


def test_empty_cache() -> None:
    assert parse_binding_cache(capture("mipv6/vt-after-home.bin")) == []


def test_unknown_command_is_no_empty_cache() -> None:
    with pytest.raises(UnreadableAnswer, match="unknown command"):
        parse_binding_cache(capture("mipv6/vt-empty.bin"))


@pytest.mark.parametrize(
    ("left", "seconds", "overdue"),
    [("-", None, False), ("(error)", None, False), ("(broken)", None, False), ("-0", 0, True), ("-3", -3, True)],
)
def test_lifetimes_that_are_no_lifetimes(left: str, seconds: int | None, overdue: bool) -> None:
    (found,) = parse_binding_cache(entry("2001:db8:99::1", "2001:db8:2::1", left=left).encode())
    assert (found.left, found.overdue) == (seconds, overdue)


@pytest.mark.parametrize(
    "refused",
    [
        {"status": "cached"},
        {"status": "dad", "left": "-"},
        {"status": "dying"},
        {"status": "nonce-block"},
        {"status": "(unknown)"},
        {"flags": "A---"},
        {"flags": "A-LK"},
        {"local": "2001:db8:99::2"},
        {"care_of": "2001:db8:99::100"},
        {"left": "-0"},
        {"left": "-7"},
    ],
)
def test_only_accepted_home_registrations_count(refused: dict[str, Any]) -> None:
    good: dict[str, Any] = {"home": "2001:db8:99::100", "care_of": "2001:db8:2::2"}
    assert len(offloadable(parse_binding_cache(entry(**good).encode()), HOME_AGENT)) == 1
    text = entry(**(good | refused), prefixes=("2001:db8:aa::/64",))
    assert offloadable(parse_binding_cache(text.encode()), HOME_AGENT) == []


STREAM = (DATA / "nemo/vt-registered-nemo.bin").read_bytes()
LONG = b"".join(
    entry(f"2001:db8:99::{n:x}", f"2001:db8:2::{n:x}", prefixes=("2001:db8:aa::/64",) * (n % 3), mpa="-").encode()
    for n in range(1, 6)
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_segmentation_changes_nothing(cuts: list[int]) -> None:
    reader = AnswerReader()
    places = [0, *sorted(cuts), len(STREAM)]
    for start, end in itertools.pairwise(places):
        reader.feed(STREAM[start:end])
    assert [parse_binding_cache(answer) for answer in iter(reader.take, None)] == [
        parse_binding_cache(answer) for answer in answers(STREAM)
    ]


@pytest.mark.parametrize("whole", [STREAM, LONG + b"\0", LONG + b"mip6d> \0"])
def test_no_answer_before_its_last_byte(whole: bytes) -> None:
    for length in range(len(whole)):
        assert answers(whole[:length]) == []
    assert len(answers(whole)) == 1


def test_every_byte_must_be_understood() -> None:
    full = parse_binding_cache(LONG)
    for lost in range(len(LONG)):
        # One byte lost inside: another value, or an error; never an entry less that nobody notices.
        try:
            found = parse_binding_cache(LONG[:lost] + LONG[lost + 1 :])
        except UnreadableAnswer:
            continue
        assert [len(it.prefixes) for it in found] == [len(it.prefixes) for it in full]


def test_a_hundred_thousand_entries() -> None:
    text = "".join(
        entry(f"2001:db8:99::{n >> 16:x}:{n & 65535:x}", f"2001:db8:2::{n >> 16:x}:{n & 65535:x}")
        for n in range(1, 100_001)
    )
    terminal = Terminal(lambda: text)
    try:
        found = TerminalClient("127.0.0.1", terminal.port).read()
    finally:
        terminal.close()
    assert len(found) == 100_000
    assert found[-1].home_address == "2001:db8:99::1:86a0"


def read(terminal: Terminal) -> list[CacheEntry]:
    try:
        return TerminalClient("127.0.0.1", terminal.port, silence=0.5).read()
    finally:
        terminal.close()


ONE = entry("2001:db8:99::100", "2001:db8:2::2", prefixes=("2001:db8:aa::/64",))


def test_asks_again_after_the_first_connections_oddity() -> None:
    terminal = Terminal(lambda: ONE)
    terminal.first_is_unknown = True
    assert len(read(terminal)) == 1


def test_asks_again_when_bc_itself_was_not_understood() -> None:
    texts = iter(['unknown command: "(null)"\n', ONE])
    terminal = Terminal(lambda: next(texts))
    assert len(read(terminal)) == 1
    assert terminal.asked == 2


def test_byte_by_byte() -> None:
    terminal = Terminal(lambda: ONE)
    terminal.chunk = 1
    assert len(read(terminal)) == 1


@pytest.mark.parametrize("at", [0, 1, len(ONE) // 2, len(ONE) - 1, len(ONE)])
def test_an_answer_cut_off_is_no_answer(at: int) -> None:
    terminal = Terminal(lambda: ONE)
    terminal.cut = at
    with pytest.raises(TerminalUnreadable, match="hung up"):
        read(terminal)


def test_a_hung_terminal_times_out() -> None:
    terminal = Terminal(lambda: ONE)
    terminal.hang = True
    with pytest.raises(TerminalUnreadable, match="timed out"):
        read(terminal)


def test_nobody_listening_is_told_from_hanging() -> None:
    terminal = Terminal(lambda: ONE)
    terminal.close()
    with pytest.raises(TerminalRefused):
        TerminalClient("127.0.0.1", terminal.port).read()


IMPOSTOR = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
listener = socket.create_server((sys.argv[2], int(sys.argv[3])))
print(listener.getsockname()[1], flush=True)
listener.accept()
sys.stdin.read()
"""


@contextlib.contextmanager
def another_user(address: str, port: int = 0) -> Iterator[int]:
    """Have another user listen, and answer nothing; provides the port."""
    command = [sys.executable, "-c", IMPOSTOR, "65534", address, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


def test_another_user_of_the_host_cannot_play_the_home_agent() -> None:
    for listening, asked in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "localhost")):
        with another_user(listening) as port, pytest.raises(TerminalRefused, match="user 65534 listens at 127"):
            TerminalClient(asked, port).read()


def test_another_user_at_another_address_does_not_matter() -> None:
    terminal = Terminal(lambda: ONE)
    with another_user("127.0.0.2", terminal.port):
        assert len(TerminalClient("127.0.0.1", terminal.port).read()) == 1
    terminal.close()


def test_leaves_the_terminal_free_after_each_look() -> None:
    terminal = Terminal(lambda: ONE)
    client = TerminalClient("127.0.0.1", terminal.port, silence=0.5)
    try:
        for _ in range(50):
            assert len(client.read()) == 1
    finally:
        terminal.close()
    assert terminal.most_at_once == 1
