# SPDX-License-Identifier: Apache-2.0
"""Add the options on logs to command lines, and set logging up."""

import argparse
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hoaflow.logs.events import ROOT
from hoaflow.logs.lines import JsonFormatter, TextFormatter
from hoaflow.logs.privacy import AddressHider, KeyUnreadable, read_key

FORMATS = {"text": TextFormatter, "json": JsonFormatter}
LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Choices of an operator: `format` of `FORMATS`, `level` of `LEVELS`.

    `addresses`: show subscribers' addresses. `key`: file with the key of their hashes.
    """

    format: str = "text"
    level: str = "info"
    addresses: bool = False
    key: Path | None = None

    def formatter(self, public: Iterable[str] = ()) -> logging.Formatter:
        """Return the formatter of these settings; `public` as for `AddressHider`. Raises KeyUnreadable."""
        return FORMATS[self.format](AddressHider(read_key(self.key) if self.key else None, self.addresses, public))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options on logs to a command."""
    options = parser.add_argument_group("logs", "One line per event, on standard error.")
    options.add_argument(
        "--log-format", choices=list(FORMATS), default="text", help="form of the log's lines (default: %(default)s)"
    )
    options.add_argument(
        "--log-level", choices=LEVELS, default="info", help="lowest level that is logged (default: %(default)s)"
    )
    options.add_argument(
        "--log-addresses",
        action="store_true",
        help="show subscribers' addresses, which are otherwise replaced by keyed hashes above level debug",
    )
    options.add_argument(
        "--log-key",
        type=Path,
        metavar="FILE",
        help="secret for these hashes, shared by all parts whose lines must match (default: a new one at each start)",
    )


def set_up(arguments: argparse.Namespace, public: Iterable[str] = ()) -> None:
    """Log to standard error as the options of `add_options` say; exit if the key is unusable.

    `public`: texts with addresses that are no subscriber's, such as the controller's.
    """
    settings = LogSettings(arguments.log_format, arguments.log_level, arguments.log_addresses, arguments.log_key)
    handler = logging.StreamHandler(sys.stderr)
    try:
        handler.setFormatter(settings.formatter(public))
    except KeyUnreadable as error:
        raise SystemExit(f"--log-key: {error}") from None
    # Libraries: what is wrong only.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(ROOT).setLevel(settings.level.upper())
