# SPDX-License-Identifier: Apache-2.0
"""Watch the client of an answer that does not end.

Ours because WSGI tells an application neither that its client reads slowly nor that it has left.
"""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import eventlet
from eventlet import hubs

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Bytes that the kernel may hold for a client that does not read (it doubles this), and seconds for which its socket may
# take nothing before the answer ends.
SEND_BUFFER = 64 * 1024
PATIENCE = 5.0


class StreamReader:
    """Bounds what a client may cost, and notices that it has left, which writing would show two heartbeats later."""

    def __init__(self, environ: "WSGIEnvironment", left: Callable[[], None]) -> None:
        """Watch the client of a request; ``left`` is called when it has closed its connection."""
        self.has_left = False
        self._left = left
        self._watch = None
        # Each part of the answer goes out at once; otherwise the server would collect some kilobytes.
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
        # Its request has been read and it has nothing more to say before the answer ends, so what comes is its end.
        hubs.trampoline(descriptor, read=True)
        self.has_left = True
        self._left()
