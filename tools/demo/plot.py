# SPDX-License-Identifier: Apache-2.0
"""Draw plots over time as SVG that needs no other file: points, steps, marks and shaded spans."""

import html
import math
from collections.abc import Iterable, Sequence

WIDTH, HEIGHT = 960, 320
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 44, 44
Point = tuple[float, float]


class Plot:
    """Draw time in seconds on the x axis, from 0 to `seconds`, and `label` on the y axis, from `low` to `high`.

    With `logarithmic`, `low` must be above 0. What lies outside is drawn at the edge.
    """

    def __init__(self, seconds: float, label: str, low: float, high: float, logarithmic: bool = False) -> None:
        self._seconds = seconds
        self._low, self._high = low, high
        self._logarithmic = logarithmic
        self._parts: list[str] = []
        self._axes(label)

    def _x(self, second: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(second / self._seconds, 0.0), 1.0)

    def _y(self, value: float) -> float:
        value, low, high = min(max(value, self._low), self._high), self._low, self._high
        if self._logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    def _axes(self, label: str) -> None:
        floor = HEIGHT - BOTTOM
        for second in ticks(0, self._seconds, 10):
            self._text(self._x(second), floor + 16, f"{second:g}", "middle")
        for value in decades(self._low, self._high) if self._logarithmic else ticks(self._low, self._high, 5):
            y = self._y(value)
            self._parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            self._text(LEFT - 8, y + 4, f"{value:g}", "end")
        self._parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
        self._text((LEFT + WIDTH) / 2, HEIGHT - 8, "seconds", "middle")
        self._parts.append(
            f'<text text-anchor="middle" transform="translate(16 {(TOP + floor) / 2:.1f}) rotate(-90)">'
            f"{html.escape(label)}</text>"
        )

    def _text(self, x: float, y: float, text: str, anchor: str, kind: str = "tick") -> None:
        shown = html.escape(text)
        self._parts.append(f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{shown}</text>')

    def phase(self, start: float, end: float, text: str, kind: str | None) -> None:
        """Name the time from second START to END, and shade it if it has a KIND.

        KIND is a class for the page's style sheet, here and below.
        """
        x, width = self._x(start), self._x(end) - self._x(start)
        if kind is not None:
            height = HEIGHT - TOP - BOTTOM
            self._parts.append(f'<rect class="{kind}" x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{height}"/>')
        self._text(x + width / 2, TOP - 26, text, "middle", "phase")

    def mark(self, second: float, text: str, kind: str) -> None:
        """Draw a vertical line at SECOND, with TEXT on top."""
        x = self._x(second)
        self._parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        self._text(x, TOP - 4, text, "middle", "mark")

    def points(self, points: Iterable[Point], kind: str) -> None:
        """Draw a dot for each (second, value), as a path of zero-length lines with round ends."""
        path = "".join(f"M{self._x(second):.1f} {self._y(value):.1f}h0" for second, value in points)
        self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def steps(self, points: Sequence[Point], kind: str) -> None:
        """Draw a step line: each value holds from the previous point's second to its own."""
        path = ""
        for second, value in points:
            y = f"{self._y(value):.1f}"
            path += f"V{y}H{self._x(second):.1f}" if path else f"M{self._x(second):.1f} {y}"
        self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def strokes(self, seconds: Iterable[float], kind: str) -> None:
        """Draw a short stroke on the x axis at each of these seconds."""
        path = "".join(f"M{self._x(second):.1f} {HEIGHT - BOTTOM - 5}v10" for second in seconds)
        self._parts.append(f'<path class="{kind}" d="{path}"/>')

    def svg(self, title: str) -> str:
        """Return the plot as an SVG element, with TITLE as its description for screen readers."""
        frame = f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}"'
        return f"<svg {frame}>{''.join(self._parts)}</svg>"


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about COUNT round numbers (1, 2 or 5 times a power of ten apart) between LOW and HIGH."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """List the powers of ten between LOW and HIGH, as ticks of a logarithmic axis."""
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
