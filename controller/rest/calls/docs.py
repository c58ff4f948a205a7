# SPDX-License-Identifier: Apache-2.0
"""The calls that explain the API itself."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from werkzeug.wrappers import Request, Response

from controller.rest.calls.static_files import CONDITIONAL, StaticFiles
from controller.rest.operations import JSON, Content, Role, operation

PAGE = Path(__file__).parents[1] / "docs"
FILES = (
    PAGE / "index.html",
    PAGE / "start.js",
    *(PAGE / "swagger-ui" / name for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")),
)
MEDIA_TYPES = ("text/html", "text/javascript", "text/css", "image/png")


class DocsCalls:
    """The OpenAPI document, and a page to read and try it."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """``document``: OpenAPI's."""
        self._document = msgspec.json.encode(document)
        self._files = StaticFiles(FILES)

    @operation("GET", "/openapi.json", Role.ANYONE, dict)
    def get_openapi(self, request: Request) -> Response:
        """Show this document."""
        return Response(self._document, content_type=JSON)

    @operation("GET", "/docs", Role.ANYONE, {HTTPStatus.OK: (Content(str, "text/html"),), **CONDITIONAL})
    def get_docs(self, request: Request) -> Response:
        """Show this document as a page, where calls can be tried."""
        return self._files.answer(request, "index.html")

    @operation(
        "GET",
        "/docs/{file}",
        Role.ANYONE,
        {HTTPStatus.OK: tuple(Content(str, media_type) for media_type in MEDIA_TYPES), **CONDITIONAL},
        (HTTPStatus.NOT_FOUND,),
    )
    def get_docs_file(self, request: Request, file: str) -> Response:
        """Get a file of that page."""
        return self._files.answer(request, file)
