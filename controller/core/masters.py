# SPDX-License-Identifier: Apache-2.0
"""Keep which routers this controller may not write to, where several controllers are a cluster.

A switch is connected to all of them, and one is its master. Whoever is not stands by: it has the router's bindings, its
agent's word and its ports, but knows nothing of its flows and desires none.
"""

from collections.abc import Mapping

from controller.core.events import Event
from controller.core.router import Router
from controller.core.routers import Routers


class Masters:
    """Takes in what switches and cluster say of masters."""

    def __init__(self, routers: Routers, events: list[Event]) -> None:
        self._routers = routers
        self._events = events

    def stand_by(self, dpid: int, ports: Mapping[str, int], stranger: str | None, now: float) -> Router:
        """Record that a switch is connected, with these ports, and another controller writes to it, or none yet.

        ``stranger``: another cluster's marker in the switch, None for none. Idempotent.
        """
        router = self._routers.get_or_add(dpid, now)
        former = router.standby
        router.stand_by(ports, stranger, now)
        if stranger is not None and (former is None or former.stranger != stranger):
            self._event("router-of-another-cluster", router=f"{dpid:016x}", marker=stranger)
        elif stranger is None and (former is None or former.stranger is not None):
            self._event("router-standby", router=f"{dpid:016x}")
        return router

    def take_over(self, dpid: int, generation: int) -> None:
        """Record that a switch has made this controller its master. Its flows are read next."""
        self._event("mastership-taken", router=f"{dpid:016x}", generation=generation)

    def leave(self, dpid: int, why: str, now: float) -> None:
        """Record that this controller may not write to a switch any longer."""
        router = self._routers.known(dpid)
        if router.connected:
            self._event("mastership-lost", router=f"{dpid:016x}", reason=why)
        router.disconnect(now)

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Record which other controller of the cluster is a switch's master; None: none, or this one."""
        if member is None:
            self._routers.masters.pop(dpid, None)
        else:
            self._routers.masters[dpid] = member

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
