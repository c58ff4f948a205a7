# SPDX-License-Identifier: Apache-2.0
"""Lock the host's tunnels: setup, teardown and the agent's mending change the same objects."""

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from hoaflow.router.errors import RouterError

LOCK = Path("/run/hoaflow-router.lock")
AGAIN = 0.05  # seconds between attempts


@contextlib.contextmanager
def alone(seconds: float = 60.0) -> Iterator[None]:
    """Wait for the lock and hold it within this context, so that no other hoaflow-router on the host changes anything.

    Raises RouterError without root, and when another one has held the lock for so many seconds.
    """
    try:
        opened = LOCK.open("w")
    except PermissionError as error:
        raise RouterError(f"root is needed ({error})") from error
    with opened:
        deadline = time.monotonic() + seconds
        while not _locked(opened):
            if time.monotonic() >= deadline:
                raise RouterError(
                    f"another hoaflow-router has held {LOCK} for {seconds:g} s: see which one (fuser {LOCK}), and "
                    "whether it is stopped"
                )
            time.sleep(AGAIN)
        yield


def _locked(opened: IO[str]) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
