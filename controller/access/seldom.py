# SPDX-License-Identifier: Apache-2.0
"""Tells of what anybody can cause as often as they like, without filling the log with it. Pure: time is an argument."""

from collections import OrderedDict

MOST_SUBJECTS = 1000


class Seldom:
    """Lets something be told once in ``seconds`` of each subject."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._told: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def due(self, subject: str, now: float) -> int | None:
        """Return how often ``subject`` was kept quiet since it was told of last, or None to keep it quiet now."""
        told, quiet = self._told.get(subject, (float("-inf"), 0))
        if now - told < self._seconds:
            self._told[subject] = told, quiet + 1
            return None
        if len(self._told) >= MOST_SUBJECTS:
            self._told.popitem(last=False)
        self._told[subject] = now, 0
        self._told.move_to_end(subject)
        return quiet
