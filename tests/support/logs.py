# SPDX-License-Identifier: Apache-2.0
"""Find unexpected errors: in Python's logging during a test, and in log files."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

# Levels and tracebacks of Python's logging and of ours, and levels as Open vSwitch writes them: TIME|1|module|ERR|text
_ERROR = re.compile(
    r"\bERROR\b|\bCRITICAL\b|\blevel=(?:error|critical)\b|\bTraceback \(most recent call last\)|\|(?:ERR|EMER)\|"
)


def errors_in(text: str, allow: Iterable[str] = ()) -> list[str]:
    """Return the lines of a log that report an error and match none of the regular expressions `allow`."""
    allowed = [re.compile(pattern) for pattern in allow]
    return [
        line
        for line in text.splitlines()
        if _ERROR.search(line) and not any(pattern.search(line) for pattern in allowed)
    ]


def assert_log_clean(path: Path | str, allow: Iterable[str] = ()) -> None:
    """Fail when the log file of a process has an error that no regular expression of `allow` expects.

    A file that does not exist fails too: a test that meant another one would never fail.
    """
    text = Path(path).read_text(errors="replace")
    errors = errors_in(text, allow)
    assert not errors, f"{path} has {len(errors)} unexpected error(s):\n" + "\n".join(errors)


class ErrorRecords(logging.Handler):
    """Collects what is logged at ERROR or above and no regular expression of `expected` matches."""

    def __init__(self, expected: Iterable[str] = ()) -> None:
        super().__init__(logging.ERROR)
        self.expected = [re.compile(pattern) for pattern in expected]
        self.unexpected: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.name}: {record.levelname}: {record.getMessage()}"
        if not any(pattern.search(text) for pattern in self.expected):
            self.unexpected.append(text)
