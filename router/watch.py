# SPDX-License-Identifier: Apache-2.0
"""Tells when something changes in the kernel: links, addresses, settings; in an endpoint routes, rules, nftables, too.

It does not tell what: whoever hears of a change compares. What is missed (a full buffer; most settings have
no event) the next comparison finds, a few seconds later.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterable

from tunnel.namespace import Namespace, NamespaceError, cookie, in_namespace

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NETLINK_NETFILTER, NFNLGRP_NFTABLES = 12, 7
# RTNLGRP_* of linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF
OUTSIDE = (1, 5, 9, 24, 25)
# ... and TC, IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE: of a namespace where nobody else has business.
INSIDE = (*OUTSIDE, 4, 7, 8, 11, 19)


class Watch:
    """Netlink sockets that hear of changes in some namespaces."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[int, bool], list[socket.socket]] = {}  # by namespace and whether it is an endpoint's

    def follow(self, outside: Iterable[Namespace], inside: Iterable[Namespace]) -> None:
        """Listen in these namespaces and in no others; those that are not there are left out."""
        wanted: dict[tuple[int, bool], Namespace] = {}
        for is_inside, namespaces in ((False, outside), (True, inside)):
            for namespace in namespaces:
                with contextlib.suppress(NamespaceError):
                    wanted[cookie(namespace), is_inside] = namespace
        for gone in self._sockets.keys() - wanted.keys():
            for listener in self._sockets.pop(gone):
                listener.close()
        for key in wanted.keys() - self._sockets.keys():
            with contextlib.suppress(NamespaceError):
                self._sockets[key] = in_namespace(wanted[key], _listeners_inside if key[1] else _listeners_outside)

    def wait(self, descriptor: int, timeout: float) -> bool:
        """Wait for a change or until the descriptor is readable; returns whether there was a change."""
        listeners = [listener for opened in self._sockets.values() for listener in opened]
        waited = [descriptor, *(listener.fileno() for listener in listeners)]
        ready, _, _ = select.select(waited, [], [], max(0.0, timeout))
        heard = [listener for listener in listeners if listener.fileno() in ready]
        for listener in heard:
            _drain(listener)
        return bool(heard)

    def ignore(self) -> None:
        """Take what has been heard so far as known: it was this process's own doing."""
        for opened in self._sockets.values():
            for listener in opened:
                _drain(listener)

    def close(self) -> None:
        self.follow((), ())


def _listeners_outside() -> list[socket.socket]:
    return [_listener(socket.NETLINK_ROUTE, OUTSIDE)]


def _listeners_inside() -> list[socket.socket]:
    return [_listener(socket.NETLINK_ROUTE, INSIDE), _listener(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,))]


def _listener(family: int, groups: Iterable[int]) -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
    opened.setblocking(False)
    for group in groups:
        opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return opened


def _drain(listener: socket.socket) -> None:
    deadline = time.monotonic() + 1  # somebody may change things faster than they are read
    while time.monotonic() < deadline:
        try:
            listener.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            continue  # ENOBUFS, said once: the buffer was full, and what is in it can be read
