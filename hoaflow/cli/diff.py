# SPDX-License-Identifier: Apache-2.0
"""Compare a switch's flows with those it should have: `hoaflow diff`."""

import typer

from hoaflow.cli.client import Json
from hoaflow.cli.completion import AnyRouter
from hoaflow.cli.errors import Status, Unhealthy
from hoaflow.cli.flows import chosen_routers
from hoaflow.cli.session import Session, with_session

KINDS = (("missing", "-"), ("unexpected", "+"))


@with_session
def diff(at: Session, router: AnyRouter = None) -> None:
    """Compare the flows that switches should have with those they have now. Changes nothing.

    \b
    -  missing: the switch lacks it
    +  unexpected: the switch has it, but should not
    Both for one match: its actions differ, or it would stay too long.

    Exit status 5 if there is a difference. The controller repairs changes by others when it next reads the switch's
    flows (setting read_back_every); a flow that stays has its reason below it.
    """
    found: list[Json] = []
    silent: list[str] = []
    for dpid in chosen_routers(at, router):
        try:
            found.append({"dpid": dpid, **at.controller.get("v1", "routers", dpid, "diff")})
        except Unhealthy as error:
            silent.append(str(error))
    if at.output.as_json:
        at.output.document({"routers": found})
    else:
        for compared in found:
            _show(at, compared)
    if silent:
        raise Unhealthy("; ".join(silent))
    if not all(compared["in_sync"] for compared in found):
        raise typer.Exit(Status.UNHEALTHY)


def _show(at: Session, compared: Json) -> None:
    state = "in sync" if compared["in_sync"] else "out of sync"
    at.output.heading(f"router {compared['dpid']}: {state}", state)
    for kind, sign in KINDS:
        for flow in compared[kind]:
            _flow(at, sign, flow)
    for pair in compared["different"]:
        _flow(at, "-", pair["desired"])
        _flow(at, "+", pair["installed"])
    for kind, total in compared["totals"].items():
        if total > len(compared[kind]):
            at.output.line(f"  and {total - len(compared[kind])} more {kind}")


def _flow(at: Session, sign: str, flow: Json) -> None:
    at.output.paragraph(flow["flow"], indent="      ", first=f"  {sign} ")
    if flow.get("reason"):
        at.output.paragraph(f"because {flow['reason']}", indent="      ")
