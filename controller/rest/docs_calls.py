# SPDX-License-Identifier: Apache-2.0
"""The calls that explain the API itself."""

from collections.abc import Mapping
from typing import Any

import msgspec
from werkzeug.wrappers import Request, Response

from controller.rest.operations import JSON, Role, operation


class DocsCalls:
    """The OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """``document``: OpenAPI's."""
        self._document = msgspec.json.encode(document)

    @operation("GET", "/openapi.json", Role.ANYONE, dict)
    def get_openapi(self, request: Request) -> Response:
        """Show this document."""
        return Response(self._document, content_type=JSON)
