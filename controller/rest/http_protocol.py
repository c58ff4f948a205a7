# SPDX-License-Identifier: Apache-2.0
"""HTTP as eventlet speaks it, with an end to what a client may take its time for."""

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.wsgi

from controller.linger import linger
from controller.rest.connections import LET_IN
from controller.rest.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Seconds that a new connection has for the head of its first request. A later one has the server's time-out from the
# answer before it, so that a connection may be idle for a while.
FIRST_HEAD_TIMEOUT = 10.0


class HttpProtocol(eventlet.wsgi.HttpProtocol):
    """One connection, one request after the other. What it serves may call ``environ[LET_IN]`` once it knows whom."""

    application: "WSGIApplication"

    def __init__(self, conn_state: list[Any], server: eventlet.wsgi.Server, let_in: Callable[[], None]) -> None:
        self._let_in = let_in
        self._head_timeout = FIRST_HEAD_TIMEOUT
        self._head: eventlet.Timeout | None = None
        self._body_is_left = False
        super().__init__(conn_state, server)

    def handle_one_request(self) -> None:
        """One request, whose head has to come in time."""
        self._head = eventlet.Timeout(self._head_timeout)
        try:
            super().handle_one_request()
        except eventlet.Timeout as timeout:
            if timeout is not self._head:
                raise
            self.close_connection = 1
        finally:
            self._head.cancel()
        self._head_timeout = self.server.socket_timeout

    def parse_request(self) -> bool:
        """The head has come when it has been parsed."""
        parsed: bool = super().parse_request()
        assert self._head is not None, "set by handle_one_request"
        self._head.cancel()
        return parsed

    def get_environ(self) -> "WSGIEnvironment":
        """What the application is given of the request."""
        environ: WSGIEnvironment = super().get_environ()
        environ[LET_IN] = self._let_in
        return environ

    def handle_one_response(self) -> None:
        """The answer to the request that has just been read."""
        self.application = partial(self._answer, self.application)
        super().handle_one_response()

    def _answer(
        self, application: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        answer = application(environ, start_response)
        body = environ["eventlet.input"]
        left = body.chunk_length != 0 if body.chunked_input else body.position < (body.content_length or 0)
        if left:
            # eventlet would read the rest, however long it takes, to use the connection once more.
            self._body_is_left = True
            self.close_connection = 1
        return answer

    def finish(self) -> None:
        """The connection ends."""
        if self._body_is_left:
            linger(self.connection)
        super().finish()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what is no HTTP; the connection ends."""
        self.close_connection = 1
        status = HTTPStatus(code)
        body = Problem(status, message or status.phrase).response().get_data()
        head = f"HTTP/1.1 {code} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        self.wfile.write(head.encode("ascii") + b"Connection: close\r\n\r\n" + body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what strangers send is not for the log."""
