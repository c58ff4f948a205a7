# SPDX-License-Identifier: Apache-2.0
"""Show the home agents that bridges announced, and their leases: `hoaflow home-agents`."""

from hoaflow.cli.output import seconds
from hoaflow.cli.session import Session, with_session

COLUMNS = ("HOME AGENT", "STATUS", "LEASE", "SNAPSHOT", "BINDINGS", "HOME PREFIXES")


@with_session
def home_agents(at: Session) -> None:
    """List home agents: whether their bridge's lease holds, and what they serve.

    \b
    STATUS    up; ha-down: the bridge lives, the home agent does not, bindings
              serve until they end; expired: nothing is heard of the bridge
    LEASE     how long it holds; renewed by the bridge every few seconds
    SNAPSHOT  held; wanted: the controller waits for the whole binding cache
              before it takes any traffic off
    """
    pages = at.controller.pages("home_agents", "v1", "home-agents")
    if at.output.as_json:
        at.output.document({"home_agents": [home_agent for page in pages for home_agent in page]})
        return
    rows = (
        (
            agent["home_agent"],
            agent["status"],
            seconds(agent["expires_in"]),
            agent["snapshot"],
            agent["bindings"],
            " ".join(agent["home_prefixes"]),
        )
        for page in pages
        for agent in page
    )
    at.output.table(COLUMNS, [rows], empty="no home agent has been announced: does its ha-bridge run?")
