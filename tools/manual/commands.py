# SPDX-License-Identifier: Apache-2.0
"""Generate docs/cli.md from the `--help` of every command."""

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main
from typer.testing import CliRunner

import ha_bridge.__main__
import hoaflow.foreign_agent.settings
import hoaflow.home_agent.settings
import hoaflow.local_mobility_anchor.settings
import hoaflow.mobile_access_gateway.settings
import hoaflow.router.cli
from hoaflow.cli.app import app

WIDTH = "80"  # characters
HEAD = """\
<!-- Made by `make pages` from the commands themselves. -->
# Commands

This page has the `--help` of each command; of `hoaflow-controller`, without options of Ryu's other applications.

| command | what it does |
| --- | --- |
| [`hoaflow`](#hoaflow) | shows which path each mobile node's traffic takes, and why |
| [`hoaflow-controller`](#hoaflow-controller) | runs the controller |
| [`ha-bridge`](#ha-bridge) | follows a home agent's binding cache and reports it to the controller |
| [`hoaflow-router`](#hoaflow-router) | sets up a router's tunnels, and runs its tunnel agent |
| [`hoaflow-ha`](#hoaflow-ha) | runs a small home agent |
| [`hoaflow-fa`](#hoaflow-fa) | runs a small foreign agent of Mobile IPv4 |
| [`hoaflow-lma`](#hoaflow-lma) | runs a small local mobility anchor |
| [`hoaflow-mag`](#hoaflow-mag) | runs a small mobile access gateway |

`hoaflow --install-completion` adds completion to bash, zsh and fish. It also completes home addresses and routers,
which it asks the controller for.
"""
# The first of Ryu's options that belong to its other applications.
FOREIGN = "\nzapi options:"


def page() -> str:
    """Run every command's help at 80 columns and return the page."""
    with plain_environment():
        parts = [
            HEAD,
            *_typer("hoaflow", typer.main.get_command(app)),
            _section(2, "hoaflow-controller", _controller()),
        ]
        for parser in (
            ha_bridge.__main__.build_parser(),
            hoaflow.router.cli.build_parser(),
            hoaflow.home_agent.settings.parser(),
            hoaflow.foreign_agent.settings.parser(),
            hoaflow.local_mobility_anchor.settings.parser(),
            hoaflow.mobile_access_gateway.settings.parser(),
        ):
            parts += _argparse(parser)
    return "\n".join(parts)


def subcommands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return a parser's subparsers by name, none if it has no subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def _typer(name: str, command: Any) -> Iterator[str]:
    path = name.split()[1:]
    shown = CliRunner().invoke(app, [*path, "--help"], prog_name="hoaflow")
    if shown.exit_code != 0:
        raise RuntimeError(f"{name} --help: {shown.output}")
    yield _section(2 if not path else 3, name, shown.output)
    for child, subcommand in sorted(getattr(command, "commands", {}).items()):
        yield from _typer(f"{name} {child}", subcommand)


def _argparse(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield _section(2 if " " not in parser.prog else 3, parser.prog, parser.format_help())
    for subcommand in subcommands(parser).values():
        yield from _argparse(subcommand)


def _controller() -> str:
    """Return the controller's help, without Ryu's options for other applications."""
    command = Path(sys.executable).with_name("hoaflow-controller")
    said = subprocess.run([command, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    about, _, options = said.partition("usage: ")
    described = options[options.index("\n\n") :].partition(FOREIGN)[0]
    return f"{about}usage: hoaflow-controller [options]{described}"


def _section(level: int, name: str, text: str) -> str:
    return f"{'#' * level} {name}\n\n```text\n{text.strip()}\n```\n"


@contextlib.contextmanager
def plain_environment() -> Iterator[None]:
    """Make help texts WIDTH columns wide, and options' defaults those of the programs."""
    before = dict(os.environ)
    os.environ["COLUMNS"] = WIDTH
    for name in [name for name in os.environ if name.startswith("HOAFLOW_")]:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
