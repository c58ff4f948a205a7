# SPDX-License-Identifier: Apache-2.0
"""Notice that something in a network namespace has changed: links, addresses, settings, tc, routing, nftables.

What has changed is not reported: on any change, everything declared is compared (`hoaflow.tunnel.declaration`). The
kernel does not report all changes (none of proxy entries, few of settings), and a full buffer loses reports, so a
comparison is also due every few seconds.

A process that changes much can ignore its own changes. The kernel reports the port of the netlink socket that asked for
a change, and the first socket of a kind in a process has the process's number as its port. `RouteSocket` and
libnftables use such sockets, and the listeners here avoid that port. A change by any other socket counts as somebody
else's, at the cost of one comparison.
"""

import enum
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator

from hoaflow.closing import Closing
from hoaflow.linux import NETLINK_NETFILTER, NFNLGRP_NFTABLES
from hoaflow.tunnel.namespace import Namespace, in_namespace

# RTNLGRP_* of linux/rtnetlink.h: LINK, TC, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF
LINKS = (1, 4, 5, 9, 24, 25)
# IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE
ROUTING = (7, 8, 11, 19)
LONGEST_DRAIN = 1.0
"""Seconds to read at most, as changes may come faster than they are read."""
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, number of the socket
OTHER_NUMBER_BITS = 22  # numbers of sockets above those of processes


class Of(enum.Flag):
    """A kind of change: links with their addresses, settings and traffic control; routes and rules; nftables."""

    LINKS = enum.auto()
    ROUTING = enum.auto()
    RULESETS = enum.auto()


class Changes(Closing):
    """The changes that the kernel reports of one namespace. A context manager."""

    def __init__(
        self, namespace: Namespace = None, of: Of = Of.LINKS | Of.ROUTING | Of.RULESETS, own: bool = True
    ) -> None:
        """Start to listen, with `own` also to this process's changes. Raises NamespaceError and OSError."""
        groups = LINKS * (Of.LINKS in of) + ROUTING * (Of.ROUTING in of)
        rulesets = (NFNLGRP_NFTABLES,) * (Of.RULESETS in of)

        def listen() -> list[socket.socket]:
            families = ((socket.NETLINK_ROUTE, groups), (NETLINK_NETFILTER, rulesets))
            return [_listen(family, wanted) for family, wanted in families if wanted]

        self._own = own
        self.sockets = in_namespace(namespace, listen)
        """Readable when there are changes to `drain`."""

    def drain(self, own: Collection[int] = (), by_kernel: bool = True) -> bool:
        """Return whether something has changed since the last call.

        `own`: the ports of the caller's netlink sockets, whose changes do not count. `by_kernel`: whether changes count
        that the kernel attributes to no socket: those that it made itself, and many of links.
        """
        silent = {*own} | ({0} if not by_kernel else set()) | ({os.getpid()} if not self._own else set())
        changed, deadline = False, time.monotonic() + LONGEST_DRAIN
        for each in self.sockets:
            try:
                while (heard := each.recv(1 << 16)) and time.monotonic() < deadline:
                    changed = changed or any(number not in silent for number in _numbers(heard))
            except BlockingIOError:
                pass
            except OSError:  # ENOBUFS: changes were lost, so there were some
                changed = True
        return changed

    def close(self) -> None:
        """Stop listening."""
        for each in self.sockets:
            each.close()


def _listen(family: int, groups: tuple[int, ...]) -> socket.socket:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
    for other in itertools.count(1):
        try:
            number = other << OTHER_NUMBER_BITS | os.getpid()
            listener.bind((number, sum(1 << (group - 1) for group in groups)))
            return listener
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number >> 31:
                listener.close()
                raise
    raise AssertionError("counts for ever")


def _numbers(heard: bytes) -> Iterator[int]:
    """Yield for each change the port of the socket that asked for it."""
    start = 0
    while start + HEADER.size <= len(heard):
        length, _, _, _, number = HEADER.unpack_from(heard, start)
        yield number
        start += max(HEADER.size, length + 3 & ~3)
