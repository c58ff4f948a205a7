# SPDX-License-Identifier: Apache-2.0
"""Signals to what runs on an emulated kernel: neither the emulator nor its files are left. See topologies/guest.py."""

import os
import platform
import signal
import sys
from pathlib import Path

import pytest

from tests.support.processes import marked
from topologies.guest import DIRECTORY, IMAGE

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="there is no stock kernel for the emulator")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_no_guest_is_left(tmp_path: Path, number: signal.Signals) -> None:
    if not IMAGE.exists():
        pytest.skip("there is no kernel for it yet: scripts/setup-kernel")
    before = set(DIRECTORY.glob("run-*"))
    command = [sys.executable, "-m", "topologies.guest", "--vm", "--", "sleep", "600"]
    with marked(command, f"guest-{number}-{os.getpid()}", tmp_path / "log") as guest:
        guest.wait_until_running("qemu-system", seconds=60)
        guest.send(number, group=False)
        guest.assert_nothing_is_left()
    if number is not signal.SIGKILL:  # which leaves nobody to remove them
        assert guest.process.returncode == 128 + number
        assert set(DIRECTORY.glob("run-*")) <= before  # fewer when another one, the kernel tier's, has ended meanwhile
