# SPDX-License-Identifier: Apache-2.0
"""Stretch bounds by how slowly a busy machine lets programs go on: pure.

A heartbeat (`tools.chaos.pulse`) does the same work again and again and tells how much longer it took than the work
needs. Bounds are in seconds of a machine that makes nobody wait, so what a violation is does not depend on what else
the machine does.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple


class Beat(NamedTuple):
    """Record one beat: when it ended, and how many times longer than needed it took, 1 or more."""

    at: float
    slowness: float


def load(text: str) -> Iterator[Beat]:
    """Return the beats of a file, a line each, ignoring an unfinished last line."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            at, slowness = line.split()
            yield Beat(float(at), float(slowness))


class Pace:
    """Count time as programs had it; where no beat is known, as the clock has it."""

    def __init__(self, beats: Iterable[Beat] = ()) -> None:
        self.beats = sorted(beats)
        self._times = [each.at for each in self.beats]
        spans = (
            (following.at - each.at) / following.slowness
            for each, following in zip(self.beats, self.beats[1:], strict=False)
        )
        self._had = [0.0, *accumulate(spans)] if self.beats else []

    def after(self, at: float, seconds: float) -> float:
        """Return when programs had had so many seconds from a time on."""
        had = self._had_by(at) + seconds
        if not self._had:
            return had
        index = bisect_left(self._had, had)
        if index == 0:
            return self._times[0] + had
        if index == len(self._had):
            return self._times[-1] + had - self._had[-1]
        return self._times[index] - (self._had[index] - had) * self.beats[index].slowness

    def between(self, start: float, end: float) -> float:
        """Return how many seconds programs had from one time to another."""
        return self._had_by(end) - self._had_by(start)

    def _had_by(self, at: float) -> float:
        if not self._times:
            return at
        index = bisect_right(self._times, at)
        if index == 0:
            return at - self._times[0]
        if index == len(self._times):
            return self._had[-1] + at - self._times[-1]
        return self._had[index] - (self._times[index] - at) / self.beats[index].slowness

    @property
    def mean(self) -> float:
        """Return by how much all took longer, from the first beat to the last."""
        return (self._times[-1] - self._times[0]) / self._had[-1] if self._had and self._had[-1] else 1.0

    @property
    def worst(self) -> float:
        """Return by how much the slowest beat took longer."""
        return max((each.slowness for each in self.beats), default=1.0)
