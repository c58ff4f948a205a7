# SPDX-License-Identifier: Apache-2.0
"""Take in what on-demand routers tell: packets that no flow has taken, and whether they can tell at all."""

from collections.abc import Callable, Collection

from controller.core.activation import Activations
from controller.core.bindings import BindingTable
from controller.core.demand import Install
from controller.core.events import Event
from controller.core.flows import Flow
from controller.core.router import Router
from controller.core.suppressions import Request


class PacketReports:
    """Takes in the packets that switches report, the meters that limit these reports, and which routers are to report.

    ``review`` reviews a router's gates: they need the meters.
    """

    def __init__(
        self,
        bindings: BindingTable,
        activations: Activations,
        events: list[Event],
        review: Callable[[Router, float], None],
    ) -> None:
        self._bindings = bindings
        self._activations = activations
        self._events = events
        self._review = review

    def ask(self, router: Router, request: Request, now: float) -> Flow | None:
        """Record that a packet has come to an on-demand router which no flow took (see ``OnDemandFlows.ask``).

        Returns a flow by which no more is told of such packets for a while, None for none.
        """
        news, suppression = router.on_demand.ask(request, now)
        self._activations.expect(each for each in news if self._bindings.get(each) is not None)
        return suppression

    def have_meters(self, router: Router, meters: Collection[int], now: float) -> None:
        """Record that a switch has meters for what it tells of packets."""
        router.demand.meters.update(meters)
        self._review(router, now)

    def lost_meters(self, router: Router, meters: Collection[int], now: float) -> None:
        """Record that meters of a switch are gone or changed: what uses them goes, until they are made again."""
        router.demand.meters.difference_update(meters)
        self._event("meters-lost", router=f"{router.dpid:016x}", meters=",".join(map(str, sorted(meters))))
        self._review(router, now)

    def refuse(self, router: Router, reason: str, now: float) -> None:
        """Record that a switch can't tell of packets without flows, so that it gets the flows of all bindings."""
        if self._set_install(router, lambda: router.demand.refuse(reason)):
            self._event("on-demand-unsupported", router=f"{router.dpid:016x}", reason=reason)
            self._review(router, now)

    def announce(self, router: Router, install: Install | None) -> None:
        """Take in which bindings' flows a router's agent says it is to have, None for nothing; a review follows."""
        self._set_install(router, lambda: router.demand.announce(install))

    def _set_install(self, router: Router, change: Callable[[], bool]) -> bool:
        news = router.set_install(change)
        if news and not router.demand.on:
            self._activations.expect(self._bindings.home_addresses())
        return news

    def _event(self, name: str, **fields: object) -> None:
        self._events.append(Event(name, fields))
