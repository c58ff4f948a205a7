# SPDX-License-Identifier: Apache-2.0
"""The sockets that take ICMPv6 errors for tunnel packets in, and tell them again to whoever sent the packet inside."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator

from hoaflow.tunnel.icmp_errors import ERRORS, Answer, TunnelPacketError, answer, parse
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.rate import RateLimit

ICMP6_FILTER = 1  # of level IPPROTO_ICMPV6 (RFC 3542 §3.2)
ONLY_ERRORS = struct.pack("=8I", 0xFFFFFFFF & ~sum(1 << kind for kind in ERRORS), *[0xFFFFFFFF] * 7)
LARGEST = 65535
BATCH = 64
"""Errors taken at one go: a flood of them does not keep the caller from its other work."""
HOP_LIMIT = 64
ANSWERS_A_SECOND, ANSWERS_AT_ONCE = 100, 100


class ErrorRelay:
    """Takes in the ICMPv6 errors that a network namespace's kernel is given for packets of a home agent's tunnels.

    `bound`: whether a home address is bound to a care-of address, both as text; an error for any other packet is
    nobody's, or forged. Not thread safe.
    """

    def __init__(self, home_agent: str, bound: Callable[[str, str], bool], namespace: Namespace = None) -> None:
        """Open the sockets. Raises OSError (no permission) and NamespaceError."""
        self._home_agent, self._bound = home_agent, bound
        self._limit = RateLimit(ANSWERS_A_SECOND, ANSWERS_AT_ONCE)
        self._sockets = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            self._ipv6 = opened.enter_context(_raw(namespace, socket.AF_INET6, socket.IPPROTO_ICMPV6))
            self._ipv6.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, ONLY_ERRORS)
            # Of this protocol number a socket only sends: nothing has to be read from it, ever.
            self._ipv4 = opened.enter_context(_raw(namespace, socket.AF_INET, socket.IPPROTO_RAW))
            self._sockets = opened.pop_all()

    def fileno(self) -> int:
        return self._ipv6.fileno()

    def close(self) -> None:
        self._sockets.close()

    def relay(self) -> Iterator[TunnelPacketError]:
        """Answer what has come in, at most BATCH; yields each error for a packet of a binding's."""
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
            told = answer(error)
            if told is not None and self._limit.take(time.monotonic()):
                self._send(told)
            yield error

    def _send(self, told: Answer) -> None:
        # What cannot be sent now (no route, a full queue) comes again with the correspondent's next packet.
        with contextlib.suppress(OSError):
            if not told.ipv4:
                self._ipv6.sendto(told.message, (told.destination, 0))
                return
            # The kernel fills in what is 0: length, checksum, and the source by its route.
            destination = socket.inet_pton(socket.AF_INET, told.destination)
            header = struct.pack("!BBHHHBBHI", 0x45, 0, 0, 0, 0, HOP_LIMIT, socket.IPPROTO_ICMP, 0, 0) + destination
            self._ipv4.sendto(header + told.message, (told.destination, 0))


def _raw(namespace: Namespace, family: int, protocol: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    return in_namespace(namespace, lambda: socket.socket(family, kind, protocol))
