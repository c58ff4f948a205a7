# SPDX-License-Identifier: Apache-2.0
"""Reserve an output directory for one run at a time, emptied when the run begins."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hoaflow.errors import HoaflowError


class InUse(HoaflowError):
    """Another run is writing to this directory."""


@contextmanager
def reserved(directory: Path) -> Iterator[None]:
    """Create the directory, or empty it, and lock it while the context lasts. Raises InUse."""
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory.with_name(f"{directory.name}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"another run is writing to {directory}: wait for it, or give another --output") from None
        for path in directory.iterdir():  # not the directory itself: a guest has it as a mount
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        yield
