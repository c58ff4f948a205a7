# SPDX-License-Identifier: Apache-2.0
"""A home agent behind a packet filter that drops what it does not know, and what a user would notice of it."""

import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from hoaflow.tunnel.namespace import in_namespace
from tests.support.mobility import (
    CARE_OF_1,
    CARE_OF_2,
    CN,
    HOME_ADDRESS,
    Lab,
    Node,
)
from tests.support.sabotage import greeting
from topologies.waiting import patient

PAGE = Path(__file__).parents[2] / "docs" / "firewalls.md"
LOST_AFTER = patient(4.0)
"""Seconds after which what has not come is lost."""
SERVER = (
    "import socket\n"
    "server = socket.create_server(('::', 8080), family=socket.AF_INET6)\n"
    "print('listening', flush=True)\n"
    "while True: server.accept()[0].close()\n"
)
CLIENT = (
    "import socket, sys\n"
    "try:\n"
    f"    socket.create_connection((sys.argv[1], 8080), {LOST_AFTER}).close()\n"
    "    print('connected')\n"
    "except OSError as error: print('lost:', error)\n"
)


def of_page() -> str:
    """Return the filter that the documentation has for a home agent's host."""
    (found,) = re.findall(r"```nft\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def accepts(filter_: str, others: Collection[str]) -> list[tuple[int, str]]:
    """Return the lines that accept something, by number, with what they are for (`others`: marked otherwise)."""
    found = [(number, line.rpartition("# ")[2]) for number, line in enumerate(filter_.splitlines()) if "accept" in line]
    purposes = [(number, *purpose.partition(", ")[::2]) for number, purpose in found]
    return [(number, purpose) for number, purpose, mark in purposes if mark not in others]


class Filtered:
    """A mobile node at its home agent, whose host gets filters."""

    def __init__(self, lab: Lab, node: Node) -> None:
        """`node`: registered from its foreign link m1."""
        self._lab, self._node = lab, node
        self._at = "m1"
        for name in ("cn", "mn"):
            lab.script(name, SERVER).out.wait(lambda line: line == "listening")
        self._checks: dict[str, Callable[[], bool]] = {
            "terminal": self._terminal,
            "controller": lambda: self._connects("ha"),
            "a mobile node's connections": lambda: self._connects("mn"),
            "a correspondent's connections": self._is_connected_to,
            "neighbours": self._neighbours,
            "errors": self._errors,
            "tunnels": self._reached,
            "to home addresses": self._reached,
            "from home addresses": self._reaches,
            "registrations": self._registers,
        }

    def lost(self, filter_: str) -> list[str]:
        """Return what is lost with a filter."""
        self._load(filter_)
        return [name for name, works in self._checks.items() if not works()]

    def unneeded(self, filter_: str, others: Collection[str]) -> Iterator[str]:
        """Yield the accepts whose absence nobody notices, except those marked for one of `others`."""
        lines = filter_.splitlines()
        for number, purpose in accepts(filter_, others):
            self._load("\n".join(lines[:number] + lines[number + 1 :]))
            if self._checks[purpose]():
                yield lines[number].strip()

    def _load(self, filter_: str) -> None:
        self._lab.run("ha", "nft -f /dev/stdin", stdin="table inet filter\ndelete table inet filter\n" + filter_)

    def _terminal(self) -> bool:
        try:
            return in_namespace(self._lab.namespace("ha"), lambda: greeting(LOST_AFTER)) == b"m"
        except TimeoutError:
            return False

    def _connects(self, name: str) -> bool:
        return self._lab.python(name, CLIENT, CN) == "connected\n"

    def _is_connected_to(self) -> bool:
        return self._lab.python("cn", CLIENT, HOME_ADDRESS) == "connected\n"

    def _neighbours(self) -> bool:
        self._lab.run("hh", "ip -6 neigh flush dev e0")
        return self._ping("hh", HOME_ADDRESS)

    def _errors(self) -> bool:
        """Tell whether a correspondent is told the tunnel's MTU, and that of a link further on."""
        interface = {"m1": "r1", "m2": "r2"}[self._at]
        self._lab.run("cn", "ip -6 route flush cache")
        for size, known in ((1452, "mtu 1460"), (1400, "mtu 1360")):
            if size == 1400:
                self._lab.run("rt", f"ip link set {interface} mtu 1400")
            try:
                self._lab.ping("cn", HOME_ADDRESS, count=1, size=size)
                told = known in self._lab.run("cn", f"ip -6 route get {HOME_ADDRESS}")
            finally:
                self._lab.run("rt", f"ip link set {interface} mtu 1500")
            if not told:
                return False
        return True

    def _reached(self) -> bool:
        return self._ping("cn", HOME_ADDRESS)

    def _reaches(self) -> bool:
        return self._ping("mn", CN)

    def _registers(self) -> bool:
        since, new = len(self._node.out.lines), "m2" if self._at == "m1" else "m1"
        self._lab.link(self._at, "down")
        self._lab.link(new, "up")
        care_of_address = CARE_OF_2 if new == "m2" else CARE_OF_1
        try:
            self._node.event("registered", since, LOST_AFTER, care_of_address=care_of_address)
        except AssertionError:
            self._lab.link(new, "down")
            self._lab.link(self._at, "up")
            return False
        self._at = new
        return True

    def _ping(self, name: str, to: str) -> bool:
        deadline = time.monotonic() + LOST_AFTER
        while time.monotonic() < deadline:
            if self._lab.ping(name, to, count=1) == 1:
                return True
        return False
