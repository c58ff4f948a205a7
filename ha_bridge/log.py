# SPDX-License-Identifier: Apache-2.0
"""One line per event on stderr: `event=NAME key=value ... level=LEVEL time=EPOCH`, time with milliseconds."""

from __future__ import annotations

import json
import logging
import sys

_LOGGER = logging.getLogger("ha_bridge")


def log(level: int, event: str, **fields: object) -> None:
    """Log `event` with `fields` in this order; values with blanks, quotes or `=` are quoted as JSON."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(
            level,
            "%s",
            " ".join([f"event={event}", *(f"{name}={_value(it)}" for name, it in fields.items())]),
        )


def _value(value: object) -> str:
    text = str(value)
    plain = text and not any(character.isspace() or character in '"=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def set_up(level: int) -> None:
    """Send the log to stderr, from `level` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _LOGGER.setLevel(level)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name != _LOGGER.name:
            message = f"event=library logger={record.name} message={_value(message)}"
        line = f"{message} level={record.levelname.lower()} time={record.created:.3f}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line
