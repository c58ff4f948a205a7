# SPDX-License-Identifier: Apache-2.0
"""Fail a test that cannot run in continuous integration: a run that skipped it would be green and say nothing."""

import os
import platform
from collections.abc import Mapping

# Tests that may be skipped there: the beginning of the id, and the one machine type on which they must run.
NEEDS_MACHINE: Mapping[str, str] = {
    "tests/topologies/test_guest.py": "x86_64",  # has a stock kernel and its emulator
    "tests/tools/test_fuzz.py::test_the_command_fuzzes_a_target_by_coverage": "x86_64",  # has atheris
}


def why_not_skipped(test: str, reason: str) -> str | None:
    """Return what is wrong with skipping a test here, None where it may be. CI=true: continuous integration."""
    if os.environ.get("CI", "").lower() != "true":
        return None
    if any(test.startswith(name) and platform.machine() != machine for name, machine in NEEDS_MACHINE.items()):
        return None
    return f"{test} cannot be skipped where CI=true, unless tests/support/skips.py lists it: {reason}"
