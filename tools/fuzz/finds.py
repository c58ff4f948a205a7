# SPDX-License-Identifier: Apache-2.0
"""Keep the inputs for which a reader raised what nobody handles."""

import hashlib
import traceback
from collections.abc import Callable
from pathlib import Path

LARGEST_TEXT = 4000  # characters of a traceback that are kept
FRAMES = 3  # of a traceback, which tell kinds of finds apart


class Finds:
    """Feed inputs, and keep the first of each kind of find: of an exception, by its type and where it came from.

    Its traceback is kept beside it.
    """

    def __init__(self, directory: Path, feed: Callable[[bytes], None]) -> None:
        self._directory, self._feed = directory, feed
        self._seen: set[tuple[object, ...]] = set()

    def take(self, data: bytes) -> None:
        """Feed one input."""
        try:
            self._feed(data)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
            kind = (type(error), *((frame.filename, frame.lineno) for frame in frames))
            if kind not in self._seen:
                self._seen.add(kind)
                self._keep(data)

    def _keep(self, data: bytes) -> None:
        name = hashlib.sha256(data).hexdigest()[:16]
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / name).write_bytes(data)
        (self._directory / f"{name}.txt").write_text(traceback.format_exc()[-LARGEST_TEXT:])
