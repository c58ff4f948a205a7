# SPDX-License-Identifier: Apache-2.0
"""Share among all commands the options for the controller and the output.

They may precede or follow the command's name.
"""

import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from hoaflow.cli.client import ANSWER_TIMEOUT, Client
from hoaflow.cli.errors import CliError, Status, Unreachable, WrongUsage
from hoaflow.cli.output import Output
from hoaflow.cli.spelling import datapath_ids
from hoaflow.client.access import CONTROLLER, Access, warn_of_clear_token
from hoaflow.client.client import Northbound

DEFAULT_CONTROLLER = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Shared:
    """Options of all commands; None or False if not given."""

    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False
    controller: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="The controller's REST API; if repeated, the first one that answers."
            f" [env: {CONTROLLER}, several separated by blanks; default: {DEFAULT_CONTROLLER}]",
        ),
    ] = None
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the bearer token to send. [env: HOAFLOW_TOKEN_FILE]"),
    ] = None
    ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificates (PEM) that may sign the controller's. [env: HOAFLOW_CA]"),
    ] = None
    certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Client certificate (PEM). [env: HOAFLOW_CERTIFICATE]"),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key of the client certificate (PEM). [env: HOAFLOW_KEY]"),
    ] = None

    def but(self, given: dict[str, Any]) -> "Shared":
        """Return these options, overridden by those given closer to the command."""
        return replace(self, **{name: value for name, value in given.items() if value})

    def controllers(self) -> list[str]:
        """Return the URLs of the controllers."""
        return self.controller or os.environ.get(CONTROLLER, "").split() or [DEFAULT_CONTROLLER]

    def setting(self, name: str) -> str | None:
        """Return an option or its environment variable; None if neither is set."""
        value = getattr(self, name)
        return str(value) if value is not None else os.environ.get(f"HOAFLOW_{name.upper()}") or None


class Session:
    """Hold the options, the controller and the output of one run of a command."""

    def __init__(self, shared: Shared, subcommand: str | None = None) -> None:
        self.shared = shared
        self.subcommand = subcommand
        self.output = Output(shared.json)

    @cached_property
    def controller(self) -> Client:
        """Return the client of the controller. Raises WrongUsage for unusable options."""
        return self.client()

    def client(self, answer_timeout: float = ANSWER_TIMEOUT) -> Client:
        """Return a client with a time-out of its own, in seconds. Raises WrongUsage."""
        try:
            return Client([Northbound(url, self._access) for url in self._controllers], answer_timeout)
        except ValueError as error:  # AccessError among them
            raise WrongUsage(str(error)) from error

    @cached_property
    def _controllers(self) -> list[str]:
        """Return the controllers' URLs, after a warning of those to which the token goes in clear."""
        urls = list(dict.fromkeys(self.shared.controllers()))
        for url in urls:
            warn_of_clear_token(url, self._access)
        return urls

    @cached_property
    def _access(self) -> Access:
        files = {name: self.shared.setting(name) for name in ("token_file", "ca", "certificate", "key")}
        access = Access(**{name: None if file is None else Path(file) for name, file in files.items()})
        access.check()
        return access

    def router(self, text: str) -> str:
        """Return the datapath id that `text` denotes; if it is ambiguous, the one that exists."""
        meant = datapath_ids(text)
        if len(meant) == 1:
            return meant[0]
        known = {router["dpid"] for router in self.controller.everything("routers", "v1", "routers")}
        found = [dpid for dpid in meant if dpid in known]
        if len(found) > 1:
            raise WrongUsage(f"router {text} may be {' or '.join(found)}, and both exist: write 16 digits, or use 0x")
        if not found:
            raise CliError(f"no router {' or '.join(meant)} is known; 'hoaflow routers' lists them")
        return found[0]


def drop_output() -> None:
    """Discard pending output, so that the interpreter's last attempt to write it does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def with_session(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options, and pass them to it as a `Session`, its first argument."""
    own = list(inspect.signature(function).parameters.values())[1:]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=field.type, default=field.default)
        for field in fields(Shared)
    ]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)

    @functools.wraps(function)
    def command(context: typer.Context, **given: Any) -> None:
        options = {field.name: given.pop(field.name) for field in fields(Shared)}
        context.obj = (context.obj or Shared()).but(options)
        try:
            function(Session(context.obj, context.invoked_subcommand), **given)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_output()
            raise typer.Exit(Status.BROKEN_PIPE) from None
        except KeyError as error:
            # Answers are read as the API declares them; one that lacks a member is of another version.
            raise Unreachable(
                f"an answer lacks {error}; this is hoaflow {metadata.version('hoaflow')}, what is the controller?"
            ) from error

    parameters = [context, *own, *shared]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
