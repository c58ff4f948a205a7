# SPDX-License-Identifier: Apache-2.0
"""Refusals as problem details (RFC 9457): werkzeug's exceptions, whose own answers are in HTML, with a body in JSON."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import UNSET
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from controller.access.roles import Forbidden
from controller.core.admission import NotAnnounced, Refused
from controller.core.bindings import StaleSequence
from controller.core.home_agents import PrefixesOverlap
from controller.core.routers import UnknownRouter
from controller.core.snapshots import Superseded
from controller.rest.schemas.answers import FieldError, ProblemDetails
from hoaflow.errors import HoaflowError

MEDIA_TYPE = "application/problem+json"
# What ``problem_of`` knows the answer to.
REFUSALS = (HTTPException, Forbidden, NotAnnounced, PrefixesOverlap, Refused, StaleSequence, Superseded, UnknownRouter)


class Problem(HoaflowError, HTTPException):
    """A request is refused with ``status``; ``errors`` says which fields are wrong."""

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
        """Return the answer."""
        response = Response(self.document(), self.code, content_type=MEDIA_TYPE)
        response.headers.extend(self._headers)
        return response


def problem_of(error: Exception) -> Problem:
    """Return the problem to answer one of ``REFUSALS`` with; raise anything else again."""
    match error:
        case Problem():
            return error
        case Forbidden(field=field, reason=reason):
            return Problem(HTTPStatus.FORBIDDEN, str(error), (FieldError(field, reason),))
        case Refused(field=field, reason=reason):
            return wrong_field(field, reason)
        case StaleSequence():
            return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("sequence", str(error)),))
        case PrefixesOverlap():
            return Problem(HTTPStatus.CONFLICT, str(error), (FieldError("home_prefixes", str(error)),))
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
    """Return the refusal of one field's type or value."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{field}: {reason}", (FieldError(field, reason),))
