# SPDX-License-Identifier: Apache-2.0
"""Shrink a sequence of steps that breaks a promise: pure."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(steps: Sequence[T], fails: Callable[[Sequence[T]], bool], runs: int) -> tuple[list[T], int]:
    """Return a shorter sequence that still fails, and how many runs that took, at most `runs`.

    Parts are left out, halves first, then ever smaller ones (delta debugging). `steps` itself is known to fail; if
    leaving out any further single step makes it pass, the result is minimal.
    """
    best, size, used = list(steps), max(1, len(steps) // 2), 0
    while len(best) > 1:
        index, shorter = 0, False
        while index < len(best) and len(best) > 1:
            candidate = best[:index] + best[index + size :]
            if candidate:
                if used == runs:
                    return best, used
                used += 1
                if fails(candidate):
                    best, shorter = candidate, True
                    continue
            index += size
        if size == 1 and not shorter:
            break
        size = max(1, size // 2)
    return best, used
