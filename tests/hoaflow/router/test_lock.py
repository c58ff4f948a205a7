# SPDX-License-Identifier: Apache-2.0
"""Only root changes a host's tunnels, and one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from hoaflow.router import lock
from hoaflow.router.errors import RouterError
from tests.support.checkout import CHECKOUT
from topologies.waiting import patient

CHANGE = """
import os
from hoaflow.router.errors import RouterError
from hoaflow.router.lock import alone
os.setuid(65534)
try:
    with alone():
        print("changed")
except RouterError as error:
    print(error)
"""


def test_who_is_not_root_changes_no_tunnels() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGE], cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.stdout.startswith("root is needed"), done.stdout + done.stderr


def test_who_holds_the_lock_for_too_long_is_complained_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK", tmp_path / "lock")
    with lock.alone(), pytest.raises(RouterError, match="another hoaflow-router has held"), lock.alone(0.0):
        pass
    with lock.alone(0.0):  # it has been let go of
        pass
