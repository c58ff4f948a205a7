# SPDX-License-Identifier: Apache-2.0
"""Show the switches and their tunnel agents: `hoaflow routers`."""

import typer

from hoaflow.cli.client import Json
from hoaflow.cli.completion import Router
from hoaflow.cli.output import seconds
from hoaflow.cli.session import Session, with_session

app = typer.Typer()

COLUMNS = ("ROUTER", "SWITCH", "BACKEND", "AGENT", "FLOWS", "GATES", "REFUSED")


@app.callback(invoke_without_command=True)
@with_session
def routers(at: Session) -> None:
    """Show routers. Without a command: list them."""
    if at.subcommand is None:
        _list(at)


@app.command("list")
@with_session
def list_routers(at: Session) -> None:
    """List routers.

    \b
    SWITCH   connected or not; drained: out of service, by `hoaflow drain`
    BACKEND  how it encapsulates: flow or route; '-' until its agent reports
    AGENT    hoaflow-router run: alive, lost, or unseen
    FLOWS    of which bindings: all, or on demand, of those whose packets come to it
    GATES    number of open gates; without, all traffic takes the home agents' path
    REFUSED  flows refused by the switch, and tunnels refused by the agent
    """
    _list(at)


@app.command("show")
@with_session
def show_router(at: Session, router: Router) -> None:
    """Show one router: its switch, its agent, and refused flows and tunnels, with reasons."""
    shown = at.controller.get("v1", "routers", at.router(router))
    if at.output.as_json:
        at.output.document(shown)
        return
    at.output.heading(f"router {shown['dpid']}: {_switch(shown)}", _switch(shown))
    at.output.pairs(
        {
            "backend": shown["backend"],
            "agent": shown["agent"],
            "flows": _install(shown),
            "tunnels": f"revision {shown['tunnels']['revision']}, of which {_acknowledged(shown)} is acknowledged",
            "open gates": ", ".join(map(_gate, shown["gates"])) or "none: all traffic goes through the home agents",
        }
    )
    for endpoint in shown["endpoints"]:
        at.output.line(f"  endpoint for {endpoint['home_agent']}: port {endpoint['port']}, MAC {endpoint['mac']}")
    for refused in shown["refused_flows"]:
        flow = f"table {refused['table']}, priority {refused['priority']}"
        text = f"refused flow ({flow}), {refused['times']} times: {refused['reason']}"
        at.output.paragraph(text, indent="    ", first="  ")
    for refused in shown["refused_tunnels"]:
        text = f"refused tunnel of {refused['home_address']}: {refused['reason']}"
        at.output.paragraph(text, indent="    ", first="  ")


def _list(at: Session) -> None:
    pages = at.controller.pages("routers", "v1", "routers")
    if at.output.as_json:
        at.output.document({"routers": [router for page in pages for router in page]})
        return
    at.output.table(COLUMNS, (map(_row, page) for page in pages), empty="no router: no switch has connected")


def _row(router: Json) -> tuple[object, ...]:
    refused = len(router["refused_flows"]) + len(router["refused_tunnels"])
    gates = len(router["gates"])
    flows = "on demand" if router["install"] == "on-demand" else "all"
    return router["dpid"], _switch(router), router["backend"], router["agent"], flows, gates, refused


def _switch(router: Json) -> str:
    state = "connected" if router["connected"] else "not connected"
    return f"{state}, drained" if router["draining"] else state


def _install(router: Json) -> str:
    if router["install"] == "on-demand":
        return "on demand: of the bindings whose packets come to it"
    problem = router["on_demand_problem"]
    return "of all bindings" if problem is None else f"of all bindings, and not on demand, because: {problem}"


def _gate(gate: Json) -> str:
    return gate["prefix"] if gate["expires_in"] is None else f"{gate['prefix']} (for {seconds(gate['expires_in'])})"


def _acknowledged(router: Json) -> str:
    return str(router["tunnels"]["acknowledged"])
