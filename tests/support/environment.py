# SPDX-License-Identifier: Apache-2.0
"""What tests run in, and leave nothing of."""

from abc import ABC, abstractmethod
from typing import Self


class Environment(ABC):
    """A context manager that starts what tests run in and stops it at last, also where it fails to start."""

    @abstractmethod
    def _start(self) -> None:
        """Start it; on a failure, `stop` is called."""

    @abstractmethod
    def stop(self) -> None:
        """Remove everything, also of what has been started in part. Harmless when repeated."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
