# SPDX-License-Identifier: Apache-2.0
"""The calls that ask for the controller itself."""

import time
from http import HTTPStatus

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from controller.core.addresses import format_address
from controller.rest.calls import Controlled, json_answer
from controller.rest.problems import Problem


class ProbeCalls:
    """Liveness and readiness."""

    def __init__(self, controlled: Controlled) -> None:
        self._at = controlled

    def rules(self) -> list[Rule]:
        """Return where each call is."""
        return [
            Rule("/healthz", methods=["GET"], endpoint=self.health),
            Rule("/readyz", methods=["GET"], endpoint=self.ready),
        ]

    def health(self, request: Request) -> Response:
        """The process lives."""
        return json_answer({"status": "ok"})

    def ready(self, request: Request) -> Response:
        """Ready: a switch is connected, and no announced home agent's lease has lapsed or lacks its snapshot."""
        now = time.monotonic()
        reasons = [
            f"home agent {format_address(agent.address)}: "
            + ("no snapshot yet" if agent.lease_held(now) else "its bridge's lease has lapsed")
            for agent in self._at.offload.home_agents
            if not agent.may_offload(now)
        ]
        if not any(router.connected for router in self._at.offload.routers.values()):
            reasons.append("no switch is connected")
        if reasons:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "; ".join(reasons))
        return json_answer({"status": "ready"})
