# SPDX-License-Identifier: Apache-2.0
"""Taking connections for as long as the process lives, whatever becomes of a single one of them."""

import errno
import socket
from collections.abc import Iterator
from typing import Any

import eventlet

from hoaflow.errors import HoaflowError
from hoaflow.logs import Log

# What accept() may fail with without being at fault: the client was gone first, or the host is short of something.
GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM})
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.1  # seconds until the next attempt when the host is short of something


class CannotListen(HoaflowError):
    """An address can't be listened to; the message says which, and why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens to an address, IPv4 or IPv6. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Not to be shared: a controller that was forgotten would have every other connection.
        listening: socket.socket = eventlet.listen((host, port), family, backlog=512, reuse_port=False)
    except OSError as error:
        raise CannotListen(f"can't listen on {host} port {port}: {error.strerror}") from None
    return listening


def connections(listening: socket.socket, log: Log) -> Iterator[tuple[socket.socket, Any]]:
    """Yield connections with their peers' addresses, without end. Raises OSError when the socket itself fails."""
    while True:
        try:
            accepted = listening.accept()
        except OSError as error:
            if error.errno in SHORT:
                log.warning("accept-failed", reason=error.strerror)
                eventlet.sleep(PAUSE)
            elif error.errno not in GONE:
                raise
            continue
        yield accepted
        # Else a flood of connections would leave no time to serve them, or anything else.
        eventlet.sleep(0)
