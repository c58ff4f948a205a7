# SPDX-License-Identifier: Apache-2.0
"""End a connection so that the peer still reads the last answer."""

import contextlib
import socket

import eventlet

# Seconds for which, and bytes up to which, the peer's data are still read and thrown away: closing a connection with
# unread data resets it, and the peer may lose what it has not read yet.
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20


def lingering_close(connection: socket.socket) -> None:
    """End the sending side of a connection, plain or TLS, and wait for the peer to end it; the caller closes it."""
    left = LINGER_BYTES
    with contextlib.suppress(OSError):  # the peer has gone and misses nothing
        connection.shutdown(socket.SHUT_WR)
        with eventlet.Timeout(LINGER_SECONDS, False):
            while left > 0 and (received := len(connection.recv(min(left, 65536)))):
                left -= received
