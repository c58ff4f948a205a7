# SPDX-License-Identifier: Apache-2.0
"""Notice when a named network namespace is added or deleted (`ip netns add`, `ip netns del`).

Netlink does not report it. A namespace whose name is deleted lives on while a process or a socket is in it, and so do
its links: a listener inside hears nothing. But the names are files, which inotify(7) watches.
"""

import ctypes
import os

from hoaflow.tunnel.namespace import NETNS_DIRECTORY

# linux/inotify.h
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400
EVENTS = IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_DELETE_SELF


class NamedNamespaces:
    """The names of network namespaces, watched for changes. Not thread safe."""

    def __init__(self) -> None:
        """Open the inotify descriptor; `follow` starts the watch. Raises OSError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"inotify: {os.strerror(code)}")

    def fileno(self) -> int:
        """Return the descriptor, which is readable when something has changed."""
        return int(self._descriptor)

    def follow(self) -> None:
        """Start or continue to watch. There is nothing to watch before the host's first named namespace."""
        self._libc.inotify_add_watch(self._descriptor, os.fsencode(NETNS_DIRECTORY), EVENTS)

    def drain(self) -> bool:
        """Return whether a name has come or gone since the last call."""
        changed = False
        try:
            while os.read(self._descriptor, 1 << 16):
                changed = True
        except BlockingIOError:
            pass
        return changed

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)
