# SPDX-License-Identifier: Apache-2.0
"""Count, dump, compare and save the flows of a bridge of the benchmark's Open vSwitch."""

import re
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.ovs import Ovs

TIMEOUT = 120.0  # seconds, for any one answer
IDLE = 30.0  # seconds after which a connection is not used again: the switch closes it after two minutes
_VERSION = 4  # OpenFlow 1.3
_HELLO, _ECHO_REQUEST, _ECHO_REPLY, _MULTIPART_REQUEST, _MULTIPART_REPLY = 0, 2, 3, 18, 19
_TABLE_STATISTICS = 3
_HEADER = struct.Struct("!BBHI")
_TABLE = struct.Struct("!B3xI16x")
_FLOW = re.compile(r"^ (cookie=\w+), duration=([0-9.]+)s, (table=\d+), n_packets=\d+, n_bytes=\d+, (.*)$", re.MULTILINE)
# A dump takes seconds, and tells ages as of their own moments in it.
_SAME_MOMENT = 0.5


class FlowCounter:
    """Count a bridge's flows by OpenFlow table statistics, which cost the switch next to nothing.

    A context manager with a connection of its own to the bridge.
    """

    def __init__(self, ovs: Ovs, bridge: str) -> None:
        self._path = str(ovs.directory / f"{bridge}.mgmt")

    def __enter__(self) -> "FlowCounter":
        self._connect()
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _connect(self) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(TIMEOUT)
        self._connection.connect(self._path)
        self._input = self._connection.makefile("rb")
        self._connection.sendall(_HEADER.pack(_VERSION, _HELLO, _HEADER.size, 1))
        self._used = time.monotonic()

    def _close(self) -> None:
        self._input.close()
        self._connection.close()

    def count(self) -> int:
        """Return the number of flows in all tables but the first, whose gates and guards come and go.

        Raises TimeoutError, ConnectionError.
        """
        if time.monotonic() - self._used > IDLE:
            self._close()
            self._connect()
        self._used = time.monotonic()
        self._send(_MULTIPART_REQUEST, struct.pack("!HH4x", _TABLE_STATISTICS, 0))
        total: int = 0
        while True:
            kind, body = self._receive()
            if kind == _ECHO_REQUEST:
                self._send(_ECHO_REPLY, body)
            elif kind == _MULTIPART_REPLY:
                _, flags = struct.unpack_from("!HH", body)
                total += sum(flows for table, flows in _TABLE.iter_unpack(body[8:]) if table > 0)
                if not flags & 1:  # no more parts
                    return total

    def _send(self, kind: int, body: bytes) -> None:
        self._connection.sendall(_HEADER.pack(_VERSION, kind, _HEADER.size + len(body), 2) + body)

    def _receive(self) -> tuple[int, bytes]:
        header = self._input.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise ConnectionError("the switch closed the connection")
        _, kind, length, _ = _HEADER.unpack(header)
        return kind, self._input.read(length - _HEADER.size)


def wait_for_flows(counters: list[FlowCounter], expected: int, timeout: float) -> None:
    """Wait until each bridge has exactly `expected` flows. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    for counter in counters:
        while (found := counter.count()) != expected:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {timeout:g} s a bridge has {found} flows, not {expected}")
            time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class Dump:
    """Hold a bridge's flows as text without counters, and when each was installed (CLOCK_MONOTONIC)."""

    flows: dict[str, float]

    def changed_since(self, before: "Dump", moment: float) -> list[str]:
        """Return the flows that only one of two dumps has, and those sent again after `moment`.

        Gates are renewed all the time.
        """
        differing = self.flows.keys() ^ before.flows.keys()
        sent_again = {flow for flow, at in self.flows.items() if at > moment + _SAME_MOMENT}
        return [flow for flow in differing | sent_again if not _is_gate(flow)]

    def save(self, path: Path) -> None:
        """Write the flows as `ovs-ofctl add-flows` reads them, with timeouts and cookies."""
        path.write_text("\n".join(self.flows) + "\n")


def dump(ovs: Ovs, bridge: str) -> Dump:
    """Read all flows of a bridge, with the time at which each was installed."""
    text = ofctl(ovs, bridge, "dump-flows")
    now = time.monotonic()
    return Dump({f"{found[1]},{found[3]},{found[4]}": now - float(found[2]) for found in _FLOW.finditer(text)})


def ofctl(ovs: Ovs, bridge: str, command: str, *arguments: str) -> str:
    """Run `ovs-ofctl` on a bridge and return its output. Raises subprocess.CalledProcessError."""
    target = f"unix:{ovs.directory / bridge}.mgmt"
    argv = ["ovs-ofctl", "-O", "OpenFlow13", command, target, *arguments]
    if command == "add-flows":
        argv.insert(1, "--bundle")
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout


def _is_gate(flow: str) -> bool:
    return ",table=0,hard_timeout=" in flow
