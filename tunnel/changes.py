# SPDX-License-Identifier: Apache-2.0
"""Word that something in a network namespace has changed: links, addresses, settings, routing, nftables.

What has changed is not told: whoever hears of it compares everything that he declared (`tunnel.declaration`). Not all
of it makes itself heard (proxy entries and most settings don't, and a full buffer loses words), so he does that every
few seconds without a word, too.
"""

from __future__ import annotations

import socket
import time
from types import TracebackType

from hoaflow.linux import NETLINK_NETFILTER, NFNLGRP_NFTABLES
from tunnel.namespace import Namespace, in_namespace

# RTNLGRP_* of linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_NETCONF, IPV6_NETCONF
LINKS = (1, 5, 9, 24, 25)
# TC, IPV4_ROUTE, IPV4_RULE, IPV6_ROUTE, IPV6_RULE
ROUTING = (4, 7, 8, 11, 19)
LONGEST_DRAIN = 1.0
"""Seconds: somebody may change things faster than they are read."""


class Changes:
    """What the kernel tells of one namespace. A context manager."""

    def __init__(self, namespace: Namespace = None, links_only: bool = False) -> None:
        """Listen from now on. Raises NamespaceError, OSError.

        ``links_only``: not to what changes routes, rules, traffic control and nftables, where others have business.
        """

        def listen() -> list[socket.socket]:
            if links_only:
                return [_listen(socket.NETLINK_ROUTE, LINKS)]
            return [_listen(socket.NETLINK_ROUTE, LINKS + ROUTING), _listen(NETLINK_NETFILTER, (NFNLGRP_NFTABLES,))]

        self.sockets = in_namespace(namespace, listen)
        """To be waited for; one that is readable has something to tell."""

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def drain(self) -> bool:
        """Return whether something has changed since the last call."""
        changed, deadline = False, time.monotonic() + LONGEST_DRAIN
        for each in self.sockets:
            try:
                while each.recv(1 << 16) and time.monotonic() < deadline:
                    changed = True
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
    listener.bind((0, sum(1 << (group - 1) for group in groups)))
    return listener
