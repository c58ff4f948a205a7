# SPDX-License-Identifier: Apache-2.0
"""Read the head of a request strictly, so that a proxy in front sees the same requests (RFC 9112).

Ours because Python's parser, that of e-mail, ends a line at a bare CR and accepts almost any name of a header; it also
takes four times as long.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPMessage
from typing import Protocol

from hoaflow.errors import HoaflowError

MOST_HEADERS = 100

# RFC 9110 section 5.6.2, RFC 9112 sections 3 and 5. A request's target is checked where it is looked up.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([!-~\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rf"({_TOKEN}):([^\0\r]*)")
_LENGTH = re.compile("[0-9]{1,18}")


class BadHead(HoaflowError):
    """A head is refused with `status`; the message says what was expected."""

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.status = status


class Lines(Protocol):
    """A connection's input, line by line."""

    def readline(self) -> bytes:
        """Return the next line with its end, or what is left if the connection has ended."""


@dataclass(frozen=True, slots=True)
class Head:
    """Hold a request's method, target, HTTP version (such as `HTTP/1.1`) and headers."""

    method: str
    target: str
    version: str
    headers: HTTPMessage

    @property
    def keeps_connection(self) -> bool:
        """Tell whether the client wants to use the connection again (RFC 9112 section 9.3)."""
        options = {option.strip().lower() for option in self.headers.get("Connection", "").split(",")}
        return "close" not in options and (self.version == "HTTP/1.1" or "keep-alive" in options)


def read_head(request_line: bytes, lines: Lines) -> Head:
    """Read the headers that follow a request line. Raises BadHead."""
    found = _REQUEST_LINE.fullmatch(_content(request_line))
    if found is None:
        raise BadHead("expected a request line: method, target and version, with one blank between them")
    method, target, major, minor = found.groups()
    if major != "1":
        raise BadHead("expected HTTP/1.0 or HTTP/1.1", HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    head = Head(method, target, "HTTP/1.0" if minor == "0" else "HTTP/1.1", HTTPMessage())
    for _ in range(MOST_HEADERS + 1):
        line = _content(lines.readline())
        if not line:
            _check_framing(head)
            return head
        header = _HEADER.fullmatch(line)
        if header is None:
            raise BadHead("expected each header on one line: a name, directly followed by a colon, and a value")
        head.headers[header[1]] = header[2].strip(" \t")
    raise BadHead(f"expected at most {MOST_HEADERS} headers", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


def _content(line: bytes) -> str:
    """Return a line without its end. Raises BadHead if the connection ended in it."""
    if not line.endswith(b"\n"):
        raise BadHead("expected a whole head, the connection ended in it")
    return line[:-1].removesuffix(b"\r").decode("latin-1")


def _check_framing(head: Head) -> None:
    """Raise BadHead if another server might find the request's host or end elsewhere.

    A proxy in front could then see one request where there are two (RFC 9112 sections 3.2 and 6.3).
    """
    headers = head.headers
    hosts = headers.get_all("Host", [])
    if len(hosts) > 1 or (not hosts and head.version == "HTTP/1.1"):
        raise BadHead(f"expected one Host header, got {len(hosts)}")
    codings = [coding.lower() for coding in headers.get_all("Transfer-Encoding", [])]
    if codings and (codings != ["chunked"] or head.version != "HTTP/1.1"):
        raise BadHead("expected no Transfer-Encoding but chunked, of HTTP/1.1")
    lengths = set(headers.get_all("Content-Length", []))
    if codings and lengths:
        raise BadHead("expected Transfer-Encoding or Content-Length, got both")
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise BadHead("expected one Content-Length, a number of bytes")
