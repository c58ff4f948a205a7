# SPDX-License-Identifier: Apache-2.0
"""Keep the routers that the controller knows, each until it has been away for long."""

from controller.core.flows import Action
from controller.core.registrations import Registrations
from controller.core.router import Router, Timing
from hoaflow.deadlines import earliest
from hoaflow.errors import HoaflowError


class UnknownRouter(HoaflowError):
    """Neither a switch nor a tunnel agent with this datapath id has been heard of."""

    def __init__(self, dpid: int) -> None:
        super().__init__(f"no router {dpid:016x} is known; its switch or its tunnel agent has to announce it first")


class Routers(dict[int, Router]):
    """Routers by datapath id, each made when it is heard of for the first time."""

    def __init__(self, registrations: Registrations, timing: Timing, classify_miss: tuple[Action, ...] | None) -> None:
        """Start without any; ``classify_miss`` is what the first table does with packets that nothing matches."""
        super().__init__()
        self.masters: dict[int, str] = {}  # those that are other controllers of the cluster, by datapath id
        self._registrations = registrations
        self._timing = timing
        self._classify_miss = classify_miss

    def known(self, dpid: int) -> Router:
        """Return a router. Raises UnknownRouter."""
        try:
            return self[dpid]
        except KeyError:
            raise UnknownRouter(dpid) from None

    def get_or_add(self, dpid: int, now: float) -> Router:
        """Return a router that has been heard of, perhaps for the first time."""
        router = self.get(dpid)
        if router is None:
            router = self[dpid] = Router(
                dpid, self._registrations, self._timing, self._classify_miss, self.masters, now
            )
        return router

    def is_vouched_for(self, dpid: int) -> bool:
        """Tell whether a tunnel agent has ever reported for a router, or an operator has drained it.

        A switch alone may be anybody's who reaches the OpenFlow port.
        """
        router = self.get(dpid)
        return router is not None and (router.tunnels.agent_lease_ends is not None or router.gates.draining)

    def forget_lost(self, now: float) -> list[Router]:
        """Forget and return the routers whose switch and agent have been away for long."""
        lost = [router for router in self.values() if (ends := self._ends(router)) is not None and ends <= now]
        for router in lost:
            del self[router.dpid]
        return lost

    def next_forgetting(self) -> float | None:
        """Return when ``forget_lost`` next has something to forget, None for not at all."""
        return earliest(*map(self._ends, self.values()))

    def _ends(self, router: Router) -> float | None:
        seen = router.last_seen()
        return None if seen is None else seen + self._timing.forget_after
