# SPDX-License-Identifier: Apache-2.0
"""Waiting for what shall come, with a limit. Limits are for an ordinary machine; `patient` has what they are here."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

TIMEOUT = 20.0  # seconds

# An emulated machine sets this (topologies/guest.py).
_FACTOR = float(os.environ.get("HOAFLOW_PATIENCE", "1"))

T = TypeVar("T")


def patient(seconds: float) -> float:
    """Return a limit in seconds, as it is on this machine."""
    return _FACTOR * seconds


def wait_for(what: str, probe: Callable[[], T | None], timeout: float = TIMEOUT) -> T:
    """Return the first true thing that `probe` returns. Raises TimeoutError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + patient(timeout)
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {patient(timeout):g} s still not: {what}")
        time.sleep(0.05)
