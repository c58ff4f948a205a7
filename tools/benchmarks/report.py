# SPDX-License-Identifier: Apache-2.0
"""Report a run's figures: a table for people, build/bench.json for programs."""

import json
import os
import platform
import re
import subprocess
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.benchmarks.figures import Figure

WIDTH = 110
MARKS = {True: "yes", False: "NO", None: ""}
END_OF_TABLE = "<!-- end of table -->"
HEADINGS = ("figure", "value", "baseline in the same run", "goal", "met")


def machine() -> dict[str, Any]:
    """Return the circumstances of the measurement: processors, load, kernel and versions."""
    models = {
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    }
    ovs = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, check=True, timeout=10)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "model": ", ".join(sorted(models)) or platform.machine(),
        "load": list(os.getloadavg()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "open_vswitch": ovs.stdout.splitlines()[0].rpartition(" ")[2],
        "ryu": version("ryu"),
        "eventlet": version("eventlet"),
    }


def rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """Return a row of cells for each figure, in the order of HEADINGS."""
    return [(figure.name, figure.value, figure.baseline, figure.goal, MARKS[figure.met]) for figure in figures]


def table(figures: Sequence[Figure]) -> str:
    """Return the table as text, and below it the reason of each figure that misses its goal."""
    lines = [HEADINGS, *rows(figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    missed = [figure for figure in figures if figure.met is False]
    for figure in missed:
        text += ["", *textwrap.wrap(f"{figure.name} misses its goal. {figure.reason}", WIDTH)]
    return "\n".join(text)


def around_table(path: Path) -> tuple[str, str]:
    """Return a Markdown file's text before and after the table, markers included. Raises ValueError, OSError."""
    found = re.fullmatch(f"(.*<!-- table:[^\n]*\n).*({END_OF_TABLE}\n.*)", path.read_text(), re.DOTALL)
    if not found:
        raise ValueError(f"{path}: expected a line '<!-- table: … -->' and a line '{END_OF_TABLE}'")
    return found[1], found[2]


def document(path: Path, facts: dict[str, Any], bindings: int, figures: Sequence[Figure]) -> None:
    """Write the table between a Markdown file's markers, and the figures' reasons into a JSON file beside it.

    Raises ValueError if the file has no markers.
    """
    before, after = around_table(path)
    notes = path.with_suffix(".json")
    lines = [
        f"Measured on {facts['date']}: {facts['cores']} cores of {facts['model']}, load before {facts['load'][0]:.1f},",
        f"Linux {facts['kernel']}, Open vSwitch {facts['open_vswitch']}, Python {facts['python']},",
        f"eventlet {facts['eventlet']}; {bindings} bindings.",
        "",
        *(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ("---",) * len(HEADINGS), *rows(figures))),
        "",
        f"How each figure came about is in [{notes.name}]({notes.name}).",
    ]
    path.write_text(before + "\n".join(lines) + "\n" + after)
    reasons = {figure.name: figure.reason for figure in figures if figure.reason}
    content = {"machine": facts, "bindings": bindings, "notes": reasons}
    notes.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write(path: Path, content: dict[str, Any], figures: Sequence[Figure]) -> None:
    """Write `content` and the figures with all their samples as JSON."""
    path.write_text(json.dumps({**content, "figures": [asdict(figure) for figure in figures]}, indent=1) + "\n")
