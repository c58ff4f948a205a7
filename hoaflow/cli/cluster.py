# SPDX-License-Identifier: Apache-2.0
"""Show the controllers of a cluster, and which of them writes to which router: `hoaflow cluster`."""

from hoaflow.cli.client import Json
from hoaflow.cli.output import ago, moment
from hoaflow.cli.session import Session, with_session

MEMBERS = ("MEMBER", "ROUTERS", "STARTED", "VERSION", "REST")
ROUTERS = ("ROUTER", "MASTER", "SINCE", "GENERATION", "WHY")


@with_session
def cluster(at: Session) -> None:
    """Show the controllers of the cluster, and which of them is master of which router.

    \b
    ROUTERS     number of routers of which the member is master
    MASTER      the member that writes to the router; '-': none at present
    GENERATION  the number of that mastership; the switch refuses an older one
    WHY         why this member and not another
    """
    shown = at.controller.get("v1", "cluster")
    if at.output.as_json:
        at.output.document(shown)
        return
    if shown["cluster"] is None:
        at.output.paragraph(f"{shown['member']} is a controller by itself: it has no etcd, and writes to all routers.")
        return
    at.output.heading(f"cluster {shown['cluster']}, as {shown['member']} knows it")
    at.output.paragraph(_etcd(shown["etcd"]))
    at.output.line()
    rows = (
        (each["name"], each["routers"], ago(each["started"]), each["version"], each["url"]) for each in shown["members"]
    )
    at.output.table(MEMBERS, [rows], empty="no member is known")
    at.output.line()
    routers = (
        (each["dpid"], each["master"], ago(each["since"]), each["generation"], each["reason"])
        for each in shown["routers"]
    )
    at.output.table(ROUTERS, [routers], empty="no router: no switch has connected")


def _etcd(etcd: Json) -> str:
    if etcd["reachable"]:
        return f"etcd answers, since {moment(etcd['since'])}."
    return f"etcd does not answer, since {moment(etcd['since'])}: masters stay, but none is replaced if it fails."
