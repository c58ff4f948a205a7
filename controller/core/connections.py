# SPDX-License-Identifier: Apache-2.0
"""Keep which switches are there, and whose they are to write to, where several controllers are a cluster.

A switch is connected to all of them, and one is its master. Whoever is not stands by: it has the router's bindings, its
agent's word and its ports, but knows nothing of its flows and desires none.
"""

from collections.abc import Mapping

from controller.core.events import Event
from controller.core.router import Router
from controller.core.routers import Routers


class Connections:
    """Takes in what becomes of switches' connections, but for the flows that are read."""

    def __init__(self, routers: Routers, events: list[Event]) -> None:
        self._routers = routers
        self._events = events

    def stand_by(self, dpid: int, ports: Mapping[str, int], stranger: str | None, now: float) -> Router:
        """Record that a switch is connected, with these ports, and another controller writes to it, or none yet.

        ``stranger``: another cluster's marker in the switch, None for none. Idempotent.
        """
        router = self._routers.get_or_add(dpid, now)
        former = router.switch.standby
        router.stand_by(ports, stranger, now)
        if stranger is not None and (former is None or former.stranger != stranger):
            self._event("router-of-another-cluster", router=f"{dpid:016x}", marker=stranger)
        elif stranger is None and (former is None or former.stranger is not None):
            self._event("router-standby", router=f"{dpid:016x}")
        return router

    def take_over(self, dpid: int, generation: int, drained: bool, now: float) -> None:
        """Record that a switch has made this controller its master. Its flows are read next.

        ``drained``: the cluster says that the router is out of service, which a switch that was set up anew does not.
        """
        if drained:
            self._routers.known(dpid).gates.drain(True, now)
        self._event("mastership-taken", router=f"{dpid:016x}", generation=generation)

    def leave(self, dpid: int, why: str, now: float) -> None:
        """Record that this controller may not write to a switch any longer."""
        router = self._routers.known(dpid)
        if router.switch.connected:
            self._event("mastership-lost", router=f"{dpid:016x}", reason=why)
        router.switch.leave(now)
        router.disconnect(now)

    def mastered_by(self, dpid: int, member: str | None) -> None:
        """Record which other controller of the cluster is a switch's master; None: none, or this one."""
        if member is None:
            self._routers.masters.pop(dpid, None)
        else:
            self._routers.masters[dpid] = member

    def taken_by_stranger(self, dpid: int, generation: int | None, now: float) -> None:
        """Record that a controller of nobody in the cluster has taken a switch from this one; None: it is over.

        ``generation``: that with which this controller was the switch's master.
        """
        if generation is not None:
            self._event("router-taken-by-stranger", router=f"{dpid:016x}", generation=generation)
        if (router := self._routers.get(dpid)) is not None:
            router.switch.taken_by_stranger = None if generation is None else now

    def disconnect(self, dpid: int, now: float) -> None:
        """Record that a switch's connection is gone.

        A router that nobody vouches for is forgotten: anybody who reaches the OpenFlow port can make one.
        """
        router = self._routers.known(dpid)
        if router.switch.is_there:
            self._event("router-disconnected", router=f"{dpid:016x}")
        router.disconnect(now)
        if not self._routers.is_vouched_for(dpid):
            self._routers.forget(router)

    def turned_away(self, dpid: int) -> None:
        """Report that a switch was disconnected, as too many are connected that nobody vouches for."""
        self._event("switch-turned-away", router=f"{dpid:016x}")

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
