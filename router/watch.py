# SPDX-License-Identifier: Apache-2.0
"""Tells when something changes in the kernel, in all namespaces in which a bridge's endpoints have something."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterable

from tunnel.changes import Changes
from tunnel.namespace import Namespace, NamespaceError, cookie


class Watch:
    """The changes in some namespaces."""

    def __init__(self) -> None:
        self._changes: dict[tuple[int, bool], Changes] = {}  # by namespace and whether it is an endpoint's

    def follow(self, outside: Iterable[Namespace], inside: Iterable[Namespace]) -> None:
        """Listen in these namespaces and in no others; those that are not there are left out.

        Of those ``outside``, where others have business, to what happens to links alone.
        """
        wanted: dict[tuple[int, bool], Namespace] = {}
        for is_inside, namespaces in ((False, outside), (True, inside)):
            for namespace in namespaces:
                with contextlib.suppress(NamespaceError):
                    wanted[cookie(namespace), is_inside] = namespace
        for gone in self._changes.keys() - wanted.keys():
            self._changes.pop(gone).close()
        for key in wanted.keys() - self._changes.keys():
            with contextlib.suppress(NamespaceError):
                self._changes[key] = Changes(wanted[key], links_only=not key[1])

    def wait(self, descriptor: int, timeout: float) -> bool:
        """Wait for a change or until the descriptor is readable; returns whether there was a change."""
        sockets = [each.fileno() for changes in self._changes.values() for each in changes.sockets]
        ready, _, _ = select.select([descriptor, *sockets], [], [], max(0.0, timeout))
        return self.ignore() if set(ready) - {descriptor} else False

    def ignore(self) -> bool:
        """Take what has been heard so far as known, as of this process's own doing; returns whether it was anything."""
        drained = [changes.drain() for changes in self._changes.values()]  # all, not up to the first with a change
        return any(drained)

    def close(self) -> None:
        self.follow((), ())
