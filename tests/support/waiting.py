# SPDX-License-Identifier: Apache-2.0
"""Wait for something, with a limit."""

import time
from collections.abc import Callable
from typing import TypeVar

from topologies.waiting import patient

TIMEOUT = 60.0  # seconds: much longer than anything takes, as others may have the processors for a while

T = TypeVar("T")


def wait_for(what: str, probe: Callable[[], T | None], timeout: float = TIMEOUT) -> T:
    """Return the first true value of `probe`. Raises TimeoutError, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + patient(timeout)
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {patient(timeout):g} s still not: {what}")
        time.sleep(0.05)
