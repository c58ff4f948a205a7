# SPDX-License-Identifier: Apache-2.0
"""A home agent for tests of the bridge's process, and the command line that follows it."""

import socket

from tests.support.bridge import HOA, HOME_PREFIX, LINK_1, Terminal, entry
from tests.support.bridge_controller import Controller


class HomeAgent:
    """A binding cache that can be changed, shown by a terminal."""

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.bindings: dict[str, str] = {HOA: LINK_1}
        self.sequence = 100
        self.left = 60
        self.terminal = Terminal(self.text, listener=listener)

    def text(self) -> str:
        return "".join(
            entry(home, care_of, left=self.left, sequence=self.sequence) for home, care_of in self.bindings.items()
        )

    def move(self, home: str, care_of: str) -> None:
        self.sequence += 1
        self.bindings[home] = care_of


def arguments(controller: Controller, terminal_port: int, *more: str) -> list[str]:
    return [
        *("--controller", controller.url, "--home-prefix", HOME_PREFIX, "--console", f"127.0.0.1:{terminal_port}"),
        *("--no-netlink", "--poll", "0.1", "--lease", "2", "--renew", "0.5", *more),
    ]
