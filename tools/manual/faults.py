# SPDX-License-Identifier: Apache-2.0
"""Generate the tables of faults and of runs in docs/reliability.md; the rest of that page is written by hand."""

import re
from pathlib import Path

from tools.chaos import record
from tools.chaos.addresses import FLOW
from tools.chaos.faults import TABLE, Fault

COLUMNS = ("fault", "kind", "befalls", "lasts, in seconds", "may lose packets")


def page(path: Path) -> str:
    """Return the page at `path` with its tables replaced. Raises ValueError if it lacks a table's marks."""
    rows = (" | ".join(cells) for cells in (COLUMNS, ("---",) * len(COLUMNS), *map(_row, TABLE)))
    text = _replaced(path.read_text(), "faults", "\n".join(f"| {row} |" for row in rows))
    return _replaced(text, "runs", record.table(record.kept()))


def _replaced(text: str, name: str, table: str) -> str:
    begin, end = f"<!-- {name}: written by `make pages` -->", f"<!-- end of {name} -->"
    text, replaced = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL
    )
    if not replaced:
        raise ValueError(f"docs/reliability.md: expected the marks {begin} and {end}")
    return text


def _row(fault: Fault) -> tuple[str, ...]:
    least, most = fault.seconds
    target = re.sub(
        r"\{(\w+)\}", lambda word: f"each {word[1].replace('_', ' ').replace('ipv4', 'IPv4')}", fault.targets
    )
    target += {None: "", FLOW: ", flow backend"}.get(fault.plane, ", route backend")
    return fault.name, fault.kind, target, f"{least:g} to {most:g}", "none" if fault.loss is None else str(fault.loss)
