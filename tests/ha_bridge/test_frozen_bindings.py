# SPDX-License-Identifier: Apache-2.0
"""A home agent that comes back with an empty cache is not one that has emptied it."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from ha_bridge.frozen_bindings import GRACE, WITHOUT_LIFETIME, FrozenBindings
from ha_bridge.model import CacheEntry, Observed, Reading, ReadingFailed, decided
from ha_bridge.process_sockets import terminal_sockets
from ha_bridge.sources import TerminalSource
from ha_bridge.terminal_client import TerminalClient
from tests.support.bridge import HOME_AGENT, Terminal, entry

HOA, OTHER, NETWORK = "2001:db8:99::100", "2001:db8:99::200", "2001:db8:aa::/64"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"
BOUND = Observed(HOA, LINK_1, 60, 60, 7)
ONE, ANOTHER, UNSEEN = frozenset({4711}), frozenset({4712}), frozenset[int]()


def remembered(*shown: Observed, sockets: frozenset[int] = ONE) -> FrozenBindings:
    frozen = FrozenBindings()
    assert frozen.observe(shown, {each.home_address for each in shown}, sockets, 1000.0) == []
    return frozen


def test_what_another_process_does_not_show_is_frozen() -> None:
    frozen = remembered(BOUND)
    assert frozen.observe([], set(), ANOTHER, 1010.5) == [replace(BOUND, left=49, frozen=True)]
    assert frozen.observe([], set(), ANOTHER, 1020.5) == [replace(BOUND, left=39, frozen=True)]


def test_a_process_that_was_seen_to_be_gone_is_another_one() -> None:
    frozen = remembered(BOUND, sockets=UNSEEN)
    frozen.process_gone()
    assert frozen.observe([], set(), UNSEEN, 1001.0)


@pytest.mark.parametrize("sockets", [ONE, UNSEEN], ids=["the same", "not to be seen"])
def test_what_the_same_process_does_not_show_has_ended(sockets: frozenset[int]) -> None:
    assert remembered(BOUND).observe([], set(), sockets, 1001.0) == []


def test_a_frozen_binding_ends_with_its_lifetime() -> None:
    frozen = remembered(BOUND)
    assert frozen.observe([], set(), ANOTHER, 1059.0)
    assert frozen.observe([], set(), ANOTHER, 1060.0 + GRACE) == []


def test_without_lifetime_it_ends_after_a_while() -> None:
    frozen = remembered(Observed(HOA, LINK_1))
    assert frozen.observe([], set(), ANOTHER, 1010.0) == [Observed(HOA, LINK_1, frozen=True)]
    assert frozen.observe([], set(), ANOTHER, 1010.0 + WITHOUT_LIFETIME + GRACE) == []


def test_it_survives_another_restart() -> None:
    frozen = remembered(BOUND)
    frozen.observe([], set(), ANOTHER, 1010.0)
    assert frozen.observe([], set(), frozenset({4713}), 1020.0) == [replace(BOUND, left=40, frozen=True)]


def test_the_home_agents_own_word_counts_again_and_then_its_silence() -> None:
    frozen = remembered(BOUND)
    frozen.observe([], set(), ANOTHER, 1010.0)
    assert frozen.observe([replace(BOUND, sequence=8)], {HOA}, ANOTHER, 1011.0) == []
    assert frozen.observe([], set(), ANOTHER, 1012.0) == [], "deregistered"


def test_a_word_that_it_is_not_to_be_offloaded_counts_too() -> None:
    frozen = remembered(BOUND)
    frozen.observe([], set(), ANOTHER, 1010.0)
    entry = CacheEntry(HOA, "registered", HOA, "AH--", HOME_AGENT, 60, False, 60, 8)
    assert frozen.observe([], decided([entry], HOME_AGENT), ANOTHER, 1011.0) == [], "at home"
    unfinished = replace(entry, status="dad", care_of_address=LINK_2)
    assert decided([unfinished, replace(entry, flags="A---")], HOME_AGENT) == set()


def test_a_mobile_router_that_is_back_is_back_with_its_networks() -> None:
    # The other one has its care-of address and its number by chance.
    router, network, other = (replace(BOUND, home_address=home) for home in (HOA, NETWORK, OTHER))
    frozen = remembered(router, network, other)
    assert len(frozen.observe([], set(), ANOTHER, 1010.0)) == 3
    moved = replace(router, care_of_address=LINK_2, sequence=8)
    assert [it.home_address for it in frozen.observe([moved], {HOA}, ANOTHER, 1011.0)] == [OTHER]


def test_a_cache_is_emptied_when_nothing_is_left_of_it() -> None:
    frozen = remembered(BOUND, replace(BOUND, home_address=OTHER))
    assert frozen.is_emptied([])
    assert not frozen.is_emptied([BOUND])
    assert not FrozenBindings().is_emptied([])


def source(terminal: Terminal, pause: Callable[[float], None]) -> TerminalSource:
    return TerminalSource(TerminalClient("127.0.0.1", terminal.port), HOME_AGENT, None, pause=pause)


def test_a_cache_that_is_emptied_by_a_process_that_ends_is_not_believed() -> None:
    shown = [entry(HOA, LINK_1)]
    terminal = Terminal(lambda: "".join(shown))
    asked = source(terminal, pause=lambda _seconds: terminal.close())
    assert isinstance(asked.read(), Reading)
    shown.clear()
    failed = asked.read()
    assert isinstance(failed, ReadingFailed)
    assert failed.down
    back = Terminal(lambda: "", terminal.port)
    try:
        reading = asked.read()
        assert isinstance(reading, Reading)
        assert [(binding.home_address, binding.frozen) for binding in reading.bindings] == [(HOA, True)]
    finally:
        back.close()


def test_a_cache_that_is_emptied_by_a_process_that_goes_on_is_empty() -> None:
    shown, paused = [entry(HOA, LINK_1)], list[float]()
    terminal = Terminal(lambda: "".join(shown))
    try:
        asked = source(terminal, pause=paused.append)
        assert isinstance(asked.read(), Reading)
        shown.clear()
        reading = asked.read()
        assert isinstance(reading, Reading)
        assert reading.bindings == []
        assert len(paused) == 1
    finally:
        terminal.close()


def test_a_process_that_is_replaced_between_two_looks_is_noticed() -> None:
    first = Terminal(lambda: entry(HOA, LINK_1))
    asked = source(first, pause=lambda _seconds: None)
    assert isinstance(asked.read(), Reading)
    first.close()
    second = Terminal(lambda: "", first.port)
    try:
        reading = asked.read()
        assert isinstance(reading, Reading)
        assert [binding.frozen for binding in reading.bindings] == [True]
    finally:
        second.close()


def test_another_process_has_other_listening_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = terminal_sockets("127.0.0.1", port)
        assert found == {os.fstat(listener.fileno()).st_ino}
        assert terminal_sockets("localhost", port) == found
        assert terminal_sockets("192.0.2.1", port) == frozenset(), "of another host nothing is to be seen"
    assert terminal_sockets("127.0.0.1", port) == frozenset()
