# SPDX-License-Identifier: Apache-2.0
"""Hold a request, with what the API learns of it on the way to the answer.

The body is read here because werkzeug's `max_content_length` truncates a chunked body at the limit instead of refusing
it, and does not limit the time that a body takes.
"""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

import eventlet
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Request

from controller.access.roles import Caller
from controller.rest.http.connections import HUNG_UP
from controller.rest.problems import Problem, wrong_field

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class ApiRequest(Request):
    """A request with its caller, once that is known, and with the fields of its audit line."""

    def __init__(self, environ: "WSGIEnvironment") -> None:
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            environ["wsgi.input_terminated"] = True  # by eventlet's input
        # No way back from the environment to the request: in such a circle the body waits for a full look for garbage.
        super().__init__(environ, populate_request=False)
        self.arrived = time.monotonic()
        self.received = b""  # the body, once it has been read
        self.known_caller: Caller | None = None
        # Tells whether the admitted caller still has its rights, for answers without end.
        self.still_authorized: Callable[[], bool] = lambda: False
        # For the audit: the home agent in the path, the outcome of the call, and whether it changed anything.
        self.home_agent: str | None = None
        self.outcome: Mapping[str, object] = {}
        self.changed = True

    @property
    def caller(self) -> Caller:
        """Return the caller of an admitted request."""
        assert self.known_caller is not None, "set before the call is carried out"
        return self.known_caller

    @property
    def target(self) -> str:
        """Return path and query as they are sent on."""
        query = self.query_string.decode("latin-1")
        return quote(self.path, safe="/:") + (f"?{query}" if query else "")

    def fields_of_query(self) -> MultiDict[str, str]:
        """Return the fields of the query. Raises Problem if it has bytes as such that are not UTF-8."""
        try:
            return self.args
        except UnicodeDecodeError as error:
            raise wrong_field("query", f"expected UTF-8, percent-encoded: {error}") from None

    @property
    def is_abandoned(self) -> bool:
        """Tell whether the client has hung up already, and so waits for no answer."""
        return HUNG_UP in self.environ and bool(self.environ[HUNG_UP]())

    def note(self, outcome: Mapping[str, object], changed: bool = True) -> None:
        """Record the outcome for the audit; `changed` is false for a mere renewal."""
        self.outcome, self.changed = outcome, changed

    def body(self, largest: int, seconds: float) -> bytes:
        """Return the body. Raises Problem if it is too large, too late, or malformed."""
        if (self.content_length or 0) > largest:
            raise _too_large(largest)
        try:
            with eventlet.Timeout(seconds):
                # One byte more than allowed shows that a body of unknown length is too large. Not always so many: a
                # read allocates what it asks for.
                body = self.stream.read(largest + 1 if self.content_length is None else self.content_length)
        except (eventlet.Timeout, TimeoutError):
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {seconds} s") from None
        except (OSError, ValueError) as error:  # of eventlet, for a wrong chunk or a connection that ends in one
            raise Problem(HTTPStatus.BAD_REQUEST, f"the body can't be read: {error}") from None
        if len(body) > largest:
            raise _too_large(largest)
        self.received = body
        return body


def _too_large(largest: int) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected a body of at most {largest} bytes (largest_body)")
