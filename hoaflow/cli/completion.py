# SPDX-License-Identifier: Apache-2.0
"""Complete words in the shell from the controller's lists, quickly or not at all, and without errors."""

import time
from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any

import typer
from typer import _completion_shared

from hoaflow.cli.errors import CliError
from hoaflow.cli.session import Session, Shared

PATIENCE = 1.0  # seconds

# bash takes a colon for the end of a word, so typer's own script can't complete an IPv6 address. Here words end with
# spaces, and bash gets only the part of each answer that follows the last colon typed.
_BASH = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} word IFS=$' \\t\\n'
    local -a words=($line)
    [[ $line == *[[:space:]] ]] && words+=("")
    word=${words[-1]}
    IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS=$line COMP_CWORD=$((${#words[@]} - 1)) %(autocomplete_var)s=complete_bash "$1"))
    [[ $word == *[:=]* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%%"${word##*[:=]}"}"}")
    return 0
}

complete -o default -F %(complete_func)s %(prog_name)s"""
_completion_shared._completion_scripts["bash"] = _BASH


def home_addresses(context: typer.Context, incomplete: str) -> list[str]:
    """Return the home addresses that can follow what has been typed."""
    return list(_asked(context, "bindings", "home_address"))


def _home_agents(context: typer.Context, incomplete: str) -> list[str]:
    return list(_asked(context, "home-agents", "home_agent"))


def _routers(context: typer.Context, incomplete: str) -> list[str]:
    return list(_asked(context, "routers", "dpid"))


def _asked(context: typer.Context, resource: str, member: str) -> Iterator[str]:
    """Return one member of the items of a list, as many as come in time."""
    deadline = time.monotonic() + PATIENCE
    try:
        with Session(_shared(context)).client(PATIENCE) as controller:
            for page in controller.pages(resource.replace("-", "_"), "v1", resource):
                yield from (str(item[member]) for item in page)
                if time.monotonic() > deadline:
                    return
    except (CliError, KeyError):
        return  # an error would disturb a half-typed command line


def _shared(context: typer.Context) -> Shared:
    """Return the shared options typed so far."""
    shared = {field.name for field in fields(Shared)}
    typed: dict[str, object] = {}
    level: Any = context
    while level is not None:
        typed = {name: value for name, value in level.params.items() if name in shared and value} | typed
        level = level.parent
    return Shared().but(typed)


HomeAddress = Annotated[
    str,
    typer.Argument(
        metavar="HOA",
        help="Home address, or mobile network prefix, in any valid spelling.",
        autocompletion=home_addresses,
        show_default=False,
    ),
]
_ROUTER_HELP = "Datapath id: 16 hexadecimal digits, or shorter, with 0x, with colons, or decimal."
Router = Annotated[
    str, typer.Argument(metavar="ROUTER", help=_ROUTER_HELP, autocompletion=_routers, show_default=False)
]
AnyRouter = Annotated[
    str | None,
    typer.Argument(metavar="[ROUTER]", help=f"{_ROUTER_HELP} All if none is given.", autocompletion=_routers),
]
OfHomeAgent = Annotated[
    str | None,
    typer.Option("--home-agent", metavar="ADDRESS", help="Only this one's.", autocompletion=_home_agents),
]
