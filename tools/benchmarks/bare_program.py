# SPDX-License-Identifier: Apache-2.0
"""Make handovers without any controller, by writing prepared bundles to the management sockets of bridges.

`python -m tools.benchmarks.bare_program`: reads a `Work` as JSON from its standard input, prints a JSON list of the
seconds from when each handover was due until the last bridge had answered. It shows what the switch takes by itself.
"""

import json
import selectors
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass

from tools.benchmarks.handover_bundle import handover

TIMEOUT = 60.0  # seconds, for any one answer
_HEADER = struct.Struct("!BBHI")
_VERSION, _HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY, _BARRIER_REPLY = 4, 0, 1, 2, 3, 21


@dataclass(frozen=True, slots=True)
class Work:
    """Ask for `count` mobile nodes to move to `link`, `rate` a second, on the bridges with these management sockets."""

    sockets: list[str]
    count: int
    rate: float
    link: int


class Bridge:
    """Speak OpenFlow 1.3 over one bridge's management socket."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(path)
        self.socket.sendall(_HEADER.pack(_VERSION, _HELLO, _HEADER.size, 0))
        self._buffer = b""

    def answered(self) -> list[int]:
        """Read what has arrived and return the xids of answered barriers. Raises RuntimeError for an OpenFlow error."""
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("the switch closed the connection")
        self._buffer += data
        found = []
        while len(self._buffer) >= _HEADER.size:
            _, kind, length, xid = _HEADER.unpack_from(self._buffer)
            if len(self._buffer) < length:
                break
            message, self._buffer = self._buffer[:length], self._buffer[length:]
            if kind == _ERROR:
                raise RuntimeError(f"the switch refused a handover: {message.hex()}")
            if kind == _ECHO_REQUEST:
                self.socket.sendall(_HEADER.pack(_VERSION, _ECHO_REPLY, length, xid) + message[_HEADER.size :])
            if kind == _BARRIER_REPLY:
                found.append(xid)
        return found


def run(work: Work) -> list[float]:
    """Send the bundles at the given rate and return each handover's latency in seconds."""
    bundles = [handover(node, work.link, node + 1) for node in range(work.count)]
    selector = selectors.DefaultSelector()
    bridges = [Bridge(path) for path in work.sockets]
    for bridge in bridges:
        selector.register(bridge.socket, selectors.EVENT_READ, bridge)
    latencies = [0.0] * work.count
    missing: Counter[int] = Counter()
    started, sent = time.monotonic(), 0
    while sent < work.count or missing:
        wait = TIMEOUT
        if sent < work.count:
            wait = started + sent / work.rate - time.monotonic()
            if wait <= 0:
                missing[sent + 1] = len(bridges)
                for bridge in bridges:
                    bridge.socket.sendall(bundles[sent])
                sent += 1
                continue
        events = selector.select(wait)
        if not events and wait == TIMEOUT:
            raise TimeoutError(f"{len(missing)} handovers were not answered for {TIMEOUT:g} s")
        for key, _ in events:
            for xid in key.data.answered():
                missing[xid] -= 1
                if not missing[xid]:
                    del missing[xid]
                    latencies[xid - 1] = time.monotonic() - started - (xid - 1) / work.rate
    return latencies


if __name__ == "__main__":
    json.dump(run(Work(**json.load(sys.stdin))), sys.stdout)
