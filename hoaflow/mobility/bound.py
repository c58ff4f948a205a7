# SPDX-License-Identifier: Apache-2.0
"""Declare that sockets of ours are on the interface that has a name now: it may be made anew, with another index."""

import socket
from collections.abc import Callable

from hoaflow.tunnel.actual_state import ActualState
from hoaflow.tunnel.links import LinkError


class Bound:
    """Our sockets are on the interface that has the name now. One declared object."""

    def __init__(self, interface: str, rebind: Callable[[], None]) -> None:
        """Declare it. `rebind` opens sockets on the interface anew."""
        self._interface, self._rebind = interface, rebind
        self._index: int | None = None

    def __str__(self) -> str:
        return f"sockets on {self._interface}"

    def difference(self, actual: ActualState) -> str | None:
        """See `Declared`."""
        found = actual.links(None).get(self._interface)
        if found is None:
            return f"interface {self._interface} is missing"
        return None if found.number == self._index else f"no sockets on {self._interface}"

    def make(self) -> None:
        """See `Declared`."""
        try:
            index = socket.if_nametoindex(self._interface)
            self._rebind()
        except OSError as error:
            raise LinkError(f"{self}: {error}") from error
        self._index = index

    def remove(self) -> None:
        """See `Declared`."""
        self._index = None
