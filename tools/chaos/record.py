# SPDX-License-Identifier: Apache-2.0
"""Keep the rows of runs in `docs/reliability.json`, with commit, date and machine; `docs/reliability.md` shows them."""

import fcntl
import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
KEPT = CHECKOUT / "docs/reliability.json"
UNKNOWN = "unknown"
COLUMNS = (
    "seed", "commit", "date", "minutes", "datapath", "slowness", "faults by kind", "moves", "packets", "lost, by what",
    "worst recovery", "violations",
)  # fmt: skip
# In a row, but of no use for the table: the run's own file has it.
LEFT_OUT = ("steps", "shortest", "recovery")


def circumstances(datapath: str) -> dict[str, Any]:
    """Return what a run was made of, and where: commit, date, datapath and machine."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "datapath": datapath,
        "machine": {"cores": os.cpu_count(), "model": model[1] if model else UNKNOWN, "kernel": platform.release()},
    }


def _commit() -> str:
    """Return the checkout's commit, with `+` if it was changed since; UNKNOWN outside of a repository."""
    # The run is root's, the checkout may be another user's: git would refuse it.
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, timeout=60)
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        return UNKNOWN
    return UNKNOWN if head.returncode else head.stdout.strip() + ("+" if changes.stdout else "")


def keep(row: dict[str, Any], path: Path = KEPT) -> None:
    """Append a run's row to a file that other runs may append to at the same time."""
    with path.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        rows = [*json.load(file), {name: value for name, value in row.items() if name not in LEFT_OUT}]
        file.seek(0)
        file.write("[\n" + ",\n".join(json.dumps(each) for each in rows) + "\n]\n")
        file.truncate()


def kept(path: Path = KEPT) -> list[dict[str, Any]]:
    """Return all rows."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Return runs as a table in Markdown."""
    cells = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, rows)]
    return "\n".join(f"| {' | '.join(each)} |" for each in cells)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    worst, pace = row["worst_recovery"], row["slowness"]
    slowness = "not measured" if pace is None else f"{pace['mean']:g}, at worst {pace['worst']:g}"
    broken = len(row["violations"]) + len(row["errors"])
    return (
        str(row["seed"]), row["commit"], row["date"], f"{row['minutes']:g}", row["datapath"],
        slowness, _counts(row["faults"]), str(row["moves"]),
        f"{row['sent']:,}", _counts(row["lost"]), f"{worst['seconds']:g} s ({worst['fault']})", str(broken),
    )  # fmt: skip


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
