# SPDX-License-Identifier: Apache-2.0
"""One connection and its requests, against a controller that is busy with something else."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import eventlet
import eventlet.wsgi

from controller.rest.http.protocol import HttpProtocol

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

IDLE = 0.2  # seconds
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def nothing(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def test_a_request_is_answered_although_its_connection_was_idle_too_long_when_it_was_seen() -> None:
    """A snapshot that is applied keeps the controller from its sockets, while the time for them goes on."""
    listening = eventlet.listen(("127.0.0.1", 0))
    server = eventlet.wsgi.Server(listening, listening.getsockname(), nothing, socket_timeout=IDLE, log_output=False)
    client = eventlet.connect(listening.getsockname())
    accepted, address = listening.accept()
    serving = eventlet.spawn(HttpProtocol, [address, accepted, eventlet.wsgi.STATE_IDLE], server, lambda: None)
    with eventlet.Timeout(10):
        client.sendall(REQUEST)
        assert client.recv(1000).startswith(b"HTTP/1.1 204")
        # A socket has woken this, so the timers that are over by its end come before other sockets.
        client.sendall(REQUEST)
        time.sleep(2 * IDLE)
        assert client.recv(1000).startswith(b"HTTP/1.1 204")
        assert client.recv(1000) == b""  # the connection ends when nothing more comes
        serving.wait()
    client.close()
    listening.close()
