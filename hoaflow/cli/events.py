# SPDX-License-Identifier: Apache-2.0
"""Print events as they happen: `hoaflow events`."""

import sys
from typing import Annotated, Any

import typer

from hoaflow.cli.client import Json
from hoaflow.cli.output import fields, moment
from hoaflow.cli.session import Session, with_session
from hoaflow.cli.stream import Position, follow

Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="NAME", help="Only events of this name; repeatable, or separated by commas."),
]
After = Annotated[
    int | None, typer.Option(min=0, metavar="ID", help="Begin after the event with this number; 0: oldest.")
]
NoFollow = Annotated[bool, typer.Option("--no-follow", help="Print the controller's latest events, and exit.")]


@with_session
def events(at: Session, name: Names = None, after: After = None, no_follow: NoFollow = False) -> None:
    """Follow events of bindings, leases, routers and refusals. Ctrl-C ends it.

    After a loss of the connection or a restart of the controller, it goes on where it was; an event `reset` says that
    some events were lost. With --json each event is one line.

    \b
    Examples:
      hoaflow events --no-follow                     the latest events
      hoaflow events --name binding-refused,flow-rejected
      hoaflow events --json | jq -r 'select(.home_address) | .home_address'
    """
    names = ",".join(name) if name else None
    if no_follow:
        for page in at.controller.pages("events", "v1", "events", follow="no", name=names, after=after):
            for event in page:
                _show(at, event)
        return
    for item in follow(at.controller, names, after, say):
        if not isinstance(item, Position):
            _show(at, {"id": item.id, "name": item.name, **item.fields})


def say(text: str) -> None:
    """Print a message to standard error."""
    print(f"hoaflow: {text}", file=sys.stderr, flush=True)


def _show(at: Session, event: Json) -> None:
    if at.output.as_json:
        at.output.record(event)
        return
    shown: dict[str, Any] = {key: value for key, value in event.items() if key not in ("id", "name", "time")}
    at.output.line(f"{moment(str(event.get('time', '')))}  {event['name']:<20} {fields(shown)}".rstrip())
