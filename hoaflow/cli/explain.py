# SPDX-License-Identifier: Apache-2.0
"""Explain which path the packets of a home address take: `hoaflow explain`."""

from hoaflow.cli import spelling
from hoaflow.cli.bindings import lifetime, update_number
from hoaflow.cli.client import Json
from hoaflow.cli.completion import HomeAddress
from hoaflow.cli.flows import show_flow
from hoaflow.cli.output import Output, ago, bytes_, moment, seconds
from hoaflow.cli.session import Session, with_session

VERDICTS = {
    "direct": "go direct: its {anchor} does not see them",
    "home-agent": "go through its {anchor}",
    "mixed": "go direct on some routers, and through its {anchor} on others",
    "home": "go to its home link: no binding is held",
}


@with_session
def explain(at: Session, home_address: HomeAddress) -> None:
    """Show which path a mobile node's packets take, since when, why, and what would change it.

    From top to bottom: the verdict and its reason; the binding and its home agent; each router, with its gate and its
    flows; the last updates and their results; what would change the path. Any address in a home prefix may be given.

    \b
    Examples:
      hoaflow explain 2001:db8:99::100
      hoaflow explain 2001:db8:99::100 --json | jq -r .reason
    """
    found = at.controller.get("v1", "bindings", spelling.home_address(home_address), "explain")
    if at.output.as_json:
        at.output.document(found)
        return
    show(at.output, found)


def show(out: Output, found: Json) -> None:
    """Print an explanation as a page."""
    anchor = "LMA" if found["home_agent"].get("protocols") == ["pmipv6"] else "home agent"
    verdict = str(VERDICTS.get(found["path"], found["path"])).format(anchor=anchor)
    out.heading(f"Packets for {found['home_address']} {verdict}.", found["path"])
    since = f" Since {moment(found['since'])}, {ago(found['since'])}." if found["since"] else ""
    out.paragraph(f"{_sentence(found['reason'])}{since}")
    out.line()
    out.pairs({**_binding(found["binding"]), anchor: _home_agent(found["home_agent"])}, indent="")
    for dpid, router in found["routers"].items():
        out.line()
        out.heading(f"Router {dpid}: {router['state']}", router["state"])
        out.paragraph(_sentence(router["reason"]), indent="  ", first="  ")
        out.pairs({"backend": _backend(router), "gate": _gate(router["gate"]), "went direct": _counted(router)})
        for flow in router["flows"]:
            show_flow(out, flow, indent="  ")
    name = "sequence number" if found["binding"] is None else update_number(found["binding"])[0]
    _section(out, "Last updates", [_update(update, name) for update in found["updates"]])
    _section(out, "What would change it", [f"- {change}" for change in found["would_change"]])


def _binding(binding: Json | None) -> dict[str, object]:
    if binding is None:
        return {"binding": "none"}
    where = "MAG" if binding.get("protocol") == "pmipv6" else "care-of address"
    name, number = update_number(binding)
    return {
        "binding": f"{binding['home_address']} at {where} {binding['care_of_address']}, {binding['state']}",
        "lifetime": f"{lifetime(binding)}; {name} {'unknown' if number is None else number}",
    }


def _home_agent(agent: Json) -> str:
    lease = f"its lease holds for {seconds(agent['expires_in'])}" if agent["expires_in"] else "its lease has ended"
    return f"{agent['home_agent']}, {agent['status']}; {lease}; snapshot {agent['snapshot']}"


def _backend(router: Json) -> str:
    switch = "" if router["connected"] else ", switch not connected"
    drained = ", drained" if router["draining"] else ""
    return f"{router['backend'] or 'none'}{switch}{drained}"


def _gate(gate: Json) -> str:
    if not gate["open"]:
        return "closed: packets stay on the home agent's path"
    return "open" if gate["expires_in"] is None else f"open, for {seconds(gate['expires_in'])} if it is not renewed"


def _counted(router: Json) -> str:
    return f"{router['packets']} packets, {bytes_(router['bytes'])}"


def _update(update: Json, name: str) -> str:
    where = f" at {update['care_of_address']}" if update["care_of_address"] else ""
    # That of a Proxy Binding Update is a sequence number, though its timestamp orders the updates.
    name = name if name == "identification" else "sequence number"
    number = "" if update["sequence"] is None else f", {name} {update['sequence']}"
    lasting = "" if update["lifetime"] is None else f", lifetime {update['lifetime']} s"
    reason = f" ({update['reason']})" if update["reason"] else ""
    return f"{moment(update['time'])}  {update['result']} by {update['source']}{reason}{where}{number}{lasting}"


def _section(out: Output, title: str, entries: list[str]) -> None:
    if not entries:
        return
    out.line()
    out.heading(title)
    for entry in entries:
        out.paragraph(entry, indent=" " * (4 if entry.startswith("- ") else 12), first="  ")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
