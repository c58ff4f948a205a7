# SPDX-License-Identifier: Apache-2.0
"""Word that something in a network namespace has changed: links, addresses, settings, tc, routing, nftables.

What has changed is not told: whoever hears of it compares everything that he declared (`hoaflow.tunnel.declaration`).
Not all of it makes itself heard (proxy entries and most settings don't, and a full buffer loses words), so he does that
every few seconds without a word, too.

Who changes much himself may leave that out. The kernel says which socket asked for a change, and gives a process's
first socket of a kind the number of the process: `RouteSocket` and libnftables have it, as the listeners here do not.
A change whose socket had another number is taken for somebody else's, which costs a comparison.
"""

from __future__ import annotations

import enum
import errno
import itertools
import os
import socket
import struct
import time
from collections.abc import Collection, Iterator
from types import TracebackType

from hoaflow.linux import NETLINK_NETFILTER, NFNLGRP_NFTABLES
from hoaflow.tunnel.namespace import Namespace, in_namespace

# RTNLGRP_* of linux/rtnetlink.h: LINK, TC, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF
LINKS = (1, 4, 5, 9, 24, 25)
# IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE
ROUTING = (7, 8, 11, 19)
LONGEST_DRAIN = 1.0
"""Seconds: somebody may change things faster than they are read."""
HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, number of the socket
OTHER_NUMBER_BITS = 22  # numbers of sockets above those of processes


class Of(enum.Flag):
    """What a change is of: links with their addresses, settings and traffic control, routes with rules, nftables."""

    LINKS = enum.auto()
    ROUTING = enum.auto()
    RULESETS = enum.auto()


class Changes:
    """What the kernel tells of one namespace. A context manager."""

    def __init__(
        self, namespace: Namespace = None, of: Of = Of.LINKS | Of.ROUTING | Of.RULESETS, own: bool = True
    ) -> None:
        """Listen from now on. ``own``: also to what this process changes. Raises NamespaceError, OSError."""
        groups = LINKS * (Of.LINKS in of) + ROUTING * (Of.ROUTING in of)
        rulesets = (NFNLGRP_NFTABLES,) * (Of.RULESETS in of)

        def listen() -> list[socket.socket]:
            families = ((socket.NETLINK_ROUTE, groups), (NETLINK_NETFILTER, rulesets))
            return [_listen(family, wanted) for family, wanted in families if wanted]

        self._own = own
        self.sockets = in_namespace(namespace, listen)
        """To be waited for; one that is readable has something to tell."""

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def drain(self, own: Collection[int] = (), by_kernel: bool = True) -> bool:
        """Return whether something has changed since the last call.

        `own`: numbers of sockets of whoever asks, whose changes do not count. `by_kernel`: whether those count that no
        socket asked for, as the kernel made them by itself or doesn't say for whom (many of links).
        """
        silent = {*own} | ({0} if not by_kernel else set()) | ({os.getpid()} if not self._own else set())
        changed, deadline = False, time.monotonic() + LONGEST_DRAIN
        for each in self.sockets:
            try:
                while (heard := each.recv(1 << 16)) and time.monotonic() < deadline:
                    changed = changed or any(number not in silent for number in _numbers(heard))
            except BlockingIOError:
                pass
            except OSError:  # ENOBUFS: words were lost, which says the same
                changed = True
        return changed

    def close(self) -> None:
        """Listen no longer."""
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
    """Yield the number of the socket that asked for each of these changes."""
    start = 0
    while start + HEADER.size <= len(heard):
        length, _, _, _, number = HEADER.unpack_from(heard, start)
        yield number
        start += max(HEADER.size, length + 3 & ~3)
