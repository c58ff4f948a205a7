# SPDX-License-Identifier: Apache-2.0
"""One at a time: setup, teardown and the agent's mending change the same objects."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from hoaflow.router.errors import RouterError

LOCK = Path("/run/hoaflow-router.lock")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within this context no other hoaflow-router of the host changes anything: waits for its end.

    Raises RouterError without root.
    """
    try:
        opened = LOCK.open("w")
    except PermissionError as error:
        raise RouterError(f"root is needed ({error})") from error
    with opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
