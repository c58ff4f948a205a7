# SPDX-License-Identifier: Apache-2.0
"""Find network namespaces and run code inside them.

A namespace is a name as `ip netns` lists it, a path such as `/proc/PID/ns/net`, or None for the current one.
"""

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    """Return the file that stands for `namespace`. Raises NamespaceError if there is none."""
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
    """Tell whether a namespace of that name or path exists."""
    try:
        namespace_path(namespace)
    except NamespaceError:
        return False
    return True


def in_namespace(namespace: Namespace, function: Callable[[], T]) -> T:
    """Run `function` inside `namespace`; returns what it returns, or raises what it raises.

    A network namespace belongs to a thread, so a new thread enters it and ends with the call, and the caller's thread
    never leaves its own. Processes and sockets made inside stay inside. Raises NamespaceError.
    """
    if namespace is None:
        return function()
    path = namespace_path(namespace)
    return _in_thread(lambda: _enter(path), function, f"netns {namespace}")


class Inside:
    """A thread that stays inside a namespace, for many calls: starting one for each takes longer than most calls.

    The namespace lives at least as long, even if its name is removed.
    """

    def __init__(self, namespace: Namespace) -> None:
        """Enter the namespace. Raises NamespaceError."""
        self._thread: ThreadPoolExecutor | None = None
        if namespace is not None:
            path = namespace_path(namespace)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"netns {namespace}")
            try:
                self._thread.submit(_enter, path).result()
            except BaseException:
                self.close()
                raise

    def run(self, function: Callable[[], T]) -> T:
        """Run `function` there; returns what it returns, or raises what it raises."""
        return function() if self._thread is None else self._thread.submit(function).result()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown()


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
    """Return the kernel's number for the namespace, never used twice, by which one made anew is recognized.

    The inode of its file is no such number: it is used again at once. Raises NamespaceError.
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
