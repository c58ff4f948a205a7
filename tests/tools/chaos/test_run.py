# SPDX-License-Identifier: Apache-2.0
"""A short run of `make chaos` with a fixed seed: the whole system, a few faults, and a verdict."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import CHECKOUT
from topologies.waiting import patient


def test_what_is_broken_on_purpose_loses_nothing_beyond_its_bounds(tmp_path: Path) -> None:
    options = ["--seed", "14", "--faults", "2", "--fast", "--mobile-nodes", "2", "--shrink", "0"]
    options += ["--only", "controller killed", "own flows deleted", "tunnel agent killed"]
    done = subprocess.run(
        [sys.executable, "-m", "tools.chaos", *options, "--output", str(tmp_path / "chaos")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=patient(600),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    row = json.loads((tmp_path / "chaos/seed-14.json").read_text())
    assert len(row["steps"]) == 2
    assert row["sent"] > 100
    assert row["violations"] == row["errors"] == []
