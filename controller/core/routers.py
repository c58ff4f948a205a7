# SPDX-License-Identifier: Apache-2.0
"""Keep the routers that the controller knows, each until it has been away for long."""

from collections.abc import Collection, Iterator, Reversible
from itertools import chain, islice

from controller.core.askers import Askers
from controller.core.bindings import Binding
from controller.core.demand import Install
from controller.core.flows import Action
from controller.core.registrations import Registrations
from controller.core.router import Router, Timing
from controller.core.touched_routers import TouchedRouters
from controller.core.traffic import RetiredCounters
from hoaflow.addresses import Prefix
from hoaflow.deadlines import earliest
from hoaflow.errors import HoaflowError


class UnknownRouter(HoaflowError):
    """Neither a switch nor a tunnel agent with this datapath id has been heard of."""

    def __init__(self, dpid: int) -> None:
        super().__init__(f"no router {dpid:016x} is known; its switch or its tunnel agent has to announce it first")


class Routers(dict[int, Router]):
    """Routers by datapath id, each made when it is heard of for the first time."""

    def __init__(
        self,
        registrations: Registrations,
        timing: Timing,
        classify_miss: tuple[Action, ...] | None,
        install: Install = Install.EVERYTHING,
    ) -> None:
        """Start without any.

        ``classify_miss`` is what the first table does with packets that nothing matches, ``install`` which bindings'
        flows a router has unless its agent says.
        """
        super().__init__()
        self.askers = Askers()
        self.touched = TouchedRouters()
        self._retired = RetiredCounters()
        self._with_endpoints: set[int] = set()
        self._install = install
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
            parts = self._registrations, self._timing, self._classify_miss, self.masters
            shared = self.askers, self._retired, self.touched
            router = self[dpid] = Router(dpid, *parts, now, *shared, self._install)
        return router

    def carrying(self, home_address: Prefix) -> Reversible[Router]:
        """Return the routers that are to have a home address's flows, the latest last."""
        if not self.askers.on_demand:
            return self.values()
        return [self[dpid] for dpid in (*self.askers.with_everything, *self.askers.asked.of(home_address))]

    def counting(self, home_address: Prefix) -> list[Router]:
        """Return the routers on which flows that are gone have counted packets of a home address."""
        return [router for dpid in self._retired.dpids(home_address) if (router := self.get(dpid)) is not None]

    def any_carrying(self, home_address: Prefix) -> bool:
        """Tell whether any router is to have a home address's flows, or may be, as none is known yet."""
        return bool(self.askers.with_everything or self.askers.asked.of(home_address)) or not self

    def concerned(self, binding: Binding) -> Collection[Router]:
        """Return the routers that may have to follow a binding that is new, has moved, or is gone."""
        if not self.askers.on_demand:
            return self.values()
        asked = chain.from_iterable(map(self.askers.asked.of, self._related(binding)))
        suppressing = self.askers.suppressed.within(binding.home_address)
        adopting = self.askers.adopting.of(binding.care_of_address)
        return [self[dpid] for dpid in dict.fromkeys(chain(self.askers.with_everything, asked, suppressing, adopting))]

    def _related(self, binding: Binding) -> Iterator[Prefix]:
        """Iterate over the home addresses asked for where a binding is concerned.

        Those behind one care-of address are asked for together, so one that has been there for longer does for all.
        """
        bindings, home_address = self._registrations.bindings, binding.home_address
        yield home_address
        behind = bindings.behind(binding.care_of_address)
        yield from islice((each for each in behind if each != home_address), 1)
        yield from self._registrations.tunnel_list.formers_behind(binding.care_of_address)
        yield from (each.home_address for each in bindings.all_covering(home_address))

    def is_vouched_for(self, dpid: int) -> bool:
        """Tell whether a tunnel agent has ever reported for a router, or an operator has drained it.

        A switch alone may be anybody's who reaches the OpenFlow port.
        """
        router = self.get(dpid)
        return router is not None and (router.tunnels.agent_lease_ends is not None or router.gates.draining)

    def forget_binding(self, home_address: Prefix) -> None:
        """Forget what routers were asked for, and had counted, for a binding that is gone."""
        self._retired.forget(home_address)
        for dpid in self.askers.asked.of(home_address):
            self[dpid].demand.drop(home_address)

    def take_due(self, now: float) -> list[Router]:
        """Take off and return the routers of which a wait may be over, or that may have been away for long."""
        late = [dpid for dpid in self._with_endpoints if (at := self[dpid].next_deadline()) is not None and at <= now]
        found = dict.fromkeys((*self.touched.take_due(now), *late))
        return [router for dpid in found if (router := self.get(dpid)) is not None]

    def next_due(self) -> float | None:
        """Return a moment no later than the next at which ``take_due`` has something, None for not at all."""
        for dpid in self.touched.take_to_plan():
            if (router := self.get(dpid)) is None:
                continue
            # What is due there depends on the tunnel list, too, which changes without anything else.
            (self._with_endpoints.add if router.tunnels.endpoints else self._with_endpoints.discard)(dpid)
            if (moment := earliest(router.next_deadline(), self._ends(router))) is not None:
                self.touched.plan(dpid, moment)
        return earliest(self.touched.next_due(), *(self[dpid].next_deadline() for dpid in self._with_endpoints))

    def is_lost(self, router: Router, now: float) -> bool:
        """Tell whether a router's switch and agent have been away for long."""
        ends = self._ends(router)
        return ends is not None and ends <= now

    def forget(self, router: Router) -> None:
        """Forget a router."""
        router.demand.forget()
        self._retired.forget_router(router.dpid)
        self._with_endpoints.discard(router.dpid)
        del self[router.dpid]

    def _ends(self, router: Router) -> float | None:
        seen = router.last_seen()
        return None if seen is None else seen + self._timing.forget_after
