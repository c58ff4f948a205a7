# SPDX-License-Identifier: Apache-2.0
"""Network namespaces: naming them and running something inside one.

A namespace is given everywhere as a name (`ip netns`), a path (`/proc/PID/ns/net`) or None for the current
one.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hoaflow.linux import CLONE_NEWNET
from hoaflow.tunnel.errors import TunnelError

Namespace = str | None
T = TypeVar("T")

NETNS_DIRECTORY = Path("/run/netns")
SO_NETNS_COOKIE = 71  # Linux 5.14


class NamespaceError(TunnelError):
    """A network namespace does not exist or cannot be entered."""


def namespace_path(namespace: Namespace) -> Path:
    """The file that stands for `namespace`. Raises NamespaceError when there is none."""
    if namespace is None:
        return Path("/proc/thread-self/ns/net")
    path = Path(namespace) if "/" in namespace else NETNS_DIRECTORY / namespace
    if not path.exists():
        raise NamespaceError(
            f"network namespace {namespace!r} not found (looked for {path}): give a name that `ip netns` "
            f"lists or a path such as /proc/PID/ns/net"
        )
    return path


def exists(namespace: Namespace) -> bool:
    """Whether a namespace of that name or path is there."""
    try:
        namespace_path(namespace)
    except NamespaceError:
        return False
    return True


def in_namespace(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run `function` inside `namespace` and return what it returns, or raise what it raises.

    A network namespace belongs to a thread, so a thread of its own enters it and ends with the call: the
    caller never leaves its namespace, not even when `function` raises. Processes and sockets made inside
    stay inside.
    """
    if namespace is None:
        return function()
    path = namespace_path(namespace)
    return _in_thread(lambda: _enter(path), function, f"netns {namespace}")


def _in_thread(enter: Callable[[], None], function: Callable[[], T], name: str) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter()
            results.append(function())
        except BaseException as error:  # handed to the caller, whatever it is
            errors.append(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def netlink_descriptor(namespace: Namespace, protocol: int) -> int:
    """Open a netlink socket of a protocol in the namespace, for pyroute2's `fileno`. Raises NamespaceError, OSError.

    pyroute2's own way into a namespace is a process for each socket, which takes longer than all that it does there.
    """
    return in_namespace(namespace, lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, protocol).detach())


def cookie(namespace: Namespace) -> int:
    """The kernel's number for the namespace, never used twice: tells whether one of that name was made anew.

    (The inode of its file does not: it is used again at once.) Raises NamespaceError.
    """

    def read() -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8), sys.byteorder)

    return in_namespace(namespace, read)


def _enter(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise NamespaceError(f"cannot enter network namespace {path}: {os.strerror(code)} (root is needed)")
    finally:
        os.close(descriptor)
