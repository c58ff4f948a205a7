# SPDX-License-Identifier: Apache-2.0
"""Space out attempts that fail: each wait is twice the one before, up to a limit."""

from random import Random

MOST_DOUBLINGS = 30  # keeps the power finite when something fails for days


def delay(failures: int, first: float, longest: float) -> float:
    """Return the seconds to wait after `failures` failures in a row, from `first` to `longest`.

    >>> [delay(failures, first=1.0, longest=5.0) for failures in (1, 2, 3, 4)]
    [1.0, 2.0, 4.0, 5.0]
    """
    return min(longest, first * 2.0 ** min(failures - 1, MOST_DOUBLINGS))


class Backoff:
    """Count failures in a row and say how long to wait after each.

    With `rng`, each wait is shortened by a random part, at most half, so that clients do not retry in step.
    """

    def __init__(self, first: float, longest: float, rng: Random | None = None) -> None:
        self._first, self._longest, self._rng = first, longest, rng
        self._failures = 0

    def failed(self) -> float:
        """Record a failure and return the seconds to wait."""
        self._failures += 1
        wait = delay(self._failures, self._first, self._longest)
        return wait if self._rng is None else wait * self._rng.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Return to the first wait."""
        self._failures = 0
