# SPDX-License-Identifier: Apache-2.0
"""Show the cluster."""

from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.rest.context import ApiContext
from controller.rest.operations import operation
from controller.rest.request import ApiRequest
from controller.rest.responses import json_response
from controller.rest.schemas import answers
from controller.rest.schemas.queries import ClusterQuery
from controller.rest.views.cluster import cluster_view
from hoaflow.addresses import format_endpoint


class ClusterCalls:
    """Carry out the call `/v1/cluster`."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    @operation(
        "GET",
        "/v1/cluster",
        Role.READ,
        answers.Cluster,
        query=ClusterQuery,
        also=(Role.BRIDGE, Role.ROUTER, Role.MEMBER),
    )
    def get_cluster(self, request: ApiRequest, query: ClusterQuery) -> Response:
        """Show the members of the cluster, and which of them is master of each router, since when and why.

        A controller without a cluster is its one member. Bridges and tunnel agents learn here where the others are.
        """
        environ = request.environ
        address = format_endpoint(environ["SERVER_NAME"], int(environ["SERVER_PORT"]))
        return json_response(cluster_view(self._context.members.view, address, query.routers == "yes"))
