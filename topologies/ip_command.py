# SPDX-License-Identifier: Apache-2.0
"""Run the command `ip` in the current network namespace."""

import subprocess

from topologies.waiting import patient

TIMEOUT = patient(60.0)  # seconds, for any one command


def run_ip(command: str, may_fail: bool = False) -> str:
    """Run `ip` with these words and return what it prints. Raises OSError when it fails, unless it may."""
    done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode and not may_fail:
        raise OSError(f"ip {command}: {done.stderr.strip()}")
    return done.stdout
