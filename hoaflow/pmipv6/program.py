# SPDX-License-Identifier: Apache-2.0
"""Start and end the program of either end alike."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol

from hoaflow import logs
from hoaflow.mobility.tunnels import KERNEL_ERRORS

LOG = logs.Log("pmipv6")


class Server(Protocol):
    """An anchor or access gateway."""

    def setup(self) -> None:
        """Prepare kernel and sockets. Raises one of KERNEL_ERRORS."""

    def run(self) -> None:
        """Serve until `stop` is called."""

    def stop(self) -> None:
        """End `run`, also before it has begun. Signal handlers may call this."""

    def close(self) -> None:
        """Undo `setup`, even an incomplete one."""


def serve(name: str, make: Callable[[], Server], insecure: bool) -> int:
    """Run a server until SIGTERM or SIGINT; return the exit status: 0, or 1 if it cannot start."""
    if os.geteuid() != 0:
        print(f"{name}: this needs root, for routes, raw sockets and nftables", file=sys.stderr)
        return 1
    if insecure:
        LOG.warning("insecure", text="messages are not authenticated: anybody can divert a home network prefix")
    server = make()
    # Before `setup`, which changes the host's rules: what is half made is undone, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    try:
        try:
            server.setup()
        except KERNEL_ERRORS as error:
            print(f"{name}: cannot start: {error}", file=sys.stderr)
            return 1
        LOG.info("started", program=name)
        server.run()
        return 0
    finally:
        server.close()
        LOG.info("ended")
