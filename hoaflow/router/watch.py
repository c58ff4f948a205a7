# SPDX-License-Identifier: Apache-2.0
"""Tells when something changes of what a bridge's endpoints consist of: in the kernel, or in the OVS database."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable

from hoaflow.router.database_changes import DatabaseChanges
from hoaflow.tunnel.changes import Changes, Of
from hoaflow.tunnel.namespace import Namespace, NamespaceError, cookie

INSIDE = Of.LINKS | Of.ROUTING | Of.RULESETS
# Where others have business, too: an endpoint has no routes there.
OUTSIDE = Of.LINKS | Of.RULESETS


class Watch:
    """The changes in some namespaces and in a database. What this process changes itself is none, where that is told.

    A context manager.
    """

    def __init__(self, database: DatabaseChanges) -> None:
        self._database = database
        self._changes: dict[tuple[int, Of], Changes] = {}  # by namespace and of what
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)

    def follow(self, outside: Iterable[Namespace], inside: Iterable[Namespace]) -> None:
        """Listen in these namespaces and in no others; those that are not there are left out.

        Of those ``outside`` to what happens to links and nftables alone.
        """
        wanted: dict[tuple[int, Of], Namespace] = {}
        for of, namespaces in ((OUTSIDE, outside), (INSIDE, inside)):
            for namespace in namespaces:
                with contextlib.suppress(NamespaceError):
                    wanted[cookie(namespace), of] = namespace
        for gone in self._changes.keys() - wanted.keys():
            self._changes.pop(gone).close()
        for key in wanted.keys() - self._changes.keys():
            with contextlib.suppress(NamespaceError):
                self._changes[key] = Changes(wanted[key], key[1], own=False)

    def wait(self, descriptor: int, timeout: float) -> bool:
        """Wait for a change or until the descriptor is readable; returns whether there was a change."""
        sockets = [each.fileno() for changes in self._changes.values() for each in changes.sockets]
        sockets += [each.fileno() for each in (self._woken, *self._database.sockets)]
        ready, _, _ = select.select([descriptor, *sockets], [], [], max(0.0, timeout))
        return self.drain() if set(ready) - {descriptor} else False

    def drain(self) -> bool:
        """Take what has been heard so far as known; returns whether it was anything."""
        # all, not up to the first with a change
        drained = [self._drain_woken(), self._database.drain()]
        drained += [changes.drain() for changes in self._changes.values()]
        return any(drained)

    def wake(self) -> None:
        """Have `wait` return as for a change: something is to be told. From any thread."""
        with contextlib.suppress(BlockingIOError, OSError):  # it is awake, or closed
            self._waker.send(b"!", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Listen no longer."""
        self.follow((), ())
        self._database.close()
        self._woken.close()
        self._waker.close()

    def _drain_woken(self) -> bool:
        try:
            return bool(self._woken.recv(1 << 16))
        except BlockingIOError:
            return False
