# SPDX-License-Identifier: Apache-2.0
"""Compute figures from single measurements."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold one line of the table.

    `value` and `baseline` as they are to be read, units included. `goal` says what is wanted, empty for a figure that
    is only shown; `met` is None then. `reason`: what was measured that explains the value. `samples`: every single
    measurement, as JSON has it.
    """

    name: str
    value: str
    baseline: str = ""
    goal: str = ""
    met: bool | None = None
    reason: str = ""
    samples: Mapping[str, Any] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    """Compute the median as a float, whatever the type of the values."""
    return float(statistics.median(values))


def paired_ratio(values: Sequence[float], baselines: Sequence[float]) -> float:
    """Return the median of the ratios of measurements that were taken one right after the other."""
    return median([value / baseline for value, baseline in zip(values, baselines, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def shares(cpu: Sequence[Mapping[str, float]], elapsed: Sequence[float]) -> str:
    """Return a phrase with each process's median processor time, and the median time that passed."""
    parts = [f"{name} {median([each[name] for each in cpu]):.2f} s" for name in cpu[0]]
    return f"processor time in {median(elapsed):.2f} s: " + ", ".join(parts)


def milliseconds(seconds: float) -> str:
    """Format seconds as the table shows them, such as `1.2 ms`."""
    return f"{1000 * seconds:.1f} ms"
