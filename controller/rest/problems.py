# SPDX-License-Identifier: Apache-2.0
"""Answer refusals with problem details (RFC 9457) in JSON, where werkzeug's own exceptions answer in HTML."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from controller.access.roles import Forbidden
from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import StaleUpdate
from controller.core.home_agents import PrefixesOverlap
from controller.core.owners import AnotherOwner
from controller.core.routers import UnknownRouter
from controller.core.snapshots import Superseded
from controller.rest.schemas.answers import FieldError, ProblemDetails
from hoaflow.errors import HoaflowError

MEDIA_TYPE = "application/problem+json"
# Errors that `problem_of` turns into a Problem.
REFUSALS = (
    HTTPException,
    AnotherOwner,
    Forbidden,
    NotAnnounced,
    PrefixesOverlap,
    Refused,
    StaleUpdate,
    Superseded,
    UnknownRouter,
)


class Problem(HoaflowError, HTTPException):
    """A request is refused with `status`; `errors` says which fields are wrong."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = int(status)
        self.status = status
        self.detail = detail
        self.errors = errors
        self._headers = headers or {}

    def document(self) -> bytes:
        """Return the problem's members (RFC 9457 section 3.1) as JSON, with `errors` by field as an extension."""
        details = ProblemDetails(self.status.phrase, int(self.status), self.detail, errors=self.errors or UNSET)
        return msgspec.json.encode(details)

    def get_response(self, environ: Any = None, scope: Any = None) -> Response:
        """Return the answer to the refused request."""
        response = Response(self.document(), self.code, content_type=MEDIA_TYPE)
        response.headers.extend(self._headers)
        return response


def problem_of(error: Exception) -> Problem:
    """Return the Problem for one of `REFUSALS`; raise any other error again."""
    match error:
        case Problem():
            return error
        case Forbidden(field=field, reason=reason):
            return Problem(HTTPStatus.FORBIDDEN, str(error), (FieldError(field, reason),))
        case Refused(field=field, reason=reason):
            return wrong_field(field, reason)
        case StaleUpdate(field=field):
            return Problem(HTTPStatus.CONFLICT, str(error), (FieldError(field, str(error)),))
        case PrefixesOverlap():
            return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("home_prefixes", str(error)),))
        case AnotherOwner():
            return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("owner", str(error)),))
        case Superseded():
            return Problem(HTTPStatus.CONFLICT, str(error))
        case NotAnnounced() | UnknownRouter():
            return Problem(HTTPStatus.NOT_FOUND, str(error))
        case HTTPException():
            status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
            return Problem(status, error.description or status.phrase)
        case _:
            raise error


def wrong_field(field: str, reason: str) -> Problem:
    """Return the Problem of one field's type or value."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {reason}", (FieldError(field, reason),))
