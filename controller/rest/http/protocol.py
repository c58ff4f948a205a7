# SPDX-License-Identifier: Apache-2.0
"""Make eventlet's HTTP strict, and bound it in time.

Ours is what eventlet lacks: an end to slow heads and unread bodies, refusals as problem details, and strict heads.
"""

import socket
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.wsgi

from controller.lingering_close import lingering_close
from controller.rest.http.chunks import ChunkFraming
from controller.rest.http.connections import ADMITTED, HUNG_UP
from controller.rest.http.head import BadHead, read_head
from controller.rest.http.stream_reader import ENDLESS
from controller.rest.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Seconds until a new connection must have begun its first request, and from the first byte of any head to its last.
# Between requests a connection may be idle for the server's time-out.
HEAD_TIMEOUT = 10.0
TCP_ESTABLISHED = 1  # of the states in Linux' netinet/tcp.h
END_OF_HEAD = b"\r\n\r\n"


class HttpProtocol(eventlet.wsgi.HttpProtocol):
    """Serve one connection, request by request; the application calls `environ[ADMITTED]` for an admitted client."""

    application: "WSGIApplication"
    rfile: Any

    def __init__(self, conn_state: list[Any], server: eventlet.wsgi.Server, set_admitted: Callable[[], None]) -> None:
        self._set_admitted = set_admitted
        self._idle_timeout = min(HEAD_TIMEOUT, server.socket_timeout)
        self._clock = eventlet.Timeout(None)
        self._unread = False
        super().__init__(conn_state, server)

    def handle_one_request(self) -> None:
        """Serve one request, whose head must come in time."""
        if not self._has_begun():
            self.close_connection = 1
            return
        self._idle_timeout = self.server.socket_timeout
        # A head that is here already needs no clock.
        self._clock = eventlet.Timeout(None if END_OF_HEAD in self.rfile.peek(1) else HEAD_TIMEOUT)
        try:
            super().handle_one_request()
        except eventlet.Timeout as timeout:
            if timeout is not self._clock:
                raise
            self.close_connection = 1
        finally:
            self._clock.cancel()

    def _has_begun(self) -> bool:
        """Wait for the first byte of a request; return False if the connection ends or has been idle for too long.

        A busy controller handles its timers before its sockets, so the time can run out with a request already there.
        The second attempt, which does not wait, finds it.
        """
        self.connection.settimeout(None)
        for seconds in (self._idle_timeout, 0):
            with eventlet.Timeout(seconds, False):
                begun = bool(self.rfile.peek(1))
                self.connection.settimeout(self.server.socket_timeout)
                return begun
        return False

    def _read_request_line(self) -> bytes:
        line: bytes = super()._read_request_line()
        if len(line) < self.server.url_length_limit:
            return line
        self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
        return b""

    def parse_request(self) -> bool:
        """Read the head and stop its clock; refuse it if it is malformed."""
        try:
            head = read_head(self.raw_requestline, self.rfile)  # through eventlet's limits of sizes
        except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge):
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        except BadHead as error:
            self.send_error(error.status, str(error))
            return False
        finally:
            self._clock.cancel()
        self.command, self.path, self.request_version, self.headers = (
            head.method,
            head.target,
            head.version,
            head.headers,
        )
        self.close_connection = not head.keeps_connection
        return True

    def get_environ(self) -> "WSGIEnvironment":
        """Return the WSGI environment of the request."""
        environ: WSGIEnvironment = super().get_environ()
        environ[ADMITTED] = self._set_admitted
        environ[HUNG_UP] = self._has_hung_up
        body = environ["eventlet.input"]
        if body.chunked_input:
            body.rfile = ChunkFraming(body.rfile)
        return environ

    def _has_hung_up(self) -> bool:
        """Tell whether the client has closed the connection, by the first byte of struct tcp_info, the state.

        Not by what can be read: with TLS that could be anything.
        """
        (state,) = self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bool(state != TCP_ESTABLISHED)

    def handle_one_response(self) -> None:
        """Answer the request whose head has been read."""
        self.application = partial(self._answer, self.application)
        super().handle_one_response()

    def _answer(
        self, application: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        answer = application(environ, start_response)
        body = environ["eventlet.input"]
        unread = not body.rfile.complete if body.chunked_input else body.position < (body.content_length or 0)
        if unread:
            # To use the connection again, eventlet would read the rest, however long that takes.
            self._unread = True
        if unread or ENDLESS in environ:
            self.close_connection = 1
        return answer

    def finish(self) -> None:
        """End the connection so that the client still reads why."""
        if self._unread:
            lingering_close(self.connection)
        super().finish()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse a malformed request, and end the connection."""
        self.close_connection = 1
        status = HTTPStatus(code)
        body = Problem(status, message or status.phrase).document()
        head = f"HTTP/1.1 {code} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        self.wfile.write(head.encode("ascii") + b"Connection: close\r\n\r\n" + body)
        self.wfile.flush()
        self._unread = True

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: strangers must not fill the log."""
