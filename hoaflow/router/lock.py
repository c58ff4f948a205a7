# SPDX-License-Identifier: Apache-2.0
"""Lock the host's tunnels: setup, teardown and the agent's mending change the same objects."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from hoaflow.router.errors import RouterError

LOCK = Path("/run/hoaflow-router.lock")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait for the lock and hold it within this context, so that no other hoaflow-router on the host changes anything.

    Raises RouterError without root.
    """
    try:
        opened = LOCK.open("w")
    except PermissionError as error:
        raise RouterError(f"root is needed ({error})") from error
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
