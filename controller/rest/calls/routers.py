# SPDX-License-Identifier: Apache-2.0
"""Show, compare and drain routers, and serve their tunnel agents."""

import time
from http import HTTPStatus

from msgspec import UNSET
from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.cluster.view import NotRecorded
from controller.core.flow_differences import compare_flows
from controller.core.installed import ReportedFlow
from controller.core.router import Router
from controller.core.traffic import Counters
from controller.rest.context import ApiContext, in_turns
from controller.rest.merging import merged_routers
from controller.rest.operations import Reach, operation
from controller.rest.problems import Problem
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response, page_of, page_response
from controller.rest.schemas import answers, bodies, decoding, flow_answers
from controller.rest.schemas.queries import LONGEST_POLL, DifferenceQuery, FlowsQuery, RoutersQuery, TunnelsQuery
from controller.rest.views.routers import difference_view, flow_view, router_view, tunnels_view
from controller.rest.views.values import dpid_text
from controller.southbound.exchange import SwitchSilent

UNKNOWN = (HTTPStatus.NOT_FOUND,)
NOT_CONNECTED = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


class RouterCalls:
    """Carry out the calls below `/v1/routers`."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation("GET", "/v1/routers", Role.READ, answers.Routers, query=RoutersQuery, reach=Reach.MASTERS)
    def list_routers(self, request: ApiRequest, query: RoutersQuery) -> Response:
        """List the routers, by page, filtered."""
        found = (
            (dpid_text(dpid), router)
            for dpid, router in self._context.offload.routers.items()
            if query.connected in (UNSET, _yes_or_no(router.switch.is_there))
            and query.draining in (UNSET, _yes_or_no(router.gates.draining))
        )
        own = page_of(answers.Routers, query, found, self._view)
        said, word = self._context.members.ask_masters(request).said(own, answers.Routers)
        return json_response(merged_routers(said, query, word))

    @operation("GET", "/v1/routers/{dpid}", Role.READ, answers.Router, UNKNOWN, reach=Reach.MASTER)
    def get_router(self, request: ApiRequest, dpid: str) -> Response:
        """Show one router."""
        return json_response(self._view(self._router(dpid)))

    @operation("PUT", "/v1/routers/{dpid}/drain", Role.ADMIN, answers.Router, NOT_CONNECTED, reach=Reach.MASTER)
    def drain_router(self, request: ApiRequest, dpid: str) -> Response:
        """Take a router out of service: all its traffic goes back to the home agents, without loss.

        Idempotent. It is answered when the switch has confirmed; the switch remembers it, also when the controller
        restarts.
        """
        return self._drain(self._router(dpid), True)

    @operation("DELETE", "/v1/routers/{dpid}/drain", Role.ADMIN, answers.Router, NOT_CONNECTED, reach=Reach.MASTER)
    def undrain_router(self, request: ApiRequest, dpid: str) -> Response:
        """Take a router back into service.

        Idempotent. It is answered when the switch has confirmed.
        """
        return self._drain(self._router(dpid), False)

    @operation(
        "GET",
        "/v1/routers/{dpid}/flows",
        Role.READ,
        flow_answers.Flows,
        NOT_CONNECTED,
        query=FlowsQuery,
        reach=Reach.MASTER,
    )
    def list_flows(self, request: ApiRequest, query: FlowsQuery, dpid: str) -> Response:
        """List the controller's flows that a router's switch has now, by page, filtered.

        Each comes with the bindings that it serves.
        """
        router = self._router(dpid)
        now = time.monotonic()
        served = None if query.home_address is UNSET else decoding.prefix_in_path(query.home_address)
        found = (
            (str(flow.entry.flow), (flow.entry, Counters(flow.packets, flow.bytes)))
            for flow in in_turns(self._installed(router))
            if flow.entry is not None
            and query.kind in (UNSET, flow.entry.flow.kind.name.lower())
            and (served is None or served in router.served_by(flow.entry.flow, now))
        )
        return page_response(flow_answers.Flows, query, found, lambda flow: flow_view(*flow, router, now))

    @operation(
        "GET",
        "/v1/routers/{dpid}/diff",
        Role.READ,
        flow_answers.Difference,
        NOT_CONNECTED,
        query=DifferenceQuery,
        reach=Reach.MASTER,
    )
    def compare_flows(self, request: ApiRequest, query: DifferenceQuery, dpid: str) -> Response:
        """Compare the flows that a router should have with those that its switch has now.

        Changes nothing.
        """
        router = self._router(dpid)
        deadline = time.monotonic() + self._context.settings.answer_within
        while True:
            installed, now = self._installed(router), time.monotonic()
            entries = [flow.entry for flow in installed if flow.entry is not None]
            *_, difference = in_turns(compare_flows(router.flows, entries, now), every=1)
            # A change that is on its way to the switch is no difference.
            if difference.in_sync or router.flows.settled or time.monotonic() >= deadline:
                return json_response(difference_view(difference, installed, router, query.limit, now))
            self._context.changed.wait(deadline - time.monotonic())

    @operation("GET", "/v1/routers/{dpid}/tunnels", Role.ROUTER, answers.TunnelList, UNKNOWN, query=TunnelsQuery)
    def get_tunnels(self, request: ApiRequest, query: TunnelsQuery, dpid: str) -> Response:
        """Follow a router's tunnel list, by long poll: all of it, or what is new since a revision.

        A new master of the router is told of at once, too: an agent follows the master's list.
        """
        now = time.monotonic()
        deadline = now + min(query.wait, LONGEST_POLL)
        # Once only: while the answer waits, the agent may have died.
        router = self._context.offload.renew_agent_lease(decoding.dpid_in_path(dpid), now)
        self._context.notify()
        master_and_generation = self._context.members.master_and_generation
        news, mastered = router.tunnels.difference(query.after), master_and_generation(router.dpid)
        former = mastered
        while not news.full and news.revision == query.after and mastered == former and now < deadline:
            self._context.changed.wait(deadline - now)
            news, mastered = router.tunnels.difference(query.after), master_and_generation(router.dpid)
            now = time.monotonic()
        synced = [agent for agent in self._context.offload.home_agents if agent.synced]
        return json_response(tunnels_view(news, synced, *mastered))

    @operation(
        "PUT",
        "/v1/routers/{dpid}/tunnels/ack",
        Role.ROUTER,
        answers.AgentLease,
        body=bodies.AcknowledgementBody,
    )
    def put_acknowledgement(self, request: ApiRequest, body: bodies.AcknowledgementBody, dpid: str) -> Response:
        """Announce a router's tunnel agent and its endpoints, and say what its kernel holds.

        Idempotent.
        """
        endpoints, flow, macs = body.core_endpoints(), body.core_flow(), body.core_macs()
        failures = dict(map(body.failure, in_turns(range(len(body.failed)))))
        now = time.monotonic()
        number = decoding.dpid_in_path(dpid)
        said = body.revision, endpoints, flow, failures, now, macs, body.core_install()
        change = self._context.offload.acknowledge(number, *said)
        backend = "route" if endpoints else "flow" if flow else "none"
        request.note({"backend": backend, "failed": len(failures)}, change.is_news)
        self._context.notify()
        return json_response(answers.AgentLease(self._context.settings.agent_lease))

    def _drain(self, router: Router, draining: bool) -> Response:
        if (away := router.switch.why_not_connected()) is not None:
            reason = f"{away.text}. The switch itself keeps the drain, so try again after: {away.remedy.text}"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"router {dpid_text(router.dpid)}: {reason}")
        if not draining:  # first, or another master would drain it again
            self._record_drain(router, False, "stays out of service, as the cluster could not be told")
        self._have_switch_drained(router, draining)
        if draining:
            self._record_drain(router, True, "is out of service, but the cluster could not be told; call again")
        return json_response(self._view(router))

    def _record_drain(self, router: Router, draining: bool, otherwise: str) -> None:
        """Have the cluster keep it, for a switch that is set up anew. Raises Problem, with `otherwise`."""
        try:
            self._context.members.record_drain(router.dpid, draining)
        except NotRecorded as error:
            detail = f"router {dpid_text(router.dpid)} {otherwise}: {error}"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail) from None

    def _have_switch_drained(self, router: Router, draining: bool) -> None:
        """Drain a router or undrain it, and wait until its switch has confirmed it. Raises Problem."""
        now = time.monotonic()
        deadline = now + self._context.settings.request_timeout
        self._context.offload.drain(router.dpid, draining, now)
        self._context.notify()
        while router.switch.connected and not router.gates.drain_confirmed(now) and now < deadline:
            self._context.changed.wait(deadline - now)
            now = time.monotonic()
        if not router.gates.drain_confirmed(now):
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{_switch(router)} has not confirmed it; it is tried again")

    def _router(self, dpid: str) -> Router:
        return self._context.offload.router(decoding.dpid_in_path(dpid))

    def _view(self, router: Router) -> answers.Router:
        return router_view(router, self._context.offload, time.monotonic())

    def _installed(self, router: Router) -> list[ReportedFlow]:
        """Read a router's flows from its switch. Raises Problem if it does not answer."""
        channel = self._context.channels.get(router.dpid)
        if channel is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{_switch(router)} is not connected")
        try:
            return channel.read_flows()
        except SwitchSilent as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{_switch(router)}: {error}") from None


def _yes_or_no(truth: bool) -> str:
    return "yes" if truth else "no"


def _switch(router: Router) -> str:
    return f"the switch of router {dpid_text(router.dpid)}"
