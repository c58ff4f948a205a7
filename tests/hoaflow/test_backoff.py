# SPDX-License-Identifier: Apache-2.0
"""Waits between failing attempts grow to a limit and start anew after a success."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hoaflow.backoff import Backoff, delay


@given(st.integers(1, 10**6))
def test_a_wait_doubles_up_to_the_limit(failures: int) -> None:
    wait = delay(failures, 0.25, 5.0)
    assert 0.25 <= wait <= 5.0
    assert delay(failures + 1, 0.25, 5.0) == min(5.0, 2 * wait)


def test_a_success_starts_anew() -> None:
    backoff = Backoff(1.0, 60.0)
    assert [backoff.failed() for _ in range(3)] == [1.0, 2.0, 4.0]
    backoff.succeeded()
    assert backoff.failed() == 1.0


def test_a_random_part_of_at_most_half_is_taken_off() -> None:
    backoff = Backoff(4.0, 4.0, Random(1))
    waits = [backoff.failed() for _ in range(100)]
    assert all(2.0 <= wait <= 4.0 for wait in waits)
    assert len(set(waits)) > 1
