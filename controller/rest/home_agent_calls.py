# SPDX-License-Identifier: Apache-2.0
"""The calls on home agents: announcement, lease and snapshot."""

import time
from operator import itemgetter

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from controller.core.addresses import format_address
from controller.core.bindings import Binding
from controller.rest import bodies, views
from controller.rest.calls import Controlled, json_answer, page_answer
from controller.rest.problems import Problem, wrong_field


class HomeAgentCalls:
    """What a bridge calls, and the list of home agents."""

    def __init__(self, controlled: Controlled) -> None:
        self._at = controlled

    def rules(self) -> list[Rule]:
        """Return where each call is."""
        return [
            Rule("/v1/home-agents", methods=["GET"], endpoint=self.list_home_agents),
            Rule("/v1/home-agents/<address>", methods=["PUT"], endpoint=self.put_home_agent),
            Rule("/v1/home-agents/<address>/bindings", methods=["PUT"], endpoint=self.put_snapshot),
        ]

    def list_home_agents(self, request: Request) -> Response:
        """Home agents by page."""
        found = ((format_address(agent.address), agent) for agent in self._at.offload.home_agents)
        now = time.monotonic()
        return page_answer(
            request, "home_agents", found, lambda agent: views.home_agent_view(agent, self._at.offload, now)
        )

    def put_home_agent(self, request: Request, address: str) -> Response:
        """A bridge announces its home agent and renews its lease. Idempotent."""
        body = bodies.decode(self._at.body(request), bodies.HomeAgentBody)
        if body.lease > self._at.settings.longest_lease:
            longest = self._at.settings.longest_lease
            raise wrong_field("lease", f"expected at most {longest} seconds (longest_lease), got {body.lease}")
        now = time.monotonic()
        home_agent = self._at.offload.announce(
            bodies.address_in_path(address), body.prefixes(), body.lease, body.core_status(), now
        )
        self._at.notify()
        return json_answer(views.home_agent_view(home_agent, self._at.offload, now))

    def put_snapshot(self, request: Request, address: str) -> Response:
        """The whole binding cache of one home agent. Idempotent."""
        several = bodies.decode(self._at.body(request), bodies.BindingsBody)
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
        result = self._at.offload.snapshot(home_agent, bindings, now)
        self._at.notify()
        for place, binding, error in result.refused:
            item = bodies.problem_of_item(wrong_field(error.field, error.reason))
            refused.append({"index": places[place], "home_address": str(binding.home_address)} | item)
        return json_answer(
            {
                "added": result.added,
                "changed": result.changed,
                "removed": result.removed,
                "unchanged": result.unchanged,
                "refused": sorted(refused, key=itemgetter("index")),
            }
        )
