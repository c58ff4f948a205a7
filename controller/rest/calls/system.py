# SPDX-License-Identifier: Apache-2.0
"""The calls that ask for the controller itself."""

import time
from http import HTTPStatus

from werkzeug.wrappers import Request, Response

from controller.core.readiness import Missing, readiness
from controller.rest.context import ApiContext, json_answer
from controller.rest.operations import Role, operation
from controller.rest.problems import Problem
from controller.rest.schemas import answers
from controller.rest.schemas.answers import FieldError
from controller.rest.views.values import dpid_text
from hoaflow.addresses import format_address


class ProbeCalls:
    """Liveness and readiness."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation("GET", "/healthz", Role.ANYONE, answers.Health)
    def get_health(self, request: Request) -> Response:
        """Tell that the process lives."""
        return json_answer(answers.Health())

    @operation("GET", "/readyz", Role.ANYONE, answers.Readiness, problems=(HTTPStatus.SERVICE_UNAVAILABLE,))
    def get_readiness(self, request: Request) -> Response:
        """Tell whether every lease is held, and every switch that is not drained connected, in step and its gates
        open; if not, what is missing. A controller that is not ready still has to be reached by those who can change
        that."""
        now = time.monotonic()
        behind = {dpid: ch.behind_since for dpid, ch in self._context.channels.items() if ch.behind_since is not None}
        found = readiness(self._context.offload, behind, self._context.settings.answer_within, now)
        if found.missing:
            errors = tuple(FieldError(_subject(each), each.reason.text) for each in found.missing)
            detail = "; ".join(f"{error.field}: {error.reason}" for error in errors)
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, errors)
        return json_answer(answers.Readiness("ready", found.home_agents, found.routers))


def _subject(missing: Missing) -> str:
    """What is missing something, as the path of its call says it."""
    if isinstance(missing.subject, bytes):
        return f"home-agents/{format_address(missing.subject)}"
    return "routers" if missing.subject is None else f"routers/{dpid_text(missing.subject)}"
