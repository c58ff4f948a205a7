# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.benchmarks.scale.eviction`: measure what giving up idle flows does to handovers.

Either each flow has an idle timeout, which Open vSwitch looks at, or the controller reads all counters now and then. A
handover is the bundle that replaces the flows of one mobile node, up to the switch's answer.
"""

import argparse
import random
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.ovs import Ovs
from tools.benchmarks import report
from tools.benchmarks.figures import Figure, milliseconds, percentile
from tools.benchmarks.handover_bundle import flows, handover
from tools.benchmarks.hoaflow import bridge, switches
from tools.benchmarks.processes import Stopwatch

FLOWS = (5_000, 300_000)
FLOWS_PER_NODE = 3
AT_ONCE = 5000  # mobile nodes whose flows are added by one command
IDLE_TIMEOUT = 300  # seconds, as `idle_after` by default
TIMEOUT = 120.0  # seconds, for any one answer
_VERSION, _ANY_TABLE, _ANY = 4, 0xFF, 0xFFFFFFFF  # OpenFlow 1.3
_HELLO, _MULTIPART_REQUEST, _MULTIPART_REPLY, _BARRIER_REPLY = 0, 18, 19, 21
_HEADER = struct.Struct("!BBHI")
_FLOW_STATS = struct.Struct("!BBHI HH4x B3xII4xQQ HH4x")  # of all flows: an empty match


class Connection:
    """An OpenFlow connection to a bridge. A context manager."""

    def __init__(self, ovs: Ovs, dpid: int) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT)
        self._socket.connect(str(ovs.directory / f"{bridge(dpid)}.mgmt"))
        self._input = self._socket.makefile("rb")
        self._socket.sendall(_HEADER.pack(_VERSION, _HELLO, _HEADER.size, 0))

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._socket.close()

    def ask_counters(self, xid: int) -> None:
        """Ask for the counters of all flows. What is asked next is answered after them."""
        length = _FLOW_STATS.size
        everything = 1, 0, _ANY_TABLE, _ANY, _ANY, 0, 0, 1, 4  # OFPMP_FLOW; an OXM match without fields
        self._socket.sendall(_FLOW_STATS.pack(_VERSION, _MULTIPART_REQUEST, length, xid, *everything))

    def carry_out(self, bundle: bytes, xid: int) -> float:
        """Have the switch carry out a bundle; return the seconds until it says so. Raises TimeoutError, ValueError."""
        begun = time.monotonic()
        self._socket.sendall(bundle)
        while True:
            _, kind, length, answered = _HEADER.unpack(self._input.read(_HEADER.size))
            said = self._input.read(length - _HEADER.size)
            if kind == _BARRIER_REPLY and answered == xid:
                return time.monotonic() - begun
            if kind == 1:
                raise ValueError(f"expected the bundle {xid} to be carried out, got the error {said[:8].hex()}")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print a table, and return 0."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmarks.scale.eviction", description=__doc__)
    parser.add_argument("--flows", type=int, nargs="+", default=FLOWS, help="on the switch (default: %(default)s)")
    parser.add_argument("--handovers", type=int, default=400, help="for each figure (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=40.0, help="handovers a second (default: %(default)s)")
    arguments = parser.parse_args(argv)
    found: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="hoaflow-eviction-") as directory, Ovs(Path(directory), "dummy") as ovs:
        for count in arguments.flows:
            found += _measure(ovs, count, arguments.handovers, arguments.rate)
    print(report.table(found), flush=True)
    return 0


def _measure(ovs: Ovs, count: int, handovers: int, rate: float) -> list[Figure]:
    """Measure handovers by turns on three switches with so many flows each, and one is read meanwhile."""
    nodes = count // FLOWS_PER_NODE
    kinds = {1: ("neither", 0), 2: ("idle timeouts", IDLE_TIMEOUT), 3: ("all counters are read", 0)}
    figures = []
    for dpid, (name, idle_timeout) in kinds.items():
        _fill(ovs, dpid, nodes, idle_timeout)
        with Connection(ovs, dpid) as connection:
            chosen = random.Random(1).sample(range(nodes), min(nodes, handovers))
            bundles = [handover(node, 2, number, idle_timeout) for number, node in enumerate(chosen, start=2)]
            clock, delays, due = Stopwatch(switches(ovs)), [], time.monotonic()
            for number, bundle in enumerate(bundles, start=2):
                time.sleep(max(0.0, due - time.monotonic()))
                if name == kinds[3][0] and number == 2:
                    connection.ask_counters(1)
                delays.append(connection.carry_out(bundle, number))
                due += 1 / rate
            busy = clock.cpu()["ovs-vswitchd"] / len(delays)
        p50, p99 = (milliseconds(percentile(delays, each)) for each in (50, 99))
        value = f"p50 {p50}, p99 {p99}, the slowest {milliseconds(max(delays))}; {milliseconds(busy)} of processor time"
        figures.append(Figure(f"{count} flows, {name}: a handover", value))
        print(f"{figures[-1].name}: {value}", flush=True)
        ovs.vsctl("del-br", bridge(dpid))
    return figures


def _fill(ovs: Ovs, dpid: int, nodes: int, idle_timeout: int) -> None:
    """Add a bridge with the flows of so many mobile nodes."""
    ovs.vsctl("add-br", bridge(dpid), "--", "set", "bridge", bridge(dpid), "datapath_type=dummy", "fail_mode=secure")
    ovs.vsctl("set", "bridge", bridge(dpid), "protocols=OpenFlow13,OpenFlow15")
    file = ovs.directory / "flows"
    for begin in range(0, nodes, AT_ONCE):
        batch = range(begin, min(nodes, begin + AT_ONCE))
        file.write_text("".join(f"{flow}\n" for node in batch for flow in flows(node, 1, idle_timeout)))
        ovs.ofctl("--bundle", "add-flows", bridge(dpid), str(file))  # else each takes a look at those that may end


if __name__ == "__main__":
    raise SystemExit(main())
