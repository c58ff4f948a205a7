# SPDX-License-Identifier: Apache-2.0
"""Bounds are in seconds that programs had, whatever else the machine did."""

import pytest

from tools.chaos.pace import Beat, Pace, load

BUSY = Pace([Beat(100.0, 1.0), Beat(110.0, 1.0), Beat(130.0, 4.0), Beat(140.0, 2.0)])  # 10, 5 and 5 seconds


@pytest.mark.parametrize(
    ("at", "seconds", "expected"),
    [
        (90.0, 5.0, 95.0), (95.0, 10.0, 105.0), (100.0, 10.0, 110.0), (100.0, 12.0, 118.0), (110.0, 7.5, 135.0),
        (120.0, 5.0, 135.0), (135.0, 2.5, 140.0), (135.0, 12.5, 150.0), (200.0, 1.0, 201.0),
    ],
)  # fmt: skip
def test_a_bound_ends_when_programs_had_so_many_seconds(at: float, seconds: float, expected: float) -> None:
    assert BUSY.after(at, seconds) == pytest.approx(expected)
    assert BUSY.between(at, expected) == pytest.approx(seconds)


def test_without_a_heartbeat_the_clock_counts() -> None:
    for pace in (Pace(), Pace([Beat(50.0, 3.0)])):
        assert pace.after(60.0, 5.0) == 65.0
        assert pace.between(60.0, 65.0) == 5.0
        assert pace.mean == 1.0


def test_it_tells_how_slow_the_machine_was() -> None:
    assert (BUSY.mean, BUSY.worst) == (2.0, 4.0)


def test_beats_are_read_but_for_an_unfinished_line() -> None:
    assert list(load("5.250 1.00\n5.500 2.50\n5.7")) == [Beat(5.25, 1.0), Beat(5.5, 2.5)]
