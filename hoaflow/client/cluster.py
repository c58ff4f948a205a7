# SPDX-License-Identifier: Apache-2.0
"""Ask a controller which members its cluster has, and resolve the names of controllers."""

import socket
from typing import Any
from urllib.parse import urlsplit

from hoaflow.client.access import controller_url
from hoaflow.client.client import Northbound, json_of, problem_detail
from hoaflow.client.directory import ClusterView
from hoaflow.client.errors import NorthboundError
from hoaflow.logs import Log

LOG = Log("northbound")

TIMEOUT = (1.0, 2.0)  # seconds to connect, and to answer


def ask_cluster(controller: Northbound) -> ClusterView:
    """Return what a controller says of its cluster; one of version 0.1 knows of none. Raises NorthboundError."""
    call = f"GET {controller.url}/v1/cluster"
    answer = controller.request("GET", "/v1/cluster", TIMEOUT, params={"routers": "no"})
    if answer.status_code == 404:
        return ClusterView()
    if answer.status_code != 200:
        raise NorthboundError(f"{call}: {answer.status_code} {problem_detail(answer)}")
    try:
        return _view(json_of(answer))
    except (KeyError, TypeError, ValueError) as error:
        raise NorthboundError(f"{call}: expected the cluster and its members, got {answer.text[:100]!r}") from error


def resolve(url: str) -> tuple[str, ...]:
    """Return the addresses of the name in a URL, the preferred ones first; none, and a warning, if there are none.

    It takes as long as the system's resolver does.
    """
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except OSError as error:
        LOG.warning("name-unresolved", controller=url, reason=error)
        return ()
    return tuple(str(address[0]) for *_, address in found)


def _view(answer: Any) -> ClusterView:
    """Return the view in an answer. Raises KeyError, TypeError or ValueError for one of another form."""
    if answer["cluster"] is None:
        return ClusterView()
    urls = {str(member["name"]): member["url"] for member in answer["members"]}
    known = {name: controller_url(str(url)) for name, url in urls.items() if url is not None}
    return ClusterView(str(answer["cluster"]), str(answer["member"]), known)
