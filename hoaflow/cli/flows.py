# SPDX-License-Identifier: Apache-2.0
"""Show hoaflow's flows in the switches: `hoaflow flows`."""

from collections.abc import Iterator
from typing import Annotated, Literal

import typer

from hoaflow.cli import spelling
from hoaflow.cli.client import Json
from hoaflow.cli.completion import AnyRouter, home_addresses
from hoaflow.cli.errors import Unhealthy
from hoaflow.cli.output import Output, bytes_, seconds
from hoaflow.cli.session import Session, with_session

ForHomeAddress = Annotated[
    str | None,
    typer.Option("--home-address", metavar="HOA", help="Only flows that serve it.", autocompletion=home_addresses),
]
OfKind = Annotated[
    Literal["miss", "guard", "gate", "downlink", "uplink", "verify", "drain"] | None,
    typer.Option("--kind", help="Only flows of this kind."),
]


@with_session
def flows(at: Session, router: AnyRouter = None, home_address: ForHomeAddress = None, kind: OfKind = None) -> None:
    """Show the flows that the switches have now, with their counters.

    Flows of other applications are not shown.

    \b
    Examples:
      hoaflow flows 1                                 of one router
      hoaflow flows --home-address 2001:db8:99::100   of all, for one mobile node
      hoaflow flows --json | jq '.routers[].flows[].packets'
    """
    wanted = home_address and spelling.home_address(home_address)
    found: dict[str, list[Json]] = {}
    silent: list[str] = []
    for dpid in chosen_routers(at, router):
        try:
            found[dpid] = at.controller.everything(
                "flows", "v1", "routers", dpid, "flows", kind=kind, home_address=wanted
            )
        except Unhealthy as error:
            silent.append(str(error))
    if at.output.as_json:
        at.output.document({"routers": [{"dpid": dpid, "flows": flows} for dpid, flows in found.items()]})
    else:
        for dpid, flows in found.items():
            at.output.heading(f"router {dpid}: {len(flows)} flow{'s' * (len(flows) != 1)}")
            for flow in flows:
                show_flow(at.output, flow, indent="  ")
    if silent:
        raise Unhealthy("; ".join(silent))


def show_flow(out: Output, flow: Json, indent: str) -> None:
    """Print a flow: its counters, and below them its match and actions."""
    ends = "" if flow["expires_in"] is None else f", ends in {seconds(flow['expires_in'])}"
    counted = f"{flow['packets']} packets, {bytes_(flow['bytes'])}"
    out.line(f"{indent}{flow['kind']}, {counted}{ends}")
    out.paragraph(flow["flow"], indent=f"{indent}    ")


def chosen_routers(at: Session, router: str | None) -> Iterator[str]:
    """Return the datapath ids of the chosen routers: one, or all."""
    if router is not None:
        yield at.router(router)
        return
    for page in at.controller.pages("routers", "v1", "routers"):
        yield from (item["dpid"] for item in page)
