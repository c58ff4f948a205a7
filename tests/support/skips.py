# SPDX-License-Identifier: Apache-2.0
"""In continuous integration a test that cannot run fails: a run that skipped it would be green and say nothing."""

import os
from collections.abc import Mapping

# What may be skipped there all the same: the beginning of the test's id, and on which machines and why.
MAY_BE_SKIPPED: Mapping[str, str] = {}


def why_not_skipped(test: str, reason: str) -> str | None:
    """Return what is wrong with skipping a test here, None where it may be. CI=true: continuous integration."""
    if os.environ.get("CI", "").lower() != "true" or test.startswith(tuple(MAY_BE_SKIPPED)):
        return None
    return f"{test} cannot be skipped where CI=true unless tests/support/skips.py lists it: {reason}"
