# SPDX-License-Identifier: Apache-2.0
"""Make eventlet's HTTP strict, and bound it in time.

Ours is what eventlet lacks: an end to slow heads and unread bodies, refusals as problem details, and the refusal of
heads that another server would read differently, such as those with a bare CR, so that a proxy in front sees the same
requests.
"""

import re
from collections.abc import Callable, Iterable
from email.errors import MissingHeaderBodySeparatorDefect
from functools import partial
from http import HTTPStatus
from http.client import HTTPMessage
from typing import TYPE_CHECKING, Any

import eventlet
import eventlet.wsgi

from controller.linger import linger
from controller.rest.http.chunks import ChunkFraming
from controller.rest.http.connections import ADMITTED
from controller.rest.http.stream_reader import ENDLESS
from controller.rest.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Seconds until a new connection must have begun its first request, and from the first byte of any head to its last.
# Between requests a connection may be idle for the server's time-out.
HEAD_TIMEOUT = 10.0
_LENGTH = re.compile("[0-9]{1,18}")


class HeadLines:
    """Read the lines of a head, and keep the `fault` of the first wrong one.

    They are checked before Python's parser sees them, which ends a line at a bare CR.
    """

    def __init__(self, lines: Any, request_line: bytes) -> None:
        self._lines = lines
        self.fault = _line_fault(request_line)

    def readline(self, size: int = -1) -> bytes:
        """Return the next line."""
        line: bytes = self._lines.readline(size)
        self.fault = self.fault or _line_fault(line)
        return line


class HttpProtocol(eventlet.wsgi.HttpProtocol):
    """Serve one connection, request by request; the application calls `environ[ADMITTED]` for an admitted client."""

    application: "WSGIApplication"
    rfile: Any

    def __init__(self, conn_state: list[Any], server: eventlet.wsgi.Server, set_admitted: Callable[[], None]) -> None:
        self._set_admitted = set_admitted
        self._idle_timeout = min(HEAD_TIMEOUT, server.socket_timeout)
        self._head: eventlet.Timeout | None = None
        self._unread = False
        super().__init__(conn_state, server)

    def handle_one_request(self) -> None:
        """Serve one request, whose head must come in time."""
        if not self._has_begun():
            self.close_connection = 1
            return
        self._idle_timeout = self.server.socket_timeout
        self._head = eventlet.Timeout(HEAD_TIMEOUT)
        try:
            super().handle_one_request()
        except eventlet.Timeout as timeout:
            if timeout is not self._head:
                raise
            self.close_connection = 1
        finally:
            self._head.cancel()

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
        """Parse the head, stop its clock, and refuse it if the end of the request is ambiguous."""
        self.rfile = lines = HeadLines(self.rfile, self.raw_requestline)  # put back by handle_one_request
        try:
            parsed: bool = super().parse_request()
        except (eventlet.wsgi.HeaderLineTooLong, eventlet.wsgi.HeadersTooLarge):
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        assert self._head is not None, "set by handle_one_request"
        self._head.cancel()
        fault = lines.fault or _fault(self.headers, self.request_version) if parsed else None
        if fault is not None:
            self.send_error(HTTPStatus.BAD_REQUEST, fault)
        return parsed and fault is None

    def get_environ(self) -> "WSGIEnvironment":
        """Return the WSGI environment of the request."""
        environ: WSGIEnvironment = super().get_environ()
        environ[ADMITTED] = self._set_admitted
        body = environ["eventlet.input"]
        if body.chunked_input:
            body.rfile = ChunkFraming(body.rfile)
        return environ

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
            linger(self.connection)
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


def _line_fault(line: bytes) -> str | None:
    """Return why another server might take a line for two, or for part of the line before; None if it is right.

    RFC 9112 sections 2.2 and 5.2, RFC 9110 section 5.5.
    """
    content = line.removesuffix(b"\n").removesuffix(b"\r")
    if b"\r" in content or b"\0" in content:
        return "expected CR only before the LF that ends a line, and no NUL"
    if content.startswith((b" ", b"\t")):
        return "expected each header on one line"
    return None


def _fault(headers: HTTPMessage, version: str) -> str | None:
    """Return why another server might read a head differently; None if it is right.

    A proxy in front could then see one request where there are two (RFC 9112 sections 3.2, 5.1 and 6.3).
    """
    hosts = headers.get_all("Host", [])
    codings = [coding.strip().lower() for coding in headers.get_all("Transfer-Encoding", [])]
    lengths = {length.strip() for length in headers.get_all("Content-Length", [])}
    if len(hosts) > 1 or (not hosts and version == "HTTP/1.1"):
        return f"expected one Host header, got {len(hosts)}"
    if codings and (codings != ["chunked"] or version != "HTTP/1.1"):
        return "expected no Transfer-Encoding but chunked, of HTTP/1.1"
    if codings and lengths:
        return "expected Transfer-Encoding or Content-Length, got both"
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        return "expected one Content-Length, a number of bytes"
    if any(isinstance(defect, MissingHeaderBodySeparatorDefect) for defect in headers.defects):
        return "expected header lines of a name, directly followed by a colon, and a value"
    return None
