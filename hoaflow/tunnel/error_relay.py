# SPDX-License-Identifier: Apache-2.0
"""Receive ICMP errors about tunnel packets, and send them on to the sender of the packet inside.

Tunnels with IPv6 outer headers: RFC 2473 §8, with IPv4 ones: RFC 2003 §4, §5.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

from hoaflow.tunnel.icmp_errors import ERRORS, ICMPV6_TYPES, Answer, TunnelPacketError, answer, parse, parse_ipv4
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.rate_limit import RateLimit

ICMP6_FILTER = 1  # of level IPPROTO_ICMPV6 (RFC 3542 §3.2)
ONLY_ERRORS = struct.pack("=8I", 0xFFFFFFFF & ~sum(1 << kind for kind in ERRORS), *[0xFFFFFFFF] * 7)
NOTHING = struct.pack("=8I", *[0xFFFFFFFF] * 8)
SOL_RAW, ICMP_FILTER = 255, 1  # linux/icmp.h
ONLY_ICMP_ERRORS = struct.pack("=I", 0xFFFFFFFF & ~sum(1 << kind for kind in ICMPV6_TYPES))
LARGEST = 65535
BATCH = 64
"""Errors handled per call, so that a flood of them leaves the caller time for other work."""
HOP_LIMIT = 64
ANSWERS_A_SECOND, ANSWERS_AT_ONCE = 100, 100


class ErrorRelay:
    """Relays the errors about tunnel packets from one address that are delivered in a network namespace.

    `is_ours` tells whether an error is about a binding's tunnel packet: one about any other is forged or stale, and
    ignored. `mark` is that of the packets sent, by which the kernel may route them. Not thread safe.
    """

    def __init__(
        self,
        outer_source: str,
        is_ours: Callable[[TunnelPacketError], bool],
        namespace: Namespace = None,
        mark: int = 0,
    ) -> None:
        """Open the sockets. Raises OSError without permission, and NamespaceError."""
        self._outer_source, self._is_ours = outer_source, is_ours
        self._limit = RateLimit(ANSWERS_A_SECOND, ANSWERS_AT_ONCE)
        self._sockets = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._ipv6 = opened.enter_context(_raw(namespace, socket.AF_INET6, socket.IPPROTO_ICMPV6))
            self._errors = self._ipv6
            self._parse: Callable[[bytes], TunnelPacketError | None] = parse
            if ":" not in outer_source:
                self._errors = opened.enter_context(_raw(namespace, socket.AF_INET, socket.IPPROTO_ICMP))
                self._errors.setsockopt(SOL_RAW, ICMP_FILTER, ONLY_ICMP_ERRORS)
                self._parse = parse_ipv4
            wanted = ONLY_ERRORS if self._errors is self._ipv6 else NOTHING
            self._ipv6.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, wanted)
            self._ipv6.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            # A socket of this protocol number receives nothing, so its buffer cannot fill up.
            self._ipv4 = opened.enter_context(_raw(namespace, socket.AF_INET, socket.IPPROTO_RAW))
            self._sockets = opened.pop_all()

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are errors to `relay`."""
        return self._errors.fileno()

    def close(self) -> None:
        """Close the sockets."""
        self._sockets.close()

    def relay(self) -> Iterator[TunnelPacketError]:
        """Relay at most BATCH errors that have come in, and yield those about packets of bindings."""
        for _ in range(BATCH):
            try:
                message = self._errors.recv(LARGEST)
            except BlockingIOError:
                return
            error = self._parse(message)
            if error is None or error.outer_source != self._outer_source or not self._is_ours(error):
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
