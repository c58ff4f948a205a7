# SPDX-License-Identifier: Apache-2.0
"""Answer probes, and show metrics and traffic."""

import time
from http import HTTPStatus

from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.core.readiness import NotReady, readiness
from controller.core.traffic import DOWNLINK, UPLINK
from controller.events import rfc3339
from controller.rest.context import ApiContext
from controller.rest.operations import Content, operation
from controller.rest.problems import Problem
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response, page_response
from controller.rest.schemas import answers
from controller.rest.schemas.queries import PageQuery
from controller.rest.views.values import dpid_text
from controller.traffic_history import Sample
from hoaflow.addresses import format_address

PROMETHEUS = (Content(str, "text/plain"), Content(str, "application/openmetrics-text"))


class SystemCalls:
    """Carry out the calls on the controller itself: probes, metrics, and traffic over time."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation("GET", "/healthz", Role.ANYONE, answers.Health)
    def get_health(self, request: ApiRequest) -> Response:
        """Tell that the process lives."""
        return json_response(answers.Health())

    @operation("GET", "/readyz", Role.ANYONE, answers.Readiness, problems=(HTTPStatus.SERVICE_UNAVAILABLE,))
    def get_readiness(self, request: ApiRequest) -> Response:
        """Tell whether the controller does all its work, and what is missing if it does not.

        It does when every lease is held, and every switch that is not drained is connected, in step and has its gates
        open, and no other controller has its name in the cluster. A switch that it has just left to another controller
        of the cluster may be on its way back. A controller that is not ready still has to be reached by those who can
        change that.
        """
        now = time.monotonic()
        behind = {
            dpid: channel.behind_since
            for dpid, channel in self._context.channels.items()
            if channel.behind_since is not None
        }
        found = readiness(self._context.offload, behind, self._context.settings.answer_within, now)
        errors = tuple(answers.FieldError(_subject(each), each.reason.text) for each in found.missing)
        view = self._context.members.view
        if view.name_taken:
            errors += (answers.FieldError("member", f"another controller of the cluster has the name {view.member}"),)
        if errors:
            detail = "; ".join(f"{error.field}: {error.reason}" for error in errors)
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, errors)
        return json_response(answers.Readiness("ready", found.home_agents, found.routers))

    @operation("GET", "/metrics", Role.READ, {HTTPStatus.OK: PROMETHEUS})
    def get_metrics(self, request: ApiRequest) -> Response:
        """Show the metrics, as text for Prometheus."""
        content, media_type = self._context.metrics.text(request.headers.get("Accept", ""))
        return Response(content, content_type=media_type)

    @operation("GET", "/v1/traffic", Role.READ, answers.TrafficSamples, query=PageQuery)
    def list_traffic(self, request: ApiRequest, query: PageQuery) -> Response:
        """List the bytes that all routers had carried past the home agents, by page, oldest first.

        There is a sample for every 10 seconds of the last hour.
        """
        found = ((rfc3339(sample.time), sample) for sample in self._context.traffic)
        return page_response(answers.TrafficSamples, query, found, _sample_view)


def _subject(missing: NotReady) -> str:
    """Return the subject of what is missing, as in the path of its call."""
    if isinstance(missing.subject, bytes):
        return f"home-agents/{format_address(missing.subject)}"
    return "routers" if missing.subject is None else f"routers/{dpid_text(missing.subject)}"


def _sample_view(sample: Sample) -> answers.TrafficSample:
    return answers.TrafficSample(rfc3339(sample.time), sample.bytes[DOWNLINK], sample.bytes[UPLINK])
