# SPDX-License-Identifier: Apache-2.0
"""Waiting for what shall come, with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

TIMEOUT = 20.0  # seconds

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], timeout: float = TIMEOUT) -> T:
    """The first true thing that `probe` returns. Raises TimeoutError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout} s still not: {what}")
        time.sleep(0.05)
