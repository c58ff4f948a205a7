# SPDX-License-Identifier: Apache-2.0
"""The calls that ask for the controller itself."""

import time
from http import HTTPStatus

from werkzeug.wrappers import Request, Response

from controller.core.addresses import format_address
from controller.rest import answers
from controller.rest.calls import Controlled, json_answer
from controller.rest.operations import Role, operation
from controller.rest.problems import Problem


class ProbeCalls:
    """Liveness and readiness."""

    def __init__(self, controlled: Controlled) -> None:
        self._at = controlled

    @operation("GET", "/healthz", Role.ANYONE, answers.Health)
    def get_health(self, request: Request) -> Response:
        """Tell that the process lives."""
        return json_answer(answers.Health())

    @operation("GET", "/readyz", Role.ANYONE, answers.Readiness, problems=(HTTPStatus.SERVICE_UNAVAILABLE,))
    def get_readiness(self, request: Request) -> Response:
        """Tell whether a switch is connected, and no announced home agent's lease has lapsed or lacks its snapshot."""
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
        return json_answer(answers.Readiness())
