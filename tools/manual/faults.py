# SPDX-License-Identifier: Apache-2.0
"""Generate the table of faults in docs/reliability.md; the rest of that page is written by hand."""

import re
from pathlib import Path

from tools.chaos.faults import TABLE, Fault

BEGIN = "<!-- faults: written by `make pages` -->"
END = "<!-- end of faults -->"
COLUMNS = ("fault", "kind", "befalls", "lasts, in seconds", "may lose packets")


def page(path: Path) -> str:
    """Return the page at `path` with its table replaced. Raises ValueError if it has no markers."""
    rows = (" | ".join(cells) for cells in (COLUMNS, ("---",) * len(COLUMNS), *map(_row, TABLE)))
    table = "\n".join([BEGIN, *(f"| {row} |" for row in rows), END])
    text, replaced = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, path.read_text(), flags=re.DOTALL
    )
    if not replaced:
        raise ValueError(f"{path}: expected the marks {BEGIN} and {END}")
    return text


def _row(fault: Fault) -> tuple[str, ...]:
    least, most = fault.seconds
    target = re.sub(r"\{(\w+)\}", lambda name: f"each {name[1].replace('_', ' ')}", fault.targets)
    return fault.name, fault.kind, target, f"{least:g} to {most:g}", "none" if fault.loss is None else str(fault.loss)
