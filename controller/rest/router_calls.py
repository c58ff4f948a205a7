# SPDX-License-Identifier: Apache-2.0
"""The calls on routers, among them those of their tunnel agents."""

import re
import time
from http import HTTPStatus

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from controller.rest import bodies, views
from controller.rest.calls import Controlled, json_answer, number_in_query, page_answer
from controller.rest.problems import Problem, wrong_field
from controller.southbound.channel import SwitchSilent

# An agent's long poll holds a connection; no longer than this, in seconds.
LONGEST_POLL = 30.0
DATAPATH_ID = re.compile(r"[0-9a-fA-F]{1,16}", re.ASCII)


class RouterCalls:
    """Routers, their live flows, and what their tunnel agents call."""

    def __init__(self, controlled: Controlled) -> None:
        self._at = controlled

    def rules(self) -> list[Rule]:
        """Return where each call is."""
        return [
            Rule("/v1/routers", methods=["GET"], endpoint=self.list_routers),
            Rule("/v1/routers/<dpid>", methods=["GET"], endpoint=self.get_router),
            Rule("/v1/routers/<dpid>/flows", methods=["GET"], endpoint=self.list_flows),
            Rule("/v1/routers/<dpid>/tunnels", methods=["GET"], endpoint=self.get_tunnels),
            Rule("/v1/routers/<dpid>/tunnels/ack", methods=["PUT"], endpoint=self.put_acknowledgement),
        ]

    def list_routers(self, request: Request) -> Response:
        """Routers by page."""
        found = ((f"{dpid:016x}", router) for dpid, router in self._at.offload.routers.items())
        now = time.monotonic()
        return page_answer(request, "routers", found, lambda router: views.router_view(router, self._at.offload, now))

    def get_router(self, request: Request, dpid: str) -> Response:
        """One router."""
        router = self._at.offload.router(_dpid(dpid))
        return json_answer(views.router_view(router, self._at.offload, time.monotonic()))

    def list_flows(self, request: Request, dpid: str) -> Response:
        """The flows that a router's switch has of ours at this moment, each with what it serves."""
        router = self._at.offload.router(_dpid(dpid))
        channel = self._at.channels.get(router.dpid)
        if channel is None:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"the switch of router {dpid} is not connected")
        try:
            installed = channel.read_flows()
        except SwitchSilent as error:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"the switch of router {dpid}: {error}") from None
        now = time.monotonic()
        found = []
        for flow in installed:
            if flow.entry is None:
                continue
            expires_at = flow.entry.expires_at
            view = {
                "table": flow.entry.flow.table,
                "priority": flow.entry.flow.priority,
                "kind": flow.entry.flow.kind.name.lower(),
                "flow": str(flow.entry.flow),
                "cookie": f"{flow.entry.flow.cookie:#x}",
                "packets": flow.packets,
                "bytes": flow.bytes,
                "expires_in": None if expires_at is None else max(0.0, round(expires_at - now, 3)),
                "serves": views.prefix_text(flow.entry.flow.serves),
                "home_addresses": [str(prefix) for prefix in router.served_by(flow.entry.flow)],
            }
            found.append((str(flow.entry.flow), view))
        return page_answer(request, "flows", found, lambda view: view)

    def get_tunnels(self, request: Request, dpid: str) -> Response:
        """A router's tunnel list, by long poll: all of it, or what is new since a revision."""
        after = number_in_query(request, "after", 0)
        now = time.monotonic()
        deadline = now + min(number_in_query(request, "wait", 0), LONGEST_POLL)
        # Once only: while the answer is held back, nobody knows whether the agent still lives.
        router = self._at.offload.hear_agent(_dpid(dpid), now)
        self._at.notify()
        news = router.tunnels.news(after)
        while not news.full and news.revision == after and now < deadline:
            self._at.changed.wait(deadline - now)
            news, now = router.tunnels.news(after), time.monotonic()
        synced = [agent for agent in self._at.offload.home_agents if agent.synced]
        return json_answer(views.news_view(news, synced))

    def put_acknowledgement(self, request: Request, dpid: str) -> Response:
        """A tunnel agent announces its endpoints and says what its kernel holds. Idempotent."""
        body = bodies.decode(self._at.body(request), bodies.AcknowledgementBody)
        endpoints, flow, failures = body.core_endpoints(), body.core_flow(), body.failures()
        self._at.offload.acknowledge(_dpid(dpid), body.revision, endpoints, flow, failures, time.monotonic())
        self._at.notify()
        return json_answer({"lease": self._at.settings.agent_lease})


def _dpid(text: str) -> int:
    if not DATAPATH_ID.fullmatch(text):
        raise wrong_field("dpid", f"expected a datapath id of up to 16 hexadecimal digits, got {text[:40]!r}")
    return int(text, 16)
