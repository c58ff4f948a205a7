# SPDX-License-Identifier: Apache-2.0
"""What a home agent knows again after a restart, and what it says of the rest: clocks set, disks that fail."""

import errno
import logging
import os
import time
from dataclasses import replace
from ipaddress import IPv6Network
from pathlib import Path
from typing import NamedTuple

import pytest

from hoaflow.home_agent import persistence
from hoaflow.home_agent.cache import BindingCache, Policy
from hoaflow.home_agent.persistence import Persistence
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.logs.events import ROOT
from hoaflow.mobility.messages import BindingUpdate

HOME_AGENT, CARE_OF, LIFETIME = "2001:db8:99::1", "2001:db8:2::2", 600
POLICY = Policy(HOME_AGENT, IPv6Network("2001:db8:99::/64"), 3600, 1000, None)
NODES = [f"2001:db8:99::{number:x}" for number in range(0x100, 0x103)]


def registered(path: Path, left: float = LIFETIME) -> None:
    """Leave a journal in which all nodes are registered, as a killed process leaves it."""
    cache, kept = BindingCache(POLICY), Persistence(path)
    for node in NODES:
        update = BindingUpdate(CARE_OF, HOME_AGENT, node, CARE_OF, 7, LIFETIME)
        assert cache.restore(update, LIFETIME, left, time.monotonic())
        kept.record(cache, node)
    kept.commit(cache)
    kept.close()


class Clock(NamedTuple):
    """What was done to the clocks while no home agent ran, and what should come of it.

    That is how long bindings live on (0: they are left out), and what the log says.
    """

    set_by: float
    later: float
    rebooted: bool
    left: float
    said: tuple[str, ...]


CLOCKS = {
    "as it was": Clock(0, 100, False, 500, ()),
    "an hour ahead": Clock(3600, 100, False, 500, ("event=clock-set seconds=3600",)),
    "an hour back": Clock(-3600, 100, False, 500, ("event=clock-set seconds=-3600",)),
    "expired meanwhile": Clock(0, 700, False, 0, ('remark="left out: expired" bindings=3',)),
    "expired, an hour back": Clock(-3600, 700, False, 0, ('remark="left out: expired" bindings=3', "event=clock-set")),
    "another boot": Clock(0, 100, True, 500, ()),
    "another boot, ahead": Clock(3600, 100, True, 0, ("left out: expired by the host's clock, of another boot",)),
    "another boot, back": Clock(
        -3600, 100, True, LIFETIME, ('remark="kept for a whole lifetime: the host\'s clock was set back" bindings=3',)
    ),
}


@pytest.fixture(autouse=True)
def every_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=ROOT)  # which tests of the log's settings leave as they like


@pytest.mark.parametrize("name", CLOCKS)
def test_a_restart_keeps_what_the_clocks_allow_and_tells_the_rest(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = CLOCKS[name]
    registered(tmp_path / "journal")
    now = Timestamp.now()
    then = replace(now, epoch=now.epoch + clock.later + clock.set_by, boottime=now.boottime + clock.later)
    if clock.rebooted:
        then = replace(then, boottime=30.0, boot="another")
    monkeypatch.setattr(Timestamp, "now", lambda: then)

    cache, kept = BindingCache(POLICY), Persistence(tmp_path / "journal")
    installs = kept.restore(cache)
    kept.close()

    assert {install.binding.home_address for install in installs} == (set(NODES) if clock.left else set())
    for install in installs:
        assert install.binding.due - time.monotonic() == pytest.approx(clock.left, abs=5)
    said = caplog.text
    for text in clock.said:
        assert text in said
    if not clock.said:
        assert not [line for line in caplog.records if line.levelname == "WARNING"]


def test_what_the_settings_do_not_cover_any_more_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    registered(tmp_path / "journal")
    kept = Persistence(tmp_path / "journal")
    assert kept.restore(BindingCache(replace(POLICY, home_prefix=IPv6Network("2001:db8:77::/64")))) == []
    kept.close()
    assert 'remark="left out: the settings no longer cover them" bindings=3' in caplog.text


@pytest.mark.expected_log("event=journal-not-written")
def test_a_disk_that_fails_is_told_once_and_tried_again_at_leisure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registered(tmp_path / "journal")
    cache, kept = BindingCache(POLICY), Persistence(tmp_path / "journal")
    kept.restore(cache)
    attempts = 0

    def full(_descriptor: int, _data: object) -> int:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as failing:
        failing.setattr(os, "write", full)
        for _ in range(1000):
            kept.record(cache, NODES[0])
            kept.commit(cache)
    assert kept.unwritten == 1
    assert attempts < 100
    assert caplog.text.count("event=journal-not-written") == 1

    monkeypatch.setattr(persistence, "RETRY_SECONDS", 0.0)
    kept._retry_at = 0.0
    kept.commit(cache)
    assert kept.unwritten == 0
    assert "event=journal-written-again" in caplog.text
    kept.close()
    assert set(Persistence(tmp_path / "journal")._journal.records) == set(NODES)  # type: ignore[union-attr]


def test_a_journal_that_somebody_has_removed_is_told_and_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal"
    registered(path)
    cache, kept = BindingCache(POLICY), Persistence(path)
    kept.restore(cache)
    path.unlink()
    kept.record(cache, NODES[0])
    kept.commit(cache)
    kept.close()
    assert "event=journal-changed" in caplog.text
    assert set(Persistence(path)._journal.records) == set(NODES)  # type: ignore[union-attr]
