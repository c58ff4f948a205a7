# SPDX-License-Identifier: Apache-2.0
"""Listen on an address, and accept connections without end."""

import errno
import socket
import time
from collections.abc import Iterator
from typing import Any

import eventlet

from controller.access.log_throttle import LogThrottle
from hoaflow.errors import HoaflowError
from hoaflow.logs import Log

# Errors of accept() that end nothing: the client was gone first, or the host is short of a resource.
GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPERM})
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.1  # seconds until the next attempt when the host is short of a resource
LOGGED_EVERY = 60.0  # seconds in which a shortage is logged once


class CannotListen(HoaflowError):
    """The controller can't listen on an address; the message says which, and why."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IPv4 or IPv6 address. Raises CannotListen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # The port is not shared: a forgotten controller would get every other connection.
        listening: socket.socket = eventlet.listen((host, port), family, backlog=512, reuse_port=False)
    except OSError as error:
        raise CannotListen(f"can't listen on {host} port {port}: {error.strerror}") from None
    return listening


def connections(listening: socket.socket, log: Log) -> Iterator[tuple[socket.socket, Any]]:
    """Yield connections with their peers' addresses, without end. Raises OSError if the socket itself fails.

    A shortage is logged when it begins, once a minute while it lasts, and when it is over, with the attempts in vain.
    """
    throttle = LogThrottle(LOGGED_EVERY)
    failed, logged = 0, False
    while True:
        try:
            accepted = listening.accept()
        except OSError as error:
            if error.errno in SHORT:
                failed += 1
                if throttle.due("accept-failed", time.monotonic()) is not None:
                    log.warning("accept-failed", reason=error.strerror, failed=failed)
                    logged = True
                eventlet.sleep(PAUSE)
            elif error.errno not in GONE:
                raise
            continue
        if logged:
            log.info("accepting-again", failed=failed)
            failed, logged = 0, False
        yield accepted
        # Without a pause a flood of connections would leave no time to serve them, or anything else.
        eventlet.sleep(0)
