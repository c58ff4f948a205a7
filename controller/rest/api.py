# SPDX-License-Identifier: Apache-2.0
"""The calls of the northbound API: each reads its request, calls the core, and shows what came of it."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

import eventlet
import msgspec
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from controller.changes import ChangeSignal
from controller.core.addresses import format_address
from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import Binding, Change, StaleSequence
from controller.core.flows import FlowKey
from controller.core.home_agents import PrefixesOverlap
from controller.core.offload import Offload, UnknownRouter
from controller.rest import bodies, views
from controller.rest.problems import FieldError, Problem, wrong_field
from controller.settings import Settings
from controller.southbound.channel import Counters, SwitchChannel, SwitchSilent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

LOG = logging.getLogger("hoaflow.rest")

# An agent's long poll holds a connection; no longer than this.
LONGEST_POLL = 30.0
# Counters asked for again within this time, in seconds, are not read from the switch again.
COUNTERS_FRESH = 1.0

T = TypeVar("T")


class RestApi:
    """A WSGI application. ``channels`` are the connected switches by datapath id."""

    def __init__(
        self,
        offload: Offload,
        settings: Settings,
        channels: Mapping[int, SwitchChannel],
        changed: ChangeSignal,
        notify: Callable[[], None],
    ) -> None:
        self._offload = offload
        self._settings = settings
        self._channels = channels
        self._changed = changed
        self._notify = notify
        self._urls = Map(
            [
                Rule("/healthz", methods=["GET"], endpoint=self.health),
                Rule("/readyz", methods=["GET"], endpoint=self.ready),
                Rule("/v1/bindings", methods=["POST"], endpoint=self.post_bindings),
                Rule("/v1/bindings", methods=["GET"], endpoint=self.list_bindings),
                Rule("/v1/bindings/<path:home_address>", methods=["GET"], endpoint=self.get_binding),
                Rule("/v1/bindings/<path:home_address>", methods=["DELETE"], endpoint=self.delete_binding),
                Rule("/v1/home-agents", methods=["GET"], endpoint=self.list_home_agents),
                Rule("/v1/home-agents/<address>", methods=["PUT"], endpoint=self.put_home_agent),
                Rule("/v1/home-agents/<address>/bindings", methods=["PUT"], endpoint=self.put_snapshot),
                Rule("/v1/routers", methods=["GET"], endpoint=self.list_routers),
                Rule("/v1/routers/<dpid>", methods=["GET"], endpoint=self.get_router),
                Rule("/v1/routers/<dpid>/flows", methods=["GET"], endpoint=self.list_flows),
                Rule("/v1/routers/<dpid>/tunnels", methods=["GET"], endpoint=self.get_tunnels),
                Rule("/v1/routers/<dpid>/tunnels/ack", methods=["PUT"], endpoint=self.put_acknowledgement),
            ],
            strict_slashes=False,
            merge_slashes=False,
        )

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer one request; a refusal becomes problem+json."""
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            environ["wsgi.input_terminated"] = True
        request = Request(environ)
        request.max_content_length = self._settings.largest_body
        try:
            call, arguments = self._urls.bind_to_environ(environ).match()
            response = call(request, **arguments)
        except Problem as problem:
            response = problem.response()
        except Refused as refused:
            response = wrong_field(refused.field, refused.reason).response()
        except StaleSequence as error:
            response = _stale(error).response()
        except PrefixesOverlap as error:
            errors = (FieldError("home_prefixes", str(error)),)
            response = Problem(HTTPStatus.CONFLICT, str(error), errors).response()
        except (NotAnnounced, UnknownRouter) as error:
            response = Problem(HTTPStatus.NOT_FOUND, str(error)).response()
        except HTTPException as error:
            response = self._http_problem(error)
        except Exception:
            # An error in this program: the client gets no trace of it, the log does.
            LOG.exception("event=request-failed method=%s path=%s", request.method, request.path)
            response = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "an error in the controller, see its log").response()
        return response(environ, start_response)

    # Bindings.

    def post_bindings(self, request: Request) -> Response:
        """One binding, or several with a result for each. Idempotent."""
        body = self._body(request)
        now = time.monotonic()
        if "bindings" in _members(body):
            several = bodies.decode(body, bodies.BindingsBody)
            results = [self._post_item(index, raw, now) for index, raw in enumerate(several.bindings)]
            self._notify()
            return _json({"results": results})
        binding = bodies.decode(body, bodies.BindingBody).binding(now)
        change = self._offload.post(binding, now)
        self._notify()
        if self._offload.bindings.get(binding.home_address) is None:
            return _json({"home_address": str(binding.home_address), "state": "removed"})
        status = HTTPStatus.CREATED if change is Change.ADDED else HTTPStatus.OK
        if request.args.get("wait") == "active" and not self._wait_active(binding):
            status = HTTPStatus.ACCEPTED
        held = self._offload.bindings.get(binding.home_address) or binding
        return _json(self._binding_view(held, self._no_counters), status)

    def _post_item(self, index: int, raw: msgspec.Raw, now: float) -> dict[str, object]:
        try:
            change = self._offload.post(bodies.decode(raw, bodies.BindingBody).binding(now), now)
        except Problem as problem:
            return {"index": index} | bodies.problem_of_item(problem)
        except Refused as refused:
            return {"index": index} | bodies.problem_of_item(wrong_field(refused.field, refused.reason))
        except StaleSequence as error:
            return {"index": index} | bodies.problem_of_item(_stale(error))
        return {"index": index, "status": 201 if change is Change.ADDED else 200}

    def _wait_active(self, binding: Binding) -> bool:
        """Wait until the switches have confirmed a binding; give up with the request's time-out or a newer one."""
        deadline = time.monotonic() + self._settings.request_timeout
        while True:
            now = time.monotonic()
            held = self._offload.bindings.get(binding.home_address)
            if held is None or not held.same_path(binding):
                return False
            if self._offload.state_of(held, now).state == "active":
                return True
            if now >= deadline:
                return False
            self._changed.wait(deadline - now)

    def list_bindings(self, request: Request) -> Response:
        """Bindings by page, filtered."""
        now = time.monotonic()
        home_agent = bodies.address_filter("home_agent", request.args.get("home_agent"))
        care_of_address = bodies.address_filter("care_of_address", request.args.get("care_of_address"))
        state = request.args.get("state")
        if state not in (None, "pending", "active", "partial", "held"):
            raise wrong_field("state", f"expected pending, active, partial or held, got {state!r}")
        found = (
            (str(binding.home_address), binding)
            for binding in self._offload.bindings
            if home_agent in (None, binding.home_agent)
            and care_of_address in (None, binding.care_of_address)
            and (state is None or self._offload.state_of(binding, now).state == state)
        )
        counters = self._counters()
        return self._page(request, "bindings", found, lambda binding: self._binding_view(binding, counters))

    def get_binding(self, request: Request, home_address: str) -> Response:
        """One binding."""
        return _json(self._binding_view(self._held(home_address), self._counters()))

    def delete_binding(self, request: Request, home_address: str) -> Response:
        """Remove one binding; the next snapshot brings it back if the home agent still holds it."""
        binding = self._held(home_address)
        self._offload.remove(binding.home_address, time.monotonic())
        self._notify()
        return Response(status=HTTPStatus.NO_CONTENT)

    def _held(self, home_address: str) -> Binding:
        binding = self._offload.bindings.get(bodies.prefix_in_path(home_address))
        if binding is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"no binding is held for {home_address}")
        return binding

    def _binding_view(self, binding: Binding, counters: views.FlowCounters) -> dict[str, object]:
        return views.binding_view(binding, self._offload, counters, time.monotonic())

    # Home agents.

    def list_home_agents(self, request: Request) -> Response:
        """Home agents by page."""
        found = ((format_address(agent.address), agent) for agent in self._offload.home_agents)
        now = time.monotonic()
        return self._page(request, "home_agents", found, lambda agent: views.home_agent_view(agent, self._offload, now))

    def put_home_agent(self, request: Request, address: str) -> Response:
        """A bridge announces its home agent and renews its lease. Idempotent."""
        body = bodies.decode(self._body(request), bodies.HomeAgentBody)
        if body.lease > self._settings.longest_lease:
            longest = self._settings.longest_lease
            raise wrong_field("lease", f"expected at most {longest} seconds (longest_lease), got {body.lease}")
        now = time.monotonic()
        home_agent = self._offload.announce(
            bodies.address_in_path(address), body.prefixes(), body.lease, body.core_status(), now
        )
        self._notify()
        return _json(views.home_agent_view(home_agent, self._offload, now))

    def put_snapshot(self, request: Request, address: str) -> Response:
        """The whole binding cache of one home agent. Idempotent."""
        several = bodies.decode(self._body(request), bodies.BindingsBody)
        home_agent = bodies.address_in_path(address)
        now = time.monotonic()
        bindings: list[Binding] = []
        places: list[int] = []
        refused: list[dict[str, object]] = []
        for index, raw in enumerate(several.bindings):
            try:
                bindings.append(bodies.decode(raw, bodies.BindingBody).binding(now, home_agent))
                places.append(index)
            except Problem as problem:
                refused.append({"index": index} | bodies.problem_of_item(problem))
        result = self._offload.snapshot(home_agent, bindings, now)
        self._notify()
        for place, binding, error in result.refused:
            item = bodies.problem_of_item(wrong_field(error.field, error.reason))
            refused.append({"index": places[place], "home_address": str(binding.home_address)} | item)
        return _json(
            {
                "added": result.added,
                "changed": result.changed,
                "removed": result.removed,
                "unchanged": result.unchanged,
                "refused": sorted(refused, key=itemgetter("index")),
            }
        )

    # Routers.

    def list_routers(self, request: Request) -> Response:
        """Routers by page."""
        found = ((f"{dpid:016x}", router) for dpid, router in self._offload.routers.items())
        now = time.monotonic()
        return self._page(request, "routers", found, lambda router: views.router_view(router, self._offload, now))

    def get_router(self, request: Request, dpid: str) -> Response:
        """One router."""
        router = self._offload.router(_dpid(dpid))
        return _json(views.router_view(router, self._offload, time.monotonic()))

    def list_flows(self, request: Request, dpid: str) -> Response:
        """The flows that a router's switch has of ours at this moment, each with what it serves."""
        router = self._offload.router(_dpid(dpid))
        channel = self._channels.get(router.dpid)
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
        return self._page(request, "flows", found, lambda view: view)

    def get_tunnels(self, request: Request, dpid: str) -> Response:
        """A router's tunnel list, by long poll: all of it, or what is new since a revision."""
        after = _number(request, "after", 0)
        now = time.monotonic()
        deadline = now + min(_number(request, "wait", 0), LONGEST_POLL)
        # Once only: while the answer is held back, nobody knows whether the agent still lives.
        router = self._offload.hear_agent(_dpid(dpid), now)
        self._notify()
        news = router.tunnels.news(after)
        while not news.full and news.revision == after and now < deadline:
            self._changed.wait(deadline - now)
            news, now = router.tunnels.news(after), time.monotonic()
        synced = [agent for agent in self._offload.home_agents if agent.synced]
        return _json(views.news_view(news, synced))

    def put_acknowledgement(self, request: Request, dpid: str) -> Response:
        """A tunnel agent announces its endpoints and says what its kernel holds. Idempotent."""
        body = bodies.decode(self._body(request), bodies.AcknowledgementBody)
        endpoints, flow, failures = body.core_endpoints(), body.core_flow(), body.failures()
        self._offload.acknowledge(_dpid(dpid), body.revision, endpoints, flow, failures, time.monotonic())
        self._notify()
        return _json({"lease": self._settings.agent_lease})

    # Probes.

    def health(self, request: Request) -> Response:
        """The process lives."""
        return _json({"status": "ok"})

    def ready(self, request: Request) -> Response:
        """Ready: a switch is connected, and no announced home agent's lease has lapsed or lacks its snapshot."""
        now = time.monotonic()
        reasons = [
            f"home agent {format_address(agent.address)}: "
            + ("no snapshot yet" if agent.lease_held(now) else "its bridge's lease has lapsed")
            for agent in self._offload.home_agents
            if not agent.may_offload(now)
        ]
        if not any(router.connected for router in self._offload.routers.values()):
            reasons.append("no switch is connected")
        if reasons:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(reasons))
        return _json({"status": "ready"})

    # How.

    def _body(self, request: Request) -> bytes:
        try:
            with eventlet.Timeout(self._settings.request_timeout):
                return request.get_data()
        except eventlet.Timeout:
            seconds = self._settings.request_timeout
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {seconds} s") from None

    def _page(
        self, request: Request, name: str, items: Iterable[tuple[str, T]], view: Callable[[T], object]
    ) -> Response:
        found = views.page(items, request.args.get("limit"), request.args.get("cursor"))
        return _json({name: [view(item) for _, item in found.items], "next": found.next})  # type: ignore[arg-type]

    def _counters(self) -> views.FlowCounters:
        """Return the switches' counters, each switch asked once."""
        read: dict[int, Mapping[FlowKey, Counters]] = {}

        def counters(dpid: int) -> Mapping[FlowKey, Counters]:
            if dpid not in read:
                channel = self._channels.get(dpid)
                read[dpid] = channel.counters(COUNTERS_FRESH) if channel else {}
            return read[dpid]

        return counters

    @staticmethod
    def _no_counters(dpid: int) -> Mapping[FlowKey, Counters]:
        return {}

    def _http_problem(self, error: HTTPException) -> Response:
        status = HTTPStatus(error.code or 500)
        detail = error.description or status.phrase
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"expected a body of at most {self._settings.largest_body} bytes (largest_body)"
        response = Problem(status, detail).response()
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response


def _json(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(content), status=status, content_type="application/json")


def _members(body: bytes) -> Iterable[str]:
    """Return the names of the members of a JSON object. Raises Problem for anything else."""
    return bodies.decode(body, dict[str, msgspec.Raw])


def _stale(error: StaleSequence) -> Problem:
    return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("sequence", str(error)),))


def _dpid(text: str) -> int:
    try:
        dpid = int(text, 16)
    except ValueError:
        dpid = -1
    if not 0 <= dpid < 1 << 64 or len(text) > 16:
        raise wrong_field("dpid", f"expected a datapath id of up to 16 hexadecimal digits, got {text!r}")
    return dpid


def _number(request: Request, name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise wrong_field(name, f"expected a number, got {text!r}")
    return int(text)
