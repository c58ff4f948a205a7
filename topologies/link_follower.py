# SPDX-License-Identifier: Apache-2.0
"""Follow an emulated mobile node's links: it moves when its interfaces are set up or down."""

import json
import selectors
import signal
import socket
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from hoaflow.linux import RTMGRP_LINK
from hoaflow.tunnel.errors import TunnelError

KERNEL_ERRORS = (OSError, TunnelError)


def report(event: str, **facts: object) -> None:
    """Print an event as one JSON object, with the time in seconds since the epoch."""
    print(json.dumps({"event": event, "time": round(time.time(), 3), **facts}), flush=True)


class Kernel(Protocol):
    """What is asked of the node's kernel."""

    def up(self) -> set[str]:
        """Return the names of the interfaces that carry packets now."""

    def has_address(self) -> bool:
        """Return whether the current link still has its address: an interface may lose it when it goes down."""


class LinkFollower(ABC):
    """A loop over sockets and links. It prefers the home link, then its present link, then the first that is up."""

    def __init__(self, home_link: str | None, foreign_links: Sequence[str], kernel: Kernel) -> None:
        """Take the interfaces; without a home link, the node is at home nowhere."""
        self._preferred_link, self._interfaces, self._links_kernel = home_link, tuple(foreign_links), kernel
        self._selector = selectors.DefaultSelector()
        self._undo = ExitStack()
        self._where: str | None = None  # interface
        self._settled = False  # whether it has ever looked where it is
        self._stopped = False
        self._wake: socket.socket | None = None  # while it runs

    def serve(self) -> int:
        """Set up, run until SIGTERM or SIGINT, and clear up; return the program's exit status."""
        try:
            try:
                self.setup()
            except KERNEL_ERRORS as error:
                print(f"mobile node: cannot start: {error}", file=sys.stderr)
                return 1
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
            self.run()
            return 0
        finally:
            self.close()
            report("ended")

    def listen(self) -> None:
        """Listen for changes of the links. Raises OSError."""
        self._links = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._undo.callback(self._links.close)
        self._links.bind((0, RTMGRP_LINK))
        self._selector.register(self._links, selectors.EVENT_READ, self._links_changed)

    def run(self) -> None:
        """Follow the links and keep the binding registered until `stop` is called."""
        woken, wake = socket.socketpair()
        with woken, wake:
            ignore: Callable[[], None] = lambda: None  # noqa: E731
            self._selector.register(woken, selectors.EVENT_READ, ignore)
            self._wake = wake
            try:
                self._follow_links()
                while not self._stopped:
                    self._tick()
                    due = self._next_due()
                    timeout = None if due is None else max(0.0, due - time.monotonic())
                    for key, _ in self._selector.select(timeout):
                        key.data()
            finally:
                self._wake = None
            self._selector.unregister(woken)

    def stop(self) -> None:
        """Make `run` return; safe to call from a signal handler, and harmless afterwards."""
        self._stopped = True
        if self._wake is not None:
            self._wake.send(b"\0")

    def close(self) -> None:
        """Remove all that `setup` configured; the home agent keeps the binding until its lifetime ends."""
        self._undo.close()
        self._selector.close()

    @abstractmethod
    def setup(self) -> None:
        """Configure the kernel and open the sockets. Raises one of KERNEL_ERRORS."""

    @abstractmethod
    def _tick(self) -> None:
        """Do what is due."""

    @abstractmethod
    def _next_due(self) -> float | None:
        """Return when `_tick` is due next (monotonic seconds), None for never."""

    @abstractmethod
    def _move(self, target: str | None) -> None:
        """Move to a link by its interface, None for nowhere; sets `_where`. Raises one of KERNEL_ERRORS."""

    def _links_changed(self) -> None:
        self._drain_links()
        self._follow_links()

    def _drain_links(self) -> None:
        try:
            while self._links.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        except OSError as error:  # ENOBUFS: events were lost; the links are looked at anyway
            report("link-events-lost", reason=str(error))

    def _follow_links(self) -> None:
        up = self._links_kernel.up()
        target = next(self._preferred(up), None)
        if self._settled and target == self._where and (target is None or self._links_kernel.has_address()):
            return
        try:
            self._move(target)
            self._settled = True
        except KERNEL_ERRORS as error:
            # An interface that goes down meanwhile takes its routes along; its event comes next.
            self._where, self._settled = None, False
            report("move-failed", link=target, reason=str(error))

    def _preferred(self, up: set[str]) -> Iterator[str]:
        candidates = (self._preferred_link, self._where, *self._interfaces)
        return (name for name in candidates if name is not None and name in up)
