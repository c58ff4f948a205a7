# SPDX-License-Identifier: Apache-2.0
"""Format an event as a line: `time=… level=… event=… key=value …`, or the same as a JSON object.

No value from outside can end a line or begin a field: any value other than plain ASCII without blanks, quotes,
backslashes and equals signs is written as a JSON string, which escapes line ends, terminal sequences and non-ASCII.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from hoaflow.logs.privacy import AddressHider

# One or more characters of `!` to `~`, except `"`, `=` and `\`.
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+")
# The event of lines that libraries log.
LIBRARY = "library"


class Line:
    """The message of a log record. Its text serves handlers that do not know of fields."""

    __slots__ = ("event", "fields")

    def __init__(self, event: str, fields: Mapping[str, object]) -> None:
        self.event = event
        self.fields = fields

    def __str__(self) -> str:
        return _joined({"event": self.event, **self.fields})


class _Formatter(logging.Formatter):
    def __init__(self, hider: AddressHider) -> None:
        super().__init__()
        self._hider = hider

    def _members(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        yield "time", moment(record.created)
        yield "level", record.levelname.lower()
        if isinstance(record.msg, Line):
            fields = {"event": record.msg.event, **record.msg.fields}
        else:
            fields = {"event": LIBRARY, "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        yield from (fields if record.levelno <= logging.DEBUG else self._hider.hidden(fields)).items()


class TextFormatter(_Formatter):
    """Format records as `key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a line."""
        return _joined(dict(self._members(record)))


class JsonFormatter(_Formatter):
    """Format records as JSON objects; numbers, true, false and null keep their types."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object on one line."""
        return json.dumps({name: _json(value) for name, value in self._members(record)}, separators=(",", ":"))


def moment(time: float) -> str:
    """Return seconds since the epoch in RFC 3339 form, UTC, with milliseconds."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _joined(fields: Mapping[str, object]) -> str:
    return " ".join(f"{name}={_text(value)}" for name, value in fields.items())


def _text(value: object) -> str:
    if value is None:
        return "-"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _json(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    return str(value)
