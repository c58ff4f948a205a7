# SPDX-License-Identifier: Apache-2.0
"""Write the table of calls in docs/rest.md from their declarations: ``python -m controller.rest.reference FILE``."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from controller.rest.api import OPERATIONS
from controller.rest.operations import Operation

BEGIN = "<!-- calls: written by `python -m controller.rest.reference docs/rest.md` -->"
END = "<!-- end of calls -->"


def table(operations: Iterable[Operation]) -> str:
    """Return the table in Markdown."""
    rows = ["| call | needs | answers | refuses with |", "| --- | --- | --- | --- |"]
    for operation in operations:
        answers = ", ".join(str(int(status)) for status in sorted(operation.answers))
        refusals = ", ".join(str(int(status)) for status in sorted(operation.refusals)) or "none"
        rows.append(f"| `{operation.method} {operation.path}` | {operation.needs.value} | {answers} | {refusals} |")
    return "\n".join(rows)


def with_table(text: str, operations: Iterable[Operation]) -> str:
    """Return a page with the table between its marks. Raises ValueError when it has none."""
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not found.search(text):
        raise ValueError(f"expected the marks {BEGIN} and {END}")
    return found.sub(lambda _: f"{BEGIN}\n{table(operations)}\n{END}", text)


def main() -> int:
    """Write the table into the page named on the command line."""
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text(), OPERATIONS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
