# SPDX-License-Identifier: Apache-2.0
"""Refusals as RFC 9457 problem details."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import UNSET
from werkzeug.wrappers import Response

from controller.rest.schemas.answers import FieldError, ProblemDetails
from hoaflow.errors import HoaflowError

MEDIA_TYPE = "application/problem+json"


class Problem(HoaflowError):
    """A request that is answered with ``status`` and a problem+json body."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers

    def body(self) -> ProblemDetails:
        """Return the problem's members (RFC 9457 section 3.1), with ``errors`` by field as an extension."""
        return ProblemDetails(self.status.phrase, int(self.status), self.detail, errors=self.errors or UNSET)

    def response(self) -> Response:
        """Return the HTTP answer."""
        return Response(
            msgspec.json.encode(self.body()), status=self.status, headers=self.headers, content_type=MEDIA_TYPE
        )


def wrong_field(field: str, reason: str) -> Problem:
    """Return the refusal of one field's type or value."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {reason}", (FieldError(field, reason),))
