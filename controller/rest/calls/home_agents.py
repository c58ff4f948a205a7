# SPDX-License-Identifier: Apache-2.0
"""Announce home agents, renew their leases, and take snapshots."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from operator import attrgetter

from msgspec import UNSET, structs
from werkzeug.wrappers import Response

from controller.access.roles import Forbidden, Role
from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import Binding, Change, StaleUpdate
from controller.core.urgency import Urgency
from controller.rest.context import ApiContext
from controller.rest.operations import Reach, operation
from controller.rest.problems import Problem, problem_of, wrong_field
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response, page_response
from controller.rest.schemas import answers, bodies, decoding
from controller.rest.schemas.queries import HomeAgentsQuery
from controller.rest.views.bindings import home_agent_view
from hoaflow.addresses import format_address

# What a bulk update counts.
COUNTED = answers.BulkUpdated.__struct_fields__


class HomeAgentCalls:
    """Carry out the calls below `/v1/home-agents`."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation("GET", "/v1/home-agents", Role.READ, answers.HomeAgents, query=HomeAgentsQuery, also=(Role.BRIDGE,))
    def list_home_agents(self, request: ApiRequest, query: HomeAgentsQuery) -> Response:
        """List the home agents, by page, filtered."""
        own = request.caller.home_agent
        now = time.monotonic()
        visible = (agent for agent in self._context.offload.home_agents if own in (None, agent.address))
        shown = (home_agent_view(agent, self._context.offload, now) for agent in visible)
        found = ((each.home_agent, each) for each in shown if query.status in (UNSET, each.status))
        return page_response(answers.HomeAgents, query, found, lambda each: each)

    @operation(
        "PUT",
        "/v1/home-agents/{address}",
        Role.BRIDGE,
        answers.HomeAgent,
        problems=(HTTPStatus.CONFLICT,),
        body=bodies.HomeAgentBody,
    )
    def put_home_agent(self, request: ApiRequest, body: bodies.HomeAgentBody, address: str) -> Response:
        """Announce a home agent, or renew its bridge's lease.

        Idempotent.
        """
        if body.lease > self._context.settings.longest_lease:
            longest = self._context.settings.longest_lease
            raise wrong_field("lease", f"expected at most {longest} seconds (longest_lease), got {body.lease}")
        now = time.monotonic()
        packed, prefixes, status = decoding.address_in_path(address), body.prefixes(), body.status
        caller = request.caller
        for index, prefix in enumerate(prefixes):
            caller.check_home_address(prefix, f"home_prefixes[{index}]")
        offload = self._context.offload
        home_agent, change = offload.announce(
            packed, prefixes, body.lease, status, now, body.last_change, body.protocols, body.group, body.followed()
        )
        request.note({"status": status.value, "home_prefixes": ",".join(map(str, prefixes))}, change.is_news)
        self._context.notify()
        return json_response(home_agent_view(home_agent, self._context.offload, now))

    @operation(
        "PUT",
        "/v1/home-agents/{address}/bindings",
        Role.BRIDGE,
        answers.SnapshotTaken,
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
        body=bodies.BindingsBody,
        late_body=True,
    )
    def put_snapshot(self, request: ApiRequest, body: Callable[[], bodies.BindingsBody], address: str) -> Response:
        """Replace the bindings of a home agent by its whole binding cache as of when the request began.

        What is reported of a home address meanwhile is newer, and stays. Idempotent. 409 if a newer snapshot of the
        same home agent came meanwhile, which counts instead.
        """
        home_agent = decoding.address_in_path(address)
        caller, began = request.caller, time.monotonic()
        refused: list[answers.RefusedItem] = []
        with self._context.offload.snapshot(home_agent, began) as snapshot:
            taken = body()
            snapshot.owner = taken.followed()
            for items in self._context.batches(taken.bindings):
                bindings: list[tuple[int, Binding]] = []
                for index, raw in items:
                    try:
                        binding = decoding.decode(raw, bodies.BindingBody).binding(began, home_agent)
                        caller.check_home_agent(binding.home_agent)
                        caller.check_home_address(binding.home_address)
                    except Problem as problem:
                        refused.append(answers.RefusedItem(index, problem.status, problem.errors))
                    except Forbidden as forbidden:
                        refusal, place = problem_of(forbidden), str(binding.home_address)
                        refused.append(answers.RefusedItem(index, refusal.status, refusal.errors, place))
                    else:
                        bindings.append((index, binding))
                snapshot.take_in(bindings, time.monotonic())
            while not snapshot.complete(time.monotonic()):
                self._context.pause()
        if taken.last_change is not None:
            self._context.offload.reported(home_agent, taken.last_change, True, time.monotonic(), taken.followed())
        self._context.notify()
        result = snapshot.result
        for index, binding, error in result.refused:
            refusal = wrong_field(error.field, error.reason)
            refused.append(answers.RefusedItem(index, refusal.status, refusal.errors, str(binding.home_address)))
        counts = {"added": result.added, "changed": result.changed, "removed": result.removed, "refused": len(refused)}
        request.note(counts, any(counts.values()))
        return json_response(
            answers.SnapshotTaken(
                result.added,
                result.changed,
                result.removed,
                result.unchanged,
                sorted(refused, key=attrgetter("index")),
            )
        )

    @operation(
        "POST",
        "/v1/home-agents/{address}/bindings",
        Role.BRIDGE,
        answers.BulkUpdated,
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
        body=bodies.BulkUpdateBody,
        reach=Reach.ALL,
    )
    def post_bulk_update(self, request: ApiRequest, body: bodies.BulkUpdateBody, address: str) -> Response:
        """End, renew or move all bindings of a home agent at one care-of address, by one message.

        Idempotent. Each is updated as by a report of its own, which other reports may come between.
        """
        return self._context.members.by_all(request, partial(self._bulk_update, request, body, address)).response

    def _bulk_update(self, request: ApiRequest, body: bodies.BulkUpdateBody, address: str) -> Response:
        home_agent, began = decoding.address_in_path(address), time.monotonic()
        request.caller.check_home_agent(home_agent)
        offload = self._context.offload
        if offload.home_agents.get(home_agent) is None:
            raise NotAnnounced(home_agent)
        here, changes = body.here(), body.changes(began)
        concerned = offload.registrations.bound_to(here, home_agent, body.protocol)
        counts = Counter[str]()
        for items in self._context.batches(concerned):
            offload.check_owner(home_agent, body.followed())
            urgency, now = Urgency.of_many(counts["changed"] + counts["removed"]), time.monotonic()
            for _, held in items:
                if offload.registrations.at(held.key) is not held:
                    counts["newer"] += 1  # a report has come in between
                    continue
                update = structs.replace(held, **changes)
                counts[self._update(update, now, urgency, ordered=body.timestamp is not None)] += 1
        offload.updated(counts["changed"] + counts["removed"])
        if body.last_change is not None:
            offload.reported(home_agent, body.last_change, False, time.monotonic(), body.followed())
        self._context.notify()
        subject = {"care_of_address": format_address(here), **counts}
        request.note(subject, counts["changed"] + counts["removed"] > 0)
        return json_response(answers.BulkUpdated(**{name: counts[name] for name in COUNTED}))

    def _update(self, update: Binding, now: float, urgency: Urgency, ordered: bool) -> str:
        """Apply one update of many; return the name of the field of the answer that counts it."""
        try:
            change = self._context.offload.report(update, now, urgency, ordered)
        except StaleUpdate:
            return "newer"
        except Refused:
            return "refused"
        return change.value if change in (Change.CHANGED, Change.REMOVED) else "unchanged"
