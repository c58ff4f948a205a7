# SPDX-License-Identifier: Apache-2.0
"""Show the home agents that bridges announced, and their leases: `hoaflow home-agents`."""

from hoaflow.cli.output import seconds
from hoaflow.cli.session import Session, with_session

COLUMNS = ("HOME AGENT", "STATUS", "LEASE", "SNAPSHOT", "BINDINGS", "LOAD", "SERVED BY", "HOME PREFIXES")


@with_session
def home_agents(at: Session) -> None:
    """List home agents, with their leases and home prefixes.

    \b
    STATUS    up; ha-down: the bridge runs, but the home agent does not, and
              bindings serve until they end; expired: the bridge is silent
    LEASE     time until it ends; the bridge renews it every few seconds
    SNAPSHOT  held; wanted: the controller waits for the whole binding cache
              before it offloads any traffic
    LOAD      its part of all bindings
    SERVED BY the pod that owns the address, where several pods share it
    """
    pages = at.controller.pages("home_agents", "v1", "home-agents")
    listed = [home_agent for page in pages for home_agent in page]
    if at.output.as_json:
        at.output.document({"home_agents": listed})
        return
    bindings = sum(agent["bindings"] for agent in listed)
    rows = (
        (
            agent["home_agent"],
            agent["status"],
            seconds(agent["expires_in"]),
            agent["snapshot"],
            agent["bindings"],
            f"{round(100 * agent['bindings'] / bindings)} %" if bindings else "-",
            f"pod {agent['owner']['name']}" if agent["owner"] else "-",
            " ".join(agent["home_prefixes"]),
        )
        for agent in listed
    )
    at.output.table(COLUMNS, [rows], empty="no home agent has been announced: is ha-bridge running?")
