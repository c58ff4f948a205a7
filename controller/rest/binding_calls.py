# SPDX-License-Identifier: Apache-2.0
"""The calls on bindings."""

import time
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from controller.core.admission import Refused
from controller.core.bindings import Binding, Change, StaleSequence
from controller.core.flows import FlowKey
from controller.rest import bodies, views
from controller.rest.calls import Controlled, json_answer, members_of, page_answer, stale_problem
from controller.rest.problems import Problem, wrong_field
from controller.southbound.channel import Counters

# Counters asked for again within this time, in seconds, are not read from the switch again.
COUNTERS_FRESH = 1.0
STATES = ("pending", "active", "partial", "held")


class BindingCalls:
    """Post, list, show and remove bindings."""

    def __init__(self, controlled: Controlled) -> None:
        self._at = controlled

    def rules(self) -> list[Rule]:
        """Return where each call is."""
        return [
            Rule("/v1/bindings", methods=["POST"], endpoint=self.post_bindings),
            Rule("/v1/bindings", methods=["GET"], endpoint=self.list_bindings),
            Rule("/v1/bindings/<path:home_address>", methods=["GET"], endpoint=self.get_binding),
            Rule("/v1/bindings/<path:home_address>", methods=["DELETE"], endpoint=self.delete_binding),
        ]

    def post_bindings(self, request: Request) -> Response:
        """One binding, or several with a result for each. Idempotent."""
        wait = request.args.get("wait")
        if wait not in (None, "active"):
            raise wrong_field("wait", f"expected active or nothing, got {wait[:40]!r}")
        body = self._at.body(request)
        now = time.monotonic()
        if "bindings" in members_of(body):
            several = bodies.decode(body, bodies.BindingsBody)
            results = [self._post_item(index, raw, now) for index, raw in enumerate(several.bindings)]
            self._at.notify()
            return json_answer({"results": results})
        binding = bodies.decode(body, bodies.BindingBody).binding(now)
        change = self._at.offload.post(binding, now)
        self._at.notify()
        if self._at.offload.bindings.get(binding.home_address) is None:
            return json_answer({"home_address": str(binding.home_address), "state": "removed"})
        status = HTTPStatus.CREATED if change is Change.ADDED else HTTPStatus.OK
        if wait == "active" and not self._wait_active(binding):
            status = HTTPStatus.ACCEPTED
        held = self._at.offload.bindings.get(binding.home_address) or binding
        return json_answer(self._binding_view(held, self._no_counters), status)

    def _post_item(self, index: int, raw: msgspec.Raw, now: float) -> dict[str, object]:
        try:
            change = self._at.offload.post(bodies.decode(raw, bodies.BindingBody).binding(now), now)
        except Problem as problem:
            return {"index": index} | bodies.problem_of_item(problem)
        except Refused as refused:
            return {"index": index} | bodies.problem_of_item(wrong_field(refused.field, refused.reason))
        except StaleSequence as error:
            return {"index": index} | bodies.problem_of_item(stale_problem(error))
        return {"index": index, "status": 201 if change is Change.ADDED else 200}

    def _wait_active(self, binding: Binding) -> bool:
        """Wait until the switches have confirmed a binding; give up with the request's time-out or a newer one."""
        deadline = time.monotonic() + self._at.settings.request_timeout
        while True:
            now = time.monotonic()
            held = self._at.offload.bindings.get(binding.home_address)
            if held is None or not held.same_path(binding):
                return False
            if self._at.offload.state_of(held, now).state == "active":
                return True
            if now >= deadline:
                return False
            self._at.changed.wait(deadline - now)

    def list_bindings(self, request: Request) -> Response:
        """Bindings by page, filtered."""
        now = time.monotonic()
        home_agent = bodies.address_filter("home_agent", request.args.get("home_agent"))
        care_of_address = bodies.address_filter("care_of_address", request.args.get("care_of_address"))
        state = request.args.get("state")
        if state not in (None, *STATES):
            raise wrong_field("state", f"expected one of {', '.join(STATES)}, got {state!r}")
        found = (
            (str(binding.home_address), binding)
            for binding in self._at.offload.bindings
            if home_agent in (None, binding.home_agent)
            and care_of_address in (None, binding.care_of_address)
            and (state is None or self._at.offload.state_of(binding, now).state == state)
        )
        counters = self._counters()
        return page_answer(request, "bindings", found, lambda binding: self._binding_view(binding, counters))

    def get_binding(self, request: Request, home_address: str) -> Response:
        """One binding."""
        return json_answer(self._binding_view(self._held(home_address), self._counters()))

    def delete_binding(self, request: Request, home_address: str) -> Response:
        """Remove one binding; the next snapshot brings it back if the home agent still holds it."""
        binding = self._held(home_address)
        self._at.offload.remove(binding.home_address, time.monotonic())
        self._at.notify()
        return Response(status=HTTPStatus.NO_CONTENT)

    def _held(self, home_address: str) -> Binding:
        binding = self._at.offload.bindings.get(bodies.prefix_in_path(home_address))
        if binding is None:
            raise Problem(HTTPStatus.NOT_FOUND, f"no binding is held for {home_address}")
        return binding

    def _binding_view(self, binding: Binding, counters: views.FlowCounters) -> dict[str, object]:
        return views.binding_view(binding, self._at.offload, counters, time.monotonic())

    def _counters(self) -> views.FlowCounters:
        """Return the switches' counters, each switch asked once."""
        read: dict[int, Mapping[FlowKey, Counters]] = {}

        def counters(dpid: int) -> Mapping[FlowKey, Counters]:
            if dpid not in read:
                channel = self._at.channels.get(dpid)
                read[dpid] = channel.counters(COUNTERS_FRESH) if channel else {}
            return read[dpid]

        return counters

    @staticmethod
    def _no_counters(dpid: int) -> Mapping[FlowKey, Counters]:
        return {}
