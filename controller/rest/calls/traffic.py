# SPDX-License-Identifier: Apache-2.0
"""The call that tells how much home agents have been spared."""

from werkzeug.wrappers import Request, Response

from controller.core.traffic import DOWNLINK, UPLINK
from controller.events import rfc3339
from controller.rest.context import ApiContext, page_answer
from controller.rest.operations import Role, operation
from controller.rest.schemas import answers
from controller.rest.schemas.queries import PageQuery
from controller.traffic_history import Sample


class TrafficCalls:
    """Traffic over time."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation("GET", "/v1/traffic", Role.READ, answers.TrafficSamples, query=PageQuery)
    def list_traffic(self, request: Request, query: PageQuery) -> Response:
        """List what all routers together had carried past the home agents, every 10 seconds of the last hour, by page,
        oldest first."""
        found = ((rfc3339(sample.time), sample) for sample in self._context.traffic)
        return page_answer(answers.TrafficSamples, query, found, _view)


def _view(sample: Sample) -> answers.TrafficSample:
    return answers.TrafficSample(rfc3339(sample.time), sample.bytes[DOWNLINK], sample.bytes[UPLINK])
