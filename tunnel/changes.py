# SPDX-License-Identifier: Apache-2.0
"""Word that something in a network namespace has changed: links, addresses, routes, rules, settings, nftables.

What has changed is not told: whoever hears of it compares everything that he declared (`tunnel.declaration`). Not all
of it makes itself heard (proxy entries and some settings don't), so he does that now and then without a word, too.
"""

from __future__ import annotations

import socket
from types import TracebackType

from tunnel.namespace import Namespace, in_namespace

NETLINK_NETFILTER = 12
NFNLGRP_NFTABLES = 7
RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE = 1, 7, 8
RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE, RTNLGRP_IPV6_NETCONF = 9, 11, 19, 25
ROUTE_GROUPS = (
    RTNLGRP_LINK,
    RTNLGRP_IPV4_ROUTE,
    RTNLGRP_IPV4_RULE,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV6_RULE,
    RTNLGRP_IPV6_NETCONF,
)


class Changes:
    """What the kernel tells of one namespace. A context manager."""

    def __init__(self, namespace: Namespace = None) -> None:
        """Listen from now on. Raises NamespaceError, OSError."""

        def listen() -> list[socket.socket]:
            return [
                _listen(socket.NETLINK_ROUTE, sum(1 << (group - 1) for group in ROUTE_GROUPS)),
                _listen(NETLINK_NETFILTER, 1 << (NFNLGRP_NFTABLES - 1)),
            ]

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
        changed = False
        for each in self.sockets:
            try:
                while each.recv(1 << 16):
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


def _listen(family: int, groups: int) -> socket.socket:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, family)
    listener.bind((0, groups))
    return listener
