# SPDX-License-Identifier: Apache-2.0
"""Let packets come in at bridges of the dummy datapath, over `ovs-vswitchd`'s control socket (ovs-appctl(8)).

A process for each packet would cost a hundred times what the packet does.
"""

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from ipaddress import IPv6Address
from pathlib import Path
from random import Random

from tools.benchmarks.frames import frame
from tools.benchmarks.hoaflow import bridge

TIMEOUT = 120.0  # seconds, for any one answer
AT_ONCE = 50  # packets in one call
NICENESS = 5  # of what makes and takes the packets of a scan


def give_precedence_to_others(*threads: int) -> None:
    """Have threads, by their ids, take less of a processor than others do: in a network they would have their own."""
    for thread in threads:
        os.setpriority(os.PRIO_PROCESS, thread, NICENESS)


class Packets:
    """A connection to the control socket. Not thread safe; close it in the end."""

    def __init__(self, control: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(TIMEOUT)
        self._connection.connect(str(control))
        self._input = self._connection.makefile("rb")
        self._decoder = json.JSONDecoder()
        self._serial = itertools.count()

    def close(self) -> None:
        """Close the connection."""
        self._input.close()
        self._connection.close()

    def receive(self, dpid: int, frames: Sequence[str]) -> None:
        """Let frames (hexadecimal) come in at a bridge's own port. Raises RuntimeError if the switch refuses them."""
        for begin in range(0, len(frames), AT_ONCE):
            self._call("netdev-dummy/receive", [bridge(dpid), *frames[begin : begin + AT_ONCE]])

    def _call(self, method: str, parameters: list[str]) -> None:
        request = {"id": next(self._serial), "method": method, "params": parameters}
        self._connection.sendall(json.dumps(request).encode())
        text = ""
        while True:
            text += self._input.read1().decode()  # an answer has no end of its own
            try:
                answer, _ = self._decoder.raw_decode(text.lstrip())
                break
            except json.JSONDecodeError:
                continue
        if answer["error"] is not None:
            raise RuntimeError(f"{method} {parameters[0]}: {answer['error']}")


class Scan:
    """Packets to random addresses of a home prefix, through some routers in turn, while the context lasts."""

    def __init__(self, control: Path, dpids: Sequence[int], home_prefix: str, rate: float, seed: int = 1) -> None:
        """`rate`: packets a second on each router at the most; the switch may take fewer."""
        self.sent = 0
        self._seed = seed
        self._control, self._dpids, self._rate = control, dpids, rate
        self._prefix = int(IPv6Address(home_prefix.partition("/")[0]))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Scan":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.seconds = time.monotonic() - self._started

    def _run(self) -> None:
        give_precedence_to_others(threading.get_native_id())
        packets, source, due = Packets(self._control), Random(self._seed), time.monotonic()
        try:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                for dpid in self._dpids:
                    addresses = (str(IPv6Address(self._prefix | source.getrandbits(64))) for _ in range(AT_ONCE))
                    packets.receive(dpid, [frame(each).hex() for each in addresses])
                self.sent += AT_ONCE * len(self._dpids)
                due += AT_ONCE / self._rate
        finally:
            packets.close()
