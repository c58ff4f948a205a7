# SPDX-License-Identifier: Apache-2.0
"""Log events with their fields."""

import atexit
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from hoaflow.logs.lines import Line

ROOT = "hoaflow"
# More lines of one event than this within a second are counted, not written.
LINES_PER_SECOND = 100


class Log:
    """Log events through a logger of the standard library below `hoaflow`.

    Names and keys are written as they are; values may be anything and come from anybody. At most a hundred lines of
    each event are written per second. How many were left out is logged with the first line of any event a second later.
    """

    def __init__(self, part: str = "", lines_per_second: float = LINES_PER_SECOND) -> None:
        """Name the part. `lines_per_second` is infinite if no line may be left out, as in an audit."""
        self._logger = logging.getLogger(f"{ROOT}.{part}" if part else ROOT)
        self._most = lines_per_second
        self._seconds: dict[str, _Second] = {}
        self._leaving_out = False
        atexit.register(self.log_left_out)

    def debug(self, event: str, **fields: object) -> None:
        """Log details for developers; subscribers' addresses are shown."""
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log normal operation."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what needs an operator's attention."""
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a failure."""
        self.log(logging.ERROR, event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log a failure with the traceback of the exception being handled."""
        if self.wants(logging.ERROR, event):
            self.write(logging.ERROR, event, fields, exc_info=True)

    def log(self, level: int, event: str, **fields: object) -> None:
        """Log an event with its fields, in their order."""
        if self.wants(level, event):
            self.write(level, event, fields)

    def wants(self, level: int, event: str) -> bool:
        """Count a line and tell whether to write it, for callers whose fields are costly to make."""
        if not self._logger.isEnabledFor(level):
            return False
        now = time.monotonic()
        if self._leaving_out:
            self.log_left_out(now - 1.0)
        second = self._seconds.get(event)
        if second is None or now - second.begin >= 1.0:
            second = self._seconds[event] = _Second(now, level)
        if second.lines < self._most:
            second.lines += 1
            return True
        second.left_out += 1
        self._leaving_out = True
        return False

    def write(self, level: int, event: str, fields: Mapping[str, object], exc_info: bool = False) -> None:
        """Log an event that `wants` has counted."""
        self._logger.log(level, Line(event, fields), exc_info=exc_info)

    def log_left_out(self, before: float | None = None) -> None:
        """Log how many lines were left out in seconds that began before a moment (None: all)."""
        over = [name for name, second in self._seconds.items() if before is None or second.begin <= before]
        for name in over:
            second = self._seconds.pop(name)
            if second.left_out:
                self.write(second.level, "lines-left-out", {"of": name, "lines": second.left_out})
        self._leaving_out = any(second.left_out for second in self._seconds.values())


@dataclass(slots=True)
class _Second:
    """The lines of one event in one second."""

    begin: float
    level: int
    lines: int = 0
    left_out: int = 0
