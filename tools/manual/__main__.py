# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.manual`: write the generated pages into docs/."""

import sys
from pathlib import Path

import controller.southbound.manager  # noqa: F401, imports eventlet without its word on itself
from tools.manual import calls, commands, conformance, events, faults, metrics, pipeline, settings

DOCS = Path(__file__).parents[2] / "docs"


def pages() -> dict[Path, str]:
    """Generate every page; return the texts by path."""
    return {
        DOCS / "cli.md": commands.page(),
        DOCS / "rest.md": calls.page(DOCS / "rest.md"),
        DOCS / "settings.md": settings.page(),
        DOCS / "pipeline.md": pipeline.page(DOCS / "dumps"),
        DOCS / "metrics.md": metrics.page(),
        DOCS / "logs-and-events.md": events.page(),
        DOCS / "conformance.md": conformance.page(),
        DOCS / "reliability.md": faults.page(DOCS / "reliability.md"),
    }


def main() -> int:
    """Write the pages whose text has changed, and print their paths."""
    for path, text in pages().items():
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"{path} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
