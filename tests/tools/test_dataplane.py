# SPDX-License-Identifier: Apache-2.0
"""What `make bench-dataplane` makes of what it has measured."""

from tools.benchmarks.dataplane import DIRECT, HOME_AGENT, PLAIN, WAYS, met, result, table


def rates(direct: list[float]) -> dict[str, dict[str, list[float]]]:
    """Return the same rates both ways; the machine is half as fast in round 2, and has a hiccup in round 3."""
    return {way: {DIRECT: direct, PLAIN: [1000.0, 500.0, 1000.0], HOME_AGENT: [900.0, 450.0, 90.0]} for way in WAYS}


def test_each_round_is_compared_with_itself() -> None:
    ratios = result(rates([970.0, 485.0, 100.0]))
    assert [round(by_other[PLAIN], 2) for by_other in ratios.values()] == [0.97, 0.97]
    assert met(ratios)


def test_a_missed_goal_is_told() -> None:
    measured = rates([940.0, 470.0, 940.0])
    ratios = result(measured)
    assert not met(ratios)
    assert "0.94   goal 0.95  MISSED" in table(measured, ratios)
    assert "goal 1.00  met" in table(measured, ratios)


def test_slower_than_the_home_agent_is_a_miss() -> None:
    assert not met(result(rates([890.0, 445.0, 89.0])))
