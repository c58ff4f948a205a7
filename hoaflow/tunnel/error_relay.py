# SPDX-License-Identifier: Apache-2.0
"""Receive ICMPv6 errors about tunnel packets, and send them on to the sender of the packet inside (RFC 2473 §8)."""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

from hoaflow.tunnel.icmp_errors import ERRORS, Answer, TunnelPacketError, answer, parse
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.rate_limit import RateLimit

ICMP6_FILTER = 1  # of level IPPROTO_ICMPV6 (RFC 3542 §3.2)
ONLY_ERRORS = struct.pack("=8I", 0xFFFFFFFF & ~sum(1 << kind for kind in ERRORS), *[0xFFFFFFFF] * 7)
LARGEST = 65535
BATCH = 64
"""Errors handled per call, so that a flood of them leaves the caller time for other work."""
HOP_LIMIT = 64
ANSWERS_A_SECOND, ANSWERS_AT_ONCE = 100, 100


class ErrorRelay:
    """Relays the ICMPv6 errors about a home agent's tunnel packets that are delivered in a network namespace.

    `bound` tells whether a home address is bound to a care-of address, both as text: an error about any other packet is
    forged or stale, and ignored. Not thread safe.
    """

    def __init__(self, home_agent: str, bound: Callable[[str, str], bool], namespace: Namespace = None) -> None:
        """Open the sockets. Raises OSError without permission, and NamespaceError."""
        self._home_agent, self._bound = home_agent, bound
        self._limit = RateLimit(ANSWERS_A_SECOND, ANSWERS_AT_ONCE)
        self._sockets = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._ipv6 = opened.enter_context(_raw(namespace, socket.AF_INET6, socket.IPPROTO_ICMPV6))
            self._ipv6.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, ONLY_ERRORS)
            # A socket of this protocol number receives nothing, so its buffer cannot fill up.
            self._ipv4 = opened.enter_context(_raw(namespace, socket.AF_INET, socket.IPPROTO_RAW))
            self._sockets = opened.pop_all()

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are errors to `relay`."""
        return self._ipv6.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._sockets.close()

    def relay(self) -> Iterator[TunnelPacketError]:
        """Relay at most BATCH errors that have come in, and yield those about packets of bindings."""
        for _ in range(BATCH):
            try:
                message = self._ipv6.recv(LARGEST)
            except BlockingIOError:
                return
            error = parse(message)
            if error is None or error.outer_source != self._home_agent:
                continue
            if not self._bound(error.inner_destination, error.outer_destination):
                continue
            reply = answer(error)
            if reply is not None and self._limit.take(time.monotonic()):
                self._send(reply)
            yield error

    def _send(self, reply: Answer) -> None:
        # If it cannot be sent (no route, a full queue), the correspondent's next packet causes another error.
        with contextlib.suppress(OSError):
            if not reply.ipv4:
                self._ipv6.sendto(reply.message, (reply.destination, 0))
                return
            # The kernel fills in what is 0: length, checksum, and the source by its route.
            destination = socket.inet_pton(socket.AF_INET, reply.destination)
            header = struct.pack("!BBHHHBBHI", 0x45, 0, 0, 0, 0, HOP_LIMIT, socket.IPPROTO_ICMP, 0, 0) + destination
            self._ipv4.sendto(header + reply.message, (reply.destination, 0))


def _raw(namespace: Namespace, family: int, protocol: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    return in_namespace(namespace, lambda: socket.socket(family, kind, protocol))
