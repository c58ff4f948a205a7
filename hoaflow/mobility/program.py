# SPDX-License-Identifier: Apache-2.0
"""Start and end the programs around mobile nodes alike."""

import os
import signal
import sys
from typing import Protocol

from hoaflow.logs import Log
from hoaflow.mobility.tunnels import KERNEL_ERRORS


class Server(Protocol):
    """A home agent, anchor or access gateway."""

    def setup(self) -> None:
        """Prepare kernel and sockets. Raises one of KERNEL_ERRORS."""

    def run(self) -> None:
        """Serve until `stop` is called."""

    def stop(self) -> None:
        """End `run`, also before it has begun. Signal handlers may call this."""

    def close(self) -> None:
        """Undo `setup`, even an incomplete one."""


def serve(name: str, log: Log, server: Server, insecure: str | None, **settings: object) -> int:
    """Run a server until SIGTERM or SIGINT; return the exit status: 0, or 1 if it cannot start.

    `insecure`: what anybody can do, as nobody must vouch for messages. `settings` are logged.
    """
    if os.geteuid() != 0:
        print(f"{name}: this needs root, for routes, raw sockets and nftables", file=sys.stderr)
        return 1
    if insecure is not None:
        log.warning("insecure", text=f"messages are not authenticated: {insecure}")
    # Before `setup`, which changes the host's rules: what is half made is undone, too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    try:
        try:
            server.setup()
        except KERNEL_ERRORS as error:
            print(f"{name}: cannot start: {error}", file=sys.stderr)
            return 1
        log.info("started", program=name, **settings)
        server.run()
        return 0
    finally:
        server.close()
        log.info("ended")
