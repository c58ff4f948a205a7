# SPDX-License-Identifier: Apache-2.0
"""Assemble the command line from its commands."""

from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hoaflow.cli import (
    bindings,
    check_config,
    cluster,
    diff,
    drain,
    events,
    explain,
    flows,
    home_agents,
    routers,
    support_bundle,
    watch,
)
from hoaflow.cli.session import Session, with_session

ORDER = (
    "bindings",
    "explain",
    "home-agents",
    "routers",
    "cluster",
    "flows",
    "events",
    "drain",
    "undrain",
    "diff",
    "check-config",
    "support-bundle",
)
EXIT_STATUSES = """\b
Exit status:
    0  done, and nothing is wrong
    1  refused by the controller, not found, or otherwise failed
    2  wrong usage
    3  the controller can't be reached
    4  the controller requires another token (401, 403)
    5  something is wrong: a check failed, a switch differs, a 5xx answer
  130  interrupted (Ctrl-C)
  141  nobody reads the output any more (as in '| head')
"""


class InOrder(TyperGroup):
    """List the commands in the order of their use."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


# Help is plain and 80 columns wide, to be piped, searched and printed.
app = typer.Typer(
    name="hoaflow",
    cls=InOrder,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hoaflow {metadata.version('hoaflow')}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
]


@app.callback(epilog=EXIT_STATUSES)
@with_session
def hoaflow(at: Session, version: Version = False) -> None:
    """See which path each mobile node's traffic takes, why, and what to do about it.

    Asks the controller's REST API. The options below may precede or follow the command's name; those that follow it
    win. Output to a pipe is plain text without colours; NO_COLOR=1 switches them off on a terminal, too.

    \b
    Examples:
      hoaflow bindings
      hoaflow explain 2001:db8:99::100
      hoaflow --controller https://192.0.2.1:8080 --ca ca.crt routers
      hoaflow bindings list --json | jq -r '.bindings[].home_address'
    """


bindings.app.command("watch")(watch.watch_bindings)
app.add_typer(bindings.app, name="bindings")
app.add_typer(routers.app, name="routers")
app.command("cluster")(cluster.cluster)
app.command("flows")(flows.flows)
app.command("home-agents")(home_agents.home_agents)
app.command("explain")(explain.explain)
app.command("drain")(drain.drain)
app.command("undrain")(drain.undrain)
app.command("diff")(diff.diff)
app.command("check-config")(check_config.check_config)
app.command("support-bundle")(support_bundle.support_bundle)
app.command("events")(events.events)
