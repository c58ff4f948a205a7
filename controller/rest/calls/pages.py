# SPDX-License-Identifier: Apache-2.0
"""Serve the dashboard, the API's documentation, and their files.

Files are read once and served from memory: werkzeug's `send_file` would read them again for each request, and mix two
versions during an upgrade. Media types are declared here, as those of Python's `mimetypes` depend on the host.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from werkzeug.http import generate_etag
from werkzeug.wrappers import Response

from controller.access.roles import Role
from controller.rest.operations import JSON, Content, operation
from controller.rest.problems import Problem
from controller.rest.request import ApiRequest

DASHBOARD = Path(__file__).parents[2] / "dashboard"
DOCS = Path(__file__).parents[1] / "docs"
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}


def _answers(*suffixes: str) -> Mapping[HTTPStatus, tuple[Content, ...]]:
    """Return the answers of a call for files with these suffixes."""
    contents = tuple(Content(str, MEDIA_TYPES[suffix]) for suffix in suffixes)
    return {HTTPStatus.OK: contents, HTTPStatus.NOT_MODIFIED: ()}


class Files:
    """Hold files in memory, by name."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Read the files. Raises OSError if the installation is incomplete."""
        self._files = {path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix]) for path in paths}
        self._tags = {name: generate_etag(content) for name, (content, _) in self._files.items()}

    def response(self, request: ApiRequest, name: str) -> Response:
        """Return a file as an answer. Raises Problem for an unknown name.

        Clients may keep it, but must ask whether it has changed (RFC 9110 section 13.1.2): a page's files go together,
        and a new version changes several.
        """
        if name not in self._files:
            raise Problem(HTTPStatus.NOT_FOUND, f"there is no file {name[:100]!r}")
        content, media_type = self._files[name]
        response = Response(content, mimetype=media_type, headers={"Cache-Control": "no-cache"})
        response.set_etag(self._tags[name])
        response.make_conditional(request)
        return response


class PageCalls:
    """Serve the OpenAPI document, a page to read and try it, and the dashboard."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Serve `document`, the OpenAPI document."""
        self._document = msgspec.json.encode(document)
        swagger_ui = [DOCS / "swagger-ui" / f"swagger-ui{rest}" for rest in (".css", "-bundle.js")]
        icon = DOCS / "swagger-ui" / "favicon-32x32.png"
        self._docs = Files([DOCS / "index.html", DOCS / "start.js", *swagger_ui, icon])
        self._dashboard = Files([*DASHBOARD.glob("*.*"), *(DASHBOARD / "uplot").glob("*.*")])

    @operation("GET", "/openapi.json", Role.ANYONE, dict)
    def get_openapi(self, request: ApiRequest) -> Response:
        """Show this document."""
        return Response(self._document, content_type=JSON)

    @operation("GET", "/docs", Role.ANYONE, _answers(".html"))
    def get_docs(self, request: ApiRequest) -> Response:
        """Show this document as a page, where calls can be tried."""
        return self._docs.response(request, "index.html")

    @operation("GET", "/docs/{file}", Role.ANYONE, _answers(".html", ".js", ".css", ".png"), (HTTPStatus.NOT_FOUND,))
    def get_docs_file(self, request: ApiRequest, file: str) -> Response:
        """Get a file of that page."""
        return self._docs.response(request, file)

    @operation("GET", "/", Role.ANYONE, _answers(".html"))
    def get_dashboard(self, request: ApiRequest) -> Response:
        """Show the dashboard."""
        return self._dashboard.response(request, "index.html")

    @operation(
        "GET", "/dashboard/{file}", Role.ANYONE, _answers(".js", ".css", ".html", ".svg"), (HTTPStatus.NOT_FOUND,)
    )
    def get_dashboard_file(self, request: ApiRequest, file: str) -> Response:
        """Get a file of the dashboard."""
        return self._dashboard.response(request, file)
