# SPDX-License-Identifier: Apache-2.0
"""Report, list, show, explain and remove bindings."""

import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, structs, to_builtins
from werkzeug.wrappers import Response

from controller.access.roles import Caller, Role
from controller.core.admission import Refused
from controller.core.bindings import Binding, Change, StaleUpdate
from controller.core.explanation import NotCovered, explain
from controller.core.flows import FlowKey
from controller.core.traffic import Counters
from controller.core.urgency import MOST_URGENT, Urgency
from controller.rest.context import ApiContext, in_turns
from controller.rest.merging import Word, merged_binding, merged_bindings, merged_explanation, merged_results, place_of
from controller.rest.operations import Reach, operation
from controller.rest.problems import REFUSALS, Problem, problem_of
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response, page_of
from controller.rest.schemas import answers, bodies, decoding
from controller.rest.schemas.queries import LARGEST_LIMIT, BindingQuery, BindingsQuery, PostQuery
from controller.rest.views.bindings import FlowCounters, binding_view
from controller.rest.views.explanation import explanation_view, unknown_view
from controller.rest.views.values import dpid_text
from hoaflow.addresses import format_address, parse_address

# Counters younger than this, in seconds, are not read from a switch again.
COUNTERS_FRESH = 1.0
# Seconds after which a call that waits for a binding checks it again, even without an event.
LOOK_AGAIN = 0.25
REFUSED = "refused"
NEWS = frozenset(change.value for change in Change if change.is_news)


class BindingCalls:
    """Carry out the calls below `/v1/bindings`."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation(
        "POST",
        "/v1/bindings",
        Role.BRIDGE,
        {
            HTTPStatus.OK: answers.Binding | answers.BindingRemoved | answers.BatchResults,
            HTTPStatus.CREATED: answers.Binding,
            HTTPStatus.ACCEPTED: answers.Binding,
        },
        problems=(HTTPStatus.CONFLICT,),
        body=bodies.BindingsBody | bodies.BindingBody,
        query=PostQuery,
        reach=Reach.ALL,
    )
    def post_bindings(
        self, request: ApiRequest, query: PostQuery, body: bodies.BindingsBody | bodies.BindingBody
    ) -> Response:
        """Report one binding, or several with a result for each.

        Idempotent. Lifetime 0, or the home address as care-of address, removes.
        """
        if isinstance(body, bodies.BindingsBody):
            everywhere = self._context.members.by_all(request, partial(self._post_several, request, body))
            batches, _ = everywhere.said(answers.BatchResults)
            return json_response(merged_results(batches)) if batches else everywhere.response
        everywhere = self._context.members.by_all(request, partial(self._post_one, request, body, query))
        said, word = everywhere.said(answers.Binding)
        if not said:
            return everywhere.response
        merged = merged_binding(said, self._silent(request, word, said), word)
        waited_in_vain = query.wait == "active" and merged.state not in ("active", "idle")
        status = HTTPStatus.ACCEPTED if waited_in_vain else HTTPStatus(everywhere.response.status_code)
        return json_response(merged, status)

    def _post_one(self, request: ApiRequest, body: bodies.BindingBody, query: PostQuery) -> Response:
        now = time.monotonic()
        binding = body.binding(now)
        request.note({"subject": binding.home_address})
        try:
            change = self._post(request.caller, binding, now)
        except Refused:
            self._context.notify()  # the binding that it would have replaced may have been withdrawn
            raise
        self._measure(request, body, change, now)
        self._context.notify()
        request.note({"subject": binding.home_address, "change": change.value}, change.is_news)
        registrations = self._context.offload.registrations
        if registrations.at(binding.key) is None:
            return json_response(answers.BindingRemoved(str(binding.home_address)))
        status = HTTPStatus.CREATED if change is Change.ADDED else HTTPStatus.OK
        if query.wait == "active" and not self._wait_active(binding):
            status = HTTPStatus.ACCEPTED
        current = registrations.at(binding.key) or binding
        return json_response(self._binding_view(current, self._no_counters, brief=True), status)

    def _post_several(self, request: ApiRequest, body: bodies.BindingsBody) -> Response:
        now = time.monotonic()
        owner, offload = body.followed(), self._context.offload
        home_agent = None if body.last_change is None and owner is None else body.home_agent()
        if home_agent is not None:
            request.caller.check_home_agent(home_agent)
            offload.check_owner(home_agent, owner)
        changes: Counter[str] = Counter()
        results: list[answers.BatchResult] = []
        few, only = len(body.bindings) <= MOST_URGENT, len(body.bindings) == 1
        if body.one_entry:
            results += self._post_entry(request, body, now, changes)
        for items in self._context.batches(() if body.one_entry else body.bindings):
            if home_agent is not None:
                offload.check_owner(home_agent, owner)  # another may have been announced since the last batch
            urgency = Urgency.URGENT if few else Urgency.of_many(sum(changes[name] for name in NEWS))
            results += [self._post_item(request, index, raw, now, changes, urgency, only) for index, raw in items]
        offload.updated(sum(changes[name] for name in NEWS))
        if home_agent is not None and body.last_change is not None:
            offload.reported(home_agent, body.last_change, False, time.monotonic(), owner)
        self._context.notify()
        request.note({**request.outcome, **changes}, any(changes[name] for name in (*NEWS, REFUSED)))
        return json_response(answers.BatchResults(results))

    def _post_entry(
        self, request: ApiRequest, body: bodies.BindingsBody, now: float, changes: Counter[str]
    ) -> list[answers.BatchResult]:
        """Apply all bindings of one entry, or none, and count the results in `changes`. Raises Problem."""
        bindings = body.entry(now)
        try:
            for binding in bindings:
                request.caller.check_home_agent(binding.home_agent)
                request.caller.check_home_address(binding.home_address)
            applied = self._context.offload.report_entry(bindings, now)
        except REFUSALS as error:
            problem = problem_of(error)
            changes[REFUSED] += len(bindings)
            self._context.metrics.refused(problem.status, isinstance(error, StaleUpdate))
            return [
                answers.BatchResult(index, problem.status, problem.errors or UNSET) for index in range(len(bindings))
            ]
        changes.update(change.value for change in applied)
        return [
            answers.BatchResult(index, HTTPStatus.CREATED if change is Change.ADDED else HTTPStatus.OK)
            for index, change in enumerate(applied)
        ]

    def _post_item(
        self,
        request: ApiRequest,
        index: int,
        raw: msgspec.Raw,
        received: float,
        changes: Counter[str],
        urgency: Urgency,
        only: bool,
    ) -> answers.BatchResult:
        """Apply one binding of several, and count the result in `changes`. A batch of one is audited by its address."""
        now = time.monotonic()
        try:
            body = decoding.decode(raw, bodies.BindingBody)
            binding = body.binding(received)
            if only:
                request.note({"subject": binding.home_address})
            change = self._post(request.caller, binding, now, urgency)
        except REFUSALS as error:
            problem = problem_of(error)
            changes[REFUSED] += 1
            self._context.metrics.refused(problem.status, isinstance(error, StaleUpdate))
            return answers.BatchResult(index, problem.status, problem.errors or UNSET)
        changes[change.value] += 1
        self._measure(request, body, change, now)
        return answers.BatchResult(index, HTTPStatus.CREATED if change is Change.ADDED else HTTPStatus.OK)

    def _post(self, caller: Caller, binding: Binding, now: float, urgency: Urgency = Urgency.URGENT) -> Change:
        """Apply one binding. Raises Forbidden, and the errors of `Offload.report`."""
        caller.check_home_agent(binding.home_agent)
        caller.check_home_address(binding.home_address)
        return self._context.offload.report(binding, now, urgency)

    def _measure(self, request: ApiRequest, body: bodies.BindingBody, change: Change, now: float) -> None:
        """Measure the stages of an activation up to `now`, when the report was applied."""
        if change in (Change.ADDED, Change.CHANGED) and body.withheld is None:
            self._context.metrics.taken(now - request.arrived)
            if body.detected_ago is not None:
                self._context.metrics.detected(body.detected_ago)

    def _wait_active(self, binding: Binding) -> bool:
        """Wait until the switches confirm a binding, if any is asked for it.

        Return False after the time-out, or if a newer one replaces it.
        """
        deadline = time.monotonic() + self._context.settings.request_timeout
        self._context.offload.activations.announce(binding.home_address)
        while True:
            now = time.monotonic()
            current = self._context.offload.bindings.get(binding.home_address)
            if current is None or not current.same_path(binding):
                return False
            if self._context.offload.states.is_settled(current, now) or self._is_of_others(current):
                return True
            if now >= deadline:
                return False
            # Most changes name the home address; a gate that opens does not, and is rare.
            self._context.moved.wait(binding.home_address, min(LOOK_AGAIN, deadline - now))

    def _is_of_others(self, binding: Binding) -> bool:
        """Tell whether only other members are masters of routers that may be prepared for a binding."""
        return self._context.members.view.cluster is not None and not self._context.offload.states.any_prepared(
            binding.home_agent
        )

    @operation(
        "GET",
        "/v1/bindings",
        Role.READ,
        answers.Bindings,
        query=BindingsQuery,
        also=(Role.BRIDGE,),
        reach=Reach.MASTERS,
    )
    def list_bindings(self, request: ApiRequest, query: BindingsQuery) -> Response:
        """List the bindings, by page, filtered: each with the routers that carry it or have counted packets for it."""
        now = time.monotonic()
        caller = request.caller
        home_agent = decoding.address_filter("home_agent", query.home_agent) or caller.home_agent
        if home_agent is not None:
            caller.check_home_agent(home_agent)
        care_of_address = decoding.address_filter("care_of_address", query.care_of_address)
        within = None if query.home_address is UNSET else decoding.prefix_in_path(query.home_address)
        offload, members = self._context.offload, self._context.members
        # What state a binding has in a cluster is known only once its masters have been asked.
        asked = query
        if not members.is_for_this_one(request):
            limit = query.limit if query.state is UNSET else LARGEST_LIMIT
            asked = structs.replace(query, state=UNSET, limit=limit)
        found = (
            (place_of(str(home_address), binding.protocol), binding)
            for home_address in in_turns(offload.registrations.home_addresses())
            if within is None or within.contains(home_address)
            for binding in offload.registrations.all_at(home_address)
            if (query.protocol is UNSET or binding.protocol is query.protocol)
            and home_agent in (None, binding.home_agent)
            and care_of_address in (None, binding.care_of_address)
            and (asked.state is UNSET or offload.states.in_brief(binding, now).state == asked.state)
        )
        counters = self._counters()
        own = page_of(answers.Bindings, asked, found, lambda binding: self._binding_view(binding, counters, brief=True))
        if asked is query:
            return json_response(own)
        parameters = {
            **to_builtins(asked),
            **({} if home_agent is None else {"home_agent": format_address(home_agent)}),
        }
        answered = members.ask_masters(request, f"{request.path}?{urlencode(parameters)}")
        said, word = answered.said(own, answers.Bindings)
        return json_response(merged_bindings(said, query, partial(self._silent, request, word), word))

    @operation(
        "GET",
        "/v1/bindings/{home_address}",
        Role.READ,
        answers.Binding,
        (HTTPStatus.NOT_FOUND,),
        query=BindingQuery,
        also=(Role.BRIDGE,),
        reach=Reach.MASTERS,
    )
    def get_binding(self, request: ApiRequest, query: BindingQuery, home_address: str) -> Response:
        """Show one binding: of those by several protocols, the one that takes the packets."""
        prefix, offload = decoding.prefix_in_path(home_address), self._context.offload
        asked = query.protocol
        held = offload.binding(prefix) if asked is UNSET else offload.registrations.at((asked, prefix))
        own = None if held is None else self._binding_view(held, self._counters())
        said, word = self._context.members.ask_masters(request).said(own, answers.Binding)
        if not said:
            raise _not_held(home_address)
        return json_response(merged_binding(said, self._prepared(request, said), word))

    @operation(
        "GET",
        "/v1/bindings/{home_address}/explain",
        Role.READ,
        answers.Explanation,
        (HTTPStatus.NOT_FOUND,),
        also=(Role.BRIDGE,),
        reach=Reach.MASTERS,
    )
    def explain_binding(self, request: ApiRequest, home_address: str) -> Response:
        """Explain which path the packets for a home address take, since when and why, and what would change it."""
        prefix, now = decoding.prefix_in_path(home_address), time.monotonic()
        own, why_not = None, ""
        try:
            found = explain(self._context.offload, prefix, now)
            own = explanation_view(prefix, found, self._context.offload, self._counters(), now)
        except NotCovered as error:
            why_not = str(error)
        said, word = self._context.members.ask_masters(request).said(own, answers.Explanation)
        if not said:
            raise Problem(HTTPStatus.NOT_FOUND, why_not)
        home_agents = {member: each.home_agent for member, each in said.items()}
        unknown = {
            dpid: unknown_view(self._context.offload.router(int(dpid, 16)), word.why_unknown(dpid))
            for dpid in self._prepared(request, home_agents)
        }
        return json_response(merged_explanation(said, unknown, word))

    @operation(
        "DELETE",
        "/v1/bindings/{home_address}",
        Role.ADMIN,
        {HTTPStatus.NO_CONTENT: ()},
        (HTTPStatus.NOT_FOUND,),
        reach=Reach.ALL,
    )
    def delete_binding(self, request: ApiRequest, home_address: str) -> Response:
        """Remove one binding; the next snapshot brings it back if the home agent still holds it."""
        act = partial(self._delete, request, home_address)
        return self._context.members.by_all(request, act).response

    def _delete(self, request: ApiRequest, home_address: str) -> Response:
        binding = self._context.offload.binding(decoding.prefix_in_path(home_address))
        if binding is None:
            raise _not_held(home_address)
        request.note({"subject": binding.home_address})
        self._context.offload.remove(binding.home_address, time.monotonic())
        self._context.notify()
        return Response(status=HTTPStatus.NO_CONTENT)

    def _prepared(self, request: ApiRequest, said: Mapping[str, answers.Binding | answers.HomeAgent]) -> list[str]:
        """Return the routers, of whichever member, whose agents serve the home agent of what members say.

        None for a call that is for this member.
        """
        offload = self._context.offload
        home_agent = offload.home_agents.get(parse_address(next(iter(said.values())).home_agent))
        if home_agent is None or self._context.members.is_for_this_one(request):
            return []
        return [dpid_text(dpid) for dpid, router in offload.routers.items() if router.has_backend_for(home_agent)]

    def _silent(self, request: ApiRequest, word: Word, said: Mapping[str, answers.Binding]) -> list[str]:
        """Return those of the prepared routers whose masters have said nothing of a binding.

        A master that answers in brief leaves out its on-demand routers that see no packets of the binding.
        """
        return [dpid for dpid in self._prepared(request, said) if word.master(dpid) not in said]

    def _binding_view(self, binding: Binding, counters: FlowCounters, brief: bool = False) -> answers.Binding:
        return binding_view(binding, self._context.offload, counters, time.monotonic(), brief)

    def _counters(self) -> FlowCounters:
        """Return a function that returns a switch's counters, and asks each switch once."""
        read: dict[int, Mapping[FlowKey, Counters]] = {}

        def counters(dpid: int) -> Mapping[FlowKey, Counters]:
            if dpid not in read:
                channel = self._context.channels.get(dpid)
                read[dpid] = channel.counters(COUNTERS_FRESH) if channel else {}
            return read[dpid]

        return counters

    @staticmethod
    def _no_counters(dpid: int) -> Mapping[FlowKey, Counters]:
        return {}


def _not_held(home_address: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, f"no binding is held for {home_address}")
