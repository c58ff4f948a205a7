# SPDX-License-Identifier: Apache-2.0
"""Take a router out of service, and back into it: `hoaflow drain` and `undrain`."""

from hoaflow.cli.completion import Router
from hoaflow.cli.session import Session, with_session


@with_session
def drain(at: Session, router: Router) -> None:
    """Take a router out of service: its traffic returns to the home agents.

    No packet is lost: only its gates are removed; its other flows stay, so packets already in tunnels arrive. When the
    command returns, the switch has confirmed it, and the router may be worked on. It stays out of service until
    `hoaflow undrain`, even if the switch or the controller restarts.

    \b
    Example:
      hoaflow drain 1 && ssh router1 apt-get upgrade && hoaflow undrain 1
    """
    _call(at, "PUT", router, "is drained: all traffic takes the home agents' path there")


@with_session
def undrain(at: Session, router: Router) -> None:
    """Take a router back into service: its gates open again."""
    _call(at, "DELETE", router, "is in service again; 'hoaflow routers' shows when its gates are open")


def _call(at: Session, method: str, router: str, said: str) -> None:
    dpid = at.router(router)
    answer = at.controller.change(method, "v1", "routers", dpid, "drain")
    if at.output.as_json:
        at.output.document(answer)
    else:
        at.output.paragraph(f"Router {dpid} {said}.")
