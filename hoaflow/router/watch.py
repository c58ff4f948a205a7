# SPDX-License-Identifier: Apache-2.0
"""Wait for changes of what a bridge's tunnels consist of, in the kernel and in the OVS database."""

import contextlib
import select
import socket
from collections.abc import Iterable

from hoaflow.router.database_changes import DatabaseChanges
from hoaflow.tunnel.changes import Changes, Of
from hoaflow.tunnel.named_namespaces import NamedNamespaces
from hoaflow.tunnel.namespace import Namespace, NamespaceError, cookie

INSIDE = Of.LINKS | Of.ROUTING | Of.RULESETS
# Other programs change routes there, too, and an endpoint has none.
OUTSIDE = Of.LINKS | Of.RULESETS


class Watch:
    """The changes in some network namespaces, of their names, and in a database, except for this process's own.

    Changes of names, and those made through pyroute2, are told even if this process made them.
    """

    def __init__(self, database: DatabaseChanges) -> None:
        self._database = database
        self._names = NamedNamespaces()
        self._changes: dict[tuple[int, Of], Changes] = {}  # by namespace and of what
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)

    def follow(self, outside: Iterable[Namespace], inside: Iterable[Namespace]) -> bool:
        """Listen in these namespaces and in no others, except those that are missing.

        Of the namespaces `outside` only links and nftables are followed. Returns whether a namespace is new, so that
        what changed there until now has not been heard.
        """
        self._names.follow()
        wanted: dict[tuple[int, Of], Namespace] = {}
        for of, namespaces in ((OUTSIDE, outside), (INSIDE, inside)):
            for namespace in namespaces:
                with contextlib.suppress(NamespaceError):
                    wanted[cookie(namespace), of] = namespace
        for gone in self._changes.keys() - wanted.keys():
            self._changes.pop(gone).close()
        new = wanted.keys() - self._changes.keys()
        for key in new:
            with contextlib.suppress(NamespaceError):
                self._changes[key] = Changes(wanted[key], key[1], own=False)
        return bool(new)

    def wait(self, descriptor: int, timeout: float) -> bool:
        """Wait for a change or until the descriptor is readable; returns whether there was a change."""
        sockets = [each for changes in self._changes.values() for each in changes.sockets]
        sources = [self._names.fileno(), *(each.fileno() for each in (self._woken, *self._database.sockets, *sockets))]
        ready, _, _ = select.select([descriptor, *sources], [], [], max(0.0, timeout))
        return self.drain() if set(ready) - {descriptor} else False

    def drain(self) -> bool:
        """Return whether anything has changed since the last call."""
        # A list, as each of them has to be asked.
        drained = [self._drain_woken(), self._names.drain(), self._database.drain()]
        drained += [changes.drain() for changes in self._changes.values()]
        return any(drained)

    def wake(self) -> None:
        """Make `wait` return as if something had changed. Callable from any thread."""
        with contextlib.suppress(BlockingIOError, OSError):  # it is awake, or closed
            self._waker.send(b"!", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Stop listening."""
        for changes in self._changes.values():
            changes.close()
        self._changes = {}
        self._database.close()
        self._names.close()
        self._woken.close()
        self._waker.close()

    def _drain_woken(self) -> bool:
        try:
            return bool(self._woken.recv(1 << 16))
        except BlockingIOError:
            return False
