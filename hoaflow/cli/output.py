# SPDX-License-Identifier: Apache-2.0
"""Print JSON for programs, or text and columns, with colours on a terminal only."""

import datetime
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PAGE_WIDTH = 80  # characters of running text, for legibility
COLOURS = {
    **dict.fromkeys(("active", "direct", "up", "alive", "ok", "connected", "in sync"), "green"),
    **dict.fromkeys(
        (
            "partial",
            "pending",
            "idle",
            "held",
            "withheld",
            "mixed",
            "unknown",
            "ha-down",
            "wanted",
            "connected, drained",
        ),
        "yellow",
    ),
    **dict.fromkeys(("failed", "home-agent", "expired", "lost", "wrong", "not connected", "out of sync"), "red"),
}

Row = Sequence[object]


class Output:
    """Print to standard output."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, content: object) -> None:
        """Print one JSON document."""
        print(json.dumps(content, indent=2))

    def record(self, content: object) -> None:
        """Print one line of JSON at once, as an item of a stream."""
        print(json.dumps(content, separators=(",", ":")), flush=True)

    def line(self, text: str = "") -> None:
        """Print a line as it is."""
        print(printable(text), flush=True)

    def heading(self, text: str, state: str | None = None) -> None:
        """Print a prominent line in the colour of a state."""
        self._console.print(Text(printable(text), style=f"bold {COLOURS.get(state or '', '')}".strip()), soft_wrap=True)

    def paragraph(self, text: str, indent: str = "", first: str | None = None) -> None:
        """Print running text, wrapped between words."""
        width = min(PAGE_WIDTH, shutil.get_terminal_size((PAGE_WIDTH, 24)).columns)
        print(
            textwrap.fill(
                printable(text),
                width,
                initial_indent=indent if first is None else first,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )

    def pairs(self, content: Mapping[str, object], indent: str = "  ") -> None:
        """Print names and values, one below the other."""
        width = max(map(len, content)) + 2
        for name, value in content.items():
            self.paragraph(_cell(value), indent=indent + " " * width, first=f"{indent}{name.ljust(width)}")

    def table(self, columns: Sequence[str], pages: Iterable[Iterable[Row]], empty: str) -> None:
        """Print columns page by page as they arrive, or `empty` if there are no rows.

        On a narrow terminal cells are folded. In a pipe no cell is cut or folded.
        """
        widths = [len(column) for column in columns]
        said = False
        for page in pages:
            rows = [[_cell(value) for value in row] for row in page]
            if not rows:
                continue
            widths = [max(width, *(len(row[i]) for row in rows)) for i, width in enumerate(widths)]
            if self._console.is_terminal:
                self._fold(columns, rows, widths, header=not said)
            else:
                for cells in rows if said else [list(columns), *rows]:
                    print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
            said = True
        if not said:
            print(empty, file=sys.stderr)

    def _fold(self, columns: Sequence[str], rows: list[list[str]], widths: list[int], header: bool) -> None:
        table = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
        room = self._console.width >= sum(widths) + 2 * (len(widths) - 1)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(column, overflow="fold", min_width=width if room else None)
        for row in rows:
            table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
        self._console.print(table)

    @cached_property
    def _console(self) -> Console:
        return Console(highlight=False, markup=False, emoji=False)


def printable(text: str) -> str:
    """Return text without terminal control sequences, as some of it comes from other hosts."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def seconds(value: float | None, never: str = "-") -> str:
    """Return a time span in words, with its unit."""
    if value is None:
        return never
    if value < 1:
        return "0 s" if value <= 0 else "<1 s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s"


def bytes_(value: int) -> str:
    """Return a number of bytes in words, in steps of 1000."""
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.4g} TB"


def moment(text: str) -> str:
    """Return an RFC 3339 time in local time, with the date if it is not today's."""
    try:
        at = datetime.datetime.fromisoformat(text).astimezone()
    except ValueError:
        return text  # of a newer controller: better shown as it is than not at all
    today = at.date() == datetime.datetime.now().astimezone().date()
    return at.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def ago(text: str) -> str:
    """Return how long ago an RFC 3339 time was."""
    past = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(text)
    return f"{seconds(max(0.0, past.total_seconds()))} ago"


def fields(content: Mapping[str, Any]) -> str:
    """Return members as `key=value`, quoted if they contain spaces."""
    shown = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in content.items())
    return " ".join(f"{key}={json.dumps(value) if ' ' in value else value}" for key, value in shown)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None or value == "" else printable(str(value))
