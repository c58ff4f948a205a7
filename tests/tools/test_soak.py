# SPDX-License-Identifier: Apache-2.0
"""`make soak`: what it calls growth, how its mobile nodes move, and that it takes samples and leaves nothing behind."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.checkout import CHECKOUT
from tools.benchmarks.lab import new_population
from tools.benchmarks.soak import RoamingCache, flatness
from topologies.waiting import patient

PARTS = ("controller: bytes", "ha-bridge: bytes", "controller: logged", "ovs-vswitchd: flows")


@pytest.mark.parametrize(
    ("name", "first", "last", "flat"),
    [
        ("controller: bytes", 100 << 20, 104 << 20, True),
        ("controller: bytes", 100 << 20, 106 << 20, False),
        ("ha-bridge: bytes", 10 << 20, 11 << 20, True),  # less than what a few objects take
        ("controller: descriptors", 12, 16, True),
        ("controller: descriptors", 12, 17, False),
        ("ha-bridge: threads", 5, 8, False),
        ("ovs-vswitchd: flows", 1222, 1222, True),
        ("ovs-vswitchd: flows", 1222, 1223, False),
        ("controller: logged", 280.0, 360.0, False),
    ],
)
def test_what_has_grown_is_told_from_what_has_not(name: str, first: float, last: float, flat: bool) -> None:
    figure = flatness(name, [first] * 19 + [last])
    assert figure.met is flat
    assert str(last) in figure.reason


def test_mobile_nodes_move_until_they_rest_and_then_all_are_shown() -> None:
    cache = RoamingCache(new_population(100), rate=1e9)
    before = cache.care_of_addresses()
    cache.roam()
    cache.shown()
    assert cache.shown().count("hoa ") == 98  # two have gone home
    assert cache.handovers == 100  # half of them each time, however many are due
    reading = threading.Thread(target=cache.rest)
    reading.start()
    while reading.is_alive():
        cache.shown()
    assert cache.shown().count("hoa ") == 100
    moved = cache.care_of_addresses()
    assert moved != before
    assert cache.shown() == cache.shown()
    assert cache.care_of_addresses() == moved


def test_samples_are_taken_of_all_parts_and_an_interrupted_run_leaves_nothing_behind() -> None:
    command = [sys.executable, "-m", "tools.benchmarks.soak", "--minutes", "0.2", "--nodes", "100"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        sample = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=patient(60))
    assert all(part in sample for part in PARTS), sample + errors
    assert process.returncode == 128 + signal.SIGINT, errors
    assert not list(Path("/run/netns").glob(f"hf-ovs-{process.pid}-*"))
