# SPDX-License-Identifier: Apache-2.0
"""The call that Prometheus makes."""

from http import HTTPStatus

from werkzeug.wrappers import Request, Response

from controller.rest.context import ApiContext
from controller.rest.operations import Content, Role, operation


class MetricsCalls:
    """Metrics."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation(
        "GET",
        "/metrics",
        Role.READ,
        {HTTPStatus.OK: (Content(str, "text/plain"), Content(str, "application/openmetrics-text"))},
    )
    def get_metrics(self, request: Request) -> Response:
        """Show the metrics, as text for Prometheus."""
        content, media_type = self._context.metrics.text(request.headers.get("Accept", ""))
        return Response(content, content_type=media_type)
