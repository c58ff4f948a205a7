# SPDX-License-Identifier: Apache-2.0
"""Generate the table of REST calls in docs/rest.md; the rest of that page is written by hand."""

import re
from pathlib import Path

from controller.rest.api import OPERATIONS

BEGIN = "<!-- calls: written by `make pages` -->"
END = "<!-- end of calls -->"


def page(path: Path) -> str:
    """Return the page at `path` with its table replaced. Raises ValueError if it has no markers."""
    table = f"{BEGIN}\n{_table()}\n{END}"
    text, replaced = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, path.read_text(), flags=re.DOTALL
    )
    if not replaced:
        raise ValueError(f"{path}: expected the marks {BEGIN} and {END}")
    return text


def _table() -> str:
    rows = ["| call | needs | answers | refuses with |", "| --- | --- | --- | --- |"]
    for operation in OPERATIONS:
        answers = ", ".join(str(int(status)) for status in sorted(operation.answers))
        refusals = ", ".join(str(int(status)) for status in sorted(operation.refusals)) or "none"
        rows.append(f"| `{operation.method} {operation.path}` | {operation.needs.value} | {answers} | {refusals} |")
    return "\n".join(rows)
