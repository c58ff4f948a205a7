# SPDX-License-Identifier: Apache-2.0
"""Show and remove the controller's bindings: `hoaflow bindings`."""

from typing import Annotated, Any, Literal

import typer

from hoaflow.cli import spelling
from hoaflow.cli.completion import HomeAddress, OfHomeAgent
from hoaflow.cli.output import bytes_, seconds
from hoaflow.cli.session import Session, with_session

app = typer.Typer()

COLUMNS = ("HOME ADDRESS", "CARE-OF ADDRESS", "STATE", "ENDS IN", "PACKETS")

OfCareOfAddress = Annotated[
    str | None, typer.Option("--care-of-address", metavar="ADDRESS", help="Only with this one.")
]
OfState = Annotated[
    Literal["active", "partial", "pending", "idle", "held", "withheld"] | None,
    typer.Option("--state", help="Only in this state."),
]


@app.callback(invoke_without_command=True)
@with_session
def bindings(at: Session) -> None:
    """Show, follow or remove bindings. Without a command: list them.

    \b
    A binding's state says where its traffic goes:
      active    direct, on every prepared router
      partial   direct on some routers; the others say why not
      pending   through the home agent; the routers say why
      held      through the home agent: the bridge's lease has ended, its
                snapshot has not come, or the binding changes too often
      withheld  through the home agent: the bridge leaves it there, as IPsec
                protects it or the mobile node's address is in doubt
    """
    if at.subcommand is None:
        _list(at, {})


@app.command("list")
@with_session
def list_bindings(
    at: Session, home_agent: OfHomeAgent = None, care_of_address: OfCareOfAddress = None, state: OfState = None
) -> None:
    """List bindings, with the packets that have gone direct.

    \b
    Example: which bindings do not go direct?
      hoaflow bindings list --state pending
    """
    _list(at, chosen(home_agent, care_of_address) | {"state": state})


@app.command("show")
@with_session
def show_binding(at: Session, home_address: HomeAddress) -> None:
    """Show one binding, and its state on each router. `hoaflow explain` says more.

    \b
    Example:
      hoaflow bindings show 2001:db8:99::100
    """
    binding = at.controller.get("v1", "bindings", spelling.home_address(home_address))
    if at.output.as_json:
        at.output.document(binding)
        return
    why = f": {binding['withheld']}" if binding.get("withheld") else ""
    name, number = update_number(binding)
    at.output.heading(f"{binding['home_address']} is {binding['state']}{why}", binding["state"])
    at.output.pairs(
        {
            "care-of address": binding["care_of_address"],
            "home agent": binding["home_agent"],
            name: number,
            "lifetime": lifetime(binding),
        }
    )
    for dpid, router in binding["routers"].items():
        counted = f"{router['packets']} packets, {bytes_(router['bytes'])}"
        reason = f": {router['reason']}" if router.get("reason") else ""
        at.output.paragraph(f"router {dpid}  {router['state']}, {counted}{reason}", indent=" " * 8, first="  ")


@app.command("delete")
@with_session
def delete_bindings(at: Session, home_addresses: list[HomeAddress]) -> None:
    """Remove bindings from the controller: their traffic goes through the home agent again.

    The home agent does not learn of it. If it still has the binding, the next snapshot brings that back, by default
    within a minute. To keep a mobile node's traffic at the home agent, end the registration there.
    """
    wanted = [spelling.home_address(text) for text in home_addresses]
    for home_address in wanted:
        at.controller.change("DELETE", "v1", "bindings", home_address)
        if at.output.as_json:
            at.output.record({"home_address": home_address, "state": "removed"})
        else:
            at.output.line(f"{home_address} removed")


def chosen(home_agent: str | None, care_of_address: str | None) -> dict[str, str | None]:
    """Return filters in the API's form. Raises WrongUsage."""
    return {
        "home_agent": home_agent and spelling.address(home_agent),
        "care_of_address": care_of_address and spelling.address(care_of_address),
    }


def update_number(binding: dict[str, Any]) -> tuple[str, object]:
    """Return what orders a binding's updates: its name in words, and the number, None where it is not known."""
    by_protocol = {"pmipv6": ("timestamp", "timestamp"), "mipv4": ("identification", "identification")}
    member, name = by_protocol.get(binding.get("protocol", "mipv6"), ("sequence", "sequence number"))
    return name, binding[member]


def lifetime(binding: dict[str, Any]) -> str:
    """Return a binding's lifetime in words."""
    if binding["expires_in"] is None and binding["lifetime"] is not None:
        return "for ever"
    if binding["expires_in"] is None:
        return "unknown, bounded by the lease of the home agent's bridge"
    return f"{seconds(binding['lifetime'])}, ends in {seconds(binding['expires_in'])}"


def _list(at: Session, chosen: dict[str, str | None]) -> None:
    pages = at.controller.pages("bindings", "v1", "bindings", **chosen)
    if at.output.as_json:
        at.output.document({"bindings": [binding for page in pages for binding in page]})
        return
    at.output.table(COLUMNS, (map(_row, page) for page in pages), empty="no bindings")


def _row(binding: dict[str, Any]) -> tuple[object, ...]:
    packets = sum(router["packets"] for router in binding["routers"].values())
    ends = seconds(binding["expires_in"])
    return binding["home_address"], binding["care_of_address"], binding["state"], ends, packets
