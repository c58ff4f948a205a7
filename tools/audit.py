# SPDX-License-Identifier: Apache-2.0
"""`make audit`: ask a database of known vulnerabilities about every pinned package, and say so if it can't be asked.

pip-audit asks. It calls a package fine of which the database says nothing, so that without a connection there are "no
known vulnerabilities" in anything. What it says of each package is judged here.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
PROGRAM = CHECKOUT / "build/audit/bin/pip-audit"
PINNED = ("dev", "build")  # files of requirements/; `dev` has the packages of all parts
TIMEOUT = 600.0  # seconds, for all of one file
FINE, VULNERABLE, UNKNOWN = 0, 1, 2  # exit statuses


def main() -> int:
    """Audit the pinned packages; return FINE, VULNERABLE, or UNKNOWN if the database did not answer for all."""
    dependencies: list[Mapping[str, Any]] = []
    for name in PINNED:
        found = _asked(CHECKOUT / f"requirements/{name}.txt")
        if isinstance(found, str):
            print(f"requirements/{name}.txt could not be audited, so nothing is known of it: {found}", file=sys.stderr)
            return UNKNOWN
        dependencies += found
    status, lines = judged(dependencies)
    print("\n".join(lines), file=sys.stderr if status else sys.stdout)
    return status


def judged(dependencies: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Judge what pip-audit says of packages; return the exit status, and what to print."""
    lines = [
        f"{each['name']} {each['version']}: {vulnerability['id']}, mended in "
        + (", ".join(vulnerability.get("fix_versions", [])) or "no version yet")
        for each in dependencies
        for vulnerability in each.get("vulns", [])
    ]
    vulnerable = bool(lines)
    unknown = [each for each in dependencies if "vulns" not in each]
    if unknown:
        reason = unknown[0].get("skip_reason", "no reason is given")
        lines.append(
            f"of {len(unknown)} of {len(dependencies)} packages nothing is known, as the database was not reached or"
            f" does not have them: {', '.join(each['name'] for each in unknown)} ({reason})"
        )
    if vulnerable:
        return VULNERABLE, lines
    if unknown or not dependencies:
        return UNKNOWN, [*lines, "this is no sign that all is well: run make audit where the database can be reached"]
    return FINE, [f"no vulnerability is known of any of {len(dependencies)} packages"]


def _asked(requirements: Path) -> list[Mapping[str, Any]] | str:
    """Return what pip-audit says of each package in a file, or why it says nothing."""
    command = [PROGRAM, "--requirement", requirements, "--require-hashes", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(
            [*map(str, command), "--progress-spinner", "off"], capture_output=True, text=True, timeout=TIMEOUT
        )
        found: list[Mapping[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT:g} s"
    except (ValueError, KeyError):
        return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
    return found


if __name__ == "__main__":
    sys.exit(main())
