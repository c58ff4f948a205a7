# SPDX-License-Identifier: Apache-2.0
"""Define the options that the programs around mobile nodes have in common."""

import argparse

from hoaflow.arguments import listen_address
from hoaflow.errors import HoaflowError

DEFAULT_CONSOLE = "127.0.0.1:7777"


class SettingsError(HoaflowError, ValueError):
    """A setting is wrong. The text says what was expected and what came."""


def add_console(options: argparse.ArgumentParser, name: str) -> None:
    """Add the options of the console; `name` is what the program's users call it."""
    options.add_argument(
        "--console",
        type=listen_address,
        default=DEFAULT_CONSOLE,
        metavar="HOST:PORT",
        help=f"where the {name} listens; it has no password (default: %(default)s)",
    )
    options.add_argument("--no-console", action="store_true", help=f"no {name}")


def add_access_links(options: argparse.ArgumentParser) -> None:
    """Add the option of those who are the router of mobile nodes."""
    options.add_argument(
        "--access-link",
        required=True,
        action="append",
        metavar="IFACE",
        help="an interface to mobile nodes; repeatable",
    )


def console(arguments: argparse.Namespace) -> tuple[str, int] | None:
    """Return where the console listens, None for no console."""
    address: tuple[str, int] = arguments.console
    return None if arguments.no_console else address
