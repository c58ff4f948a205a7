# SPDX-License-Identifier: Apache-2.0
"""Watch the client of an endless answer.

Ours because WSGI does not tell an application that its client reads slowly or has left.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import eventlet
from eventlet import hubs

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Key of a request's WSGI environment: its answer has no end of its own, so the connection ends with it.
ENDLESS = "hoaflow.endless"
# Bytes that the kernel buffers for a client that does not read (it doubles this), and seconds for which its socket may
# accept nothing before the answer ends.
SEND_BUFFER = 64 * 1024
PATIENCE = 5.0


class StreamReader:
    """Bound the cost of a client, and notice that it has left, which writing would show two heartbeats later."""

    def __init__(self, environ: "WSGIEnvironment", left: Callable[[], None]) -> None:
        """Watch the client of a request, and call `left` when it has closed its connection."""
        self.has_left = False
        self._left = left
        self._watch = None
        environ[ENDLESS] = True
        # Each part of the answer is sent at once; otherwise the server would collect some kilobytes.
        environ["eventlet.minimum_write_chunk_size"] = 0
        server_input = environ.get("eventlet.input")
        if server_input is not None:  # None in a test that calls the application itself
            connection = server_input.get_socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            connection.settimeout(PATIENCE)
            self._watch = eventlet.spawn(self._wait_for_end, connection.fileno())

    def release(self) -> None:
        """Stop watching: the answer has ended."""
        if self._watch is not None:
            self._watch.kill()

    def _wait_for_end(self, descriptor: int) -> None:
        # Its request has been read, and it sends nothing more before the answer ends, so readable means closed.
        hubs.trampoline(descriptor, read=True)
        self.has_left = True
        self._left()
