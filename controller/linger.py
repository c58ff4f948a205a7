# SPDX-License-Identifier: Apache-2.0
"""Ends a connection so that the other side still reads what it was told last."""

import contextlib
import socket

import eventlet

# For so many seconds what the other side sends is still taken, and thrown away, up to so many bytes: closing a
# connection with something unread resets it, and the other side may lose what it has not read yet.
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20


def linger(connection: socket.socket) -> None:
    """Send no more over a connection, plain or TLS, and wait for the other side to end it; closing it is to follow."""
    left = LINGER_BYTES
    with contextlib.suppress(OSError):  # it has gone: nobody is there to miss anything
        connection.shutdown(socket.SHUT_WR)
        with eventlet.Timeout(LINGER_SECONDS, False):
            while left > 0 and (received := len(connection.recv(min(left, 65536)))):
                left -= received
