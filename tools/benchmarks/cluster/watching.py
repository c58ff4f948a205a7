# SPDX-License-Identifier: Apache-2.0
"""See what becomes of switches' flows and of packets, without asking any controller."""

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from datetime import datetime

from tests.support.cluster import Member
from tests.support.ovs import Ovs
from tools.benchmarks.frames import IPV6, frame
from tools.benchmarks.hoaflow import bridge

TO_CARE_OF_ADDRESS = re.compile(r"set_field:([0-9a-f:]+)->tun_ipv6_dst")
GATES, DOWNLINK = 0, 1  # tables
IN_SYNC = re.compile(rb"time=(\S+) .*event=router-connected router=([0-9a-f]{16})")


class FlowWatch:
    """Follow the gates and the downlink flows of switches, as Open vSwitch tells of them."""

    def __init__(self, ovs: Ovs, dpids: Iterable[int], tables: Iterable[int] = (GATES, DOWNLINK)) -> None:
        """Follow the flows of these tables; without DOWNLINK, `arrived` stays empty."""
        self.closed: list[tuple[float, str]] = []  # gates: when, and Open vSwitch's line
        self.renewed: dict[int, float] = {}  # when a gate of each router was opened or renewed last
        self.arrived: dict[tuple[int, str], float] = {}  # when each router began to send to a care-of address
        self._processes = []
        for dpid in dpids:
            watches = [f"watch:!initial,table={table}" for table in tables]
            command = ovs.command("ovs-ofctl", "-O", "OpenFlow13", "monitor", bridge(dpid), *watches)
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ovs.environment
            )
            self._processes.append(process)
            threading.Thread(target=self._read, args=(dpid, process), daemon=True).start()

    def end(self) -> None:
        """Stop following."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _read(self, dpid: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if "goto_table:1" in line and "event=DELETED" in line:
                self.closed.append((time.monotonic(), line.strip()))
            elif "goto_table:1" in line:
                self.renewed[dpid] = time.monotonic()
            elif "table=1 " in line and "event=DELETED" not in line and (to := TO_CARE_OF_ADDRESS.search(line)):
                self.arrived.setdefault((dpid, to[1]), time.monotonic())


class NewMasters:
    """Follow in the members' logs which routers' flows have been read by a new master since now."""

    def __init__(self, members: Iterable[Member]) -> None:
        self._logs = [member.log_file.open("rb") for member in members]
        for log in self._logs:
            log.seek(0, os.SEEK_END)
        self._unfinished = [b""] * len(self._logs)
        self._synced: dict[int, float] = {}

    def synced(self) -> dict[int, float]:
        """Return when each router's flows had first been read, by CLOCK_MONOTONIC."""
        for number, log in enumerate(self._logs):
            *lines, self._unfinished[number] = (self._unfinished[number] + log.read()).split(b"\n")
            for line in lines:
                if (found := IN_SYNC.search(line)) is not None:
                    at = datetime.fromisoformat(found[1].decode().replace("Z", "+00:00")).timestamp()
                    self._synced.setdefault(int(found[2], 16), at - time.time() + time.monotonic())
        return self._synced

    def end(self) -> None:
        """Stop following."""
        for log in self._logs:
            log.close()


class Traffic:
    """Send packets to home addresses through every router, at `rate` a second for each, and count those offloaded."""

    def __init__(self, ovs: Ovs, dpids: Iterable[int], home_addresses: list[str], rate: float) -> None:
        self._ovs, self._dpids, self._rate = ovs, list(dpids), rate
        self._sent = 0
        self._frames = [frame(address) for address in home_addresses]
        self._before = self._offloaded()
        self._ended = threading.Event()
        self._sending = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Traffic":
        self._sending.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sending.join()

    @property
    def sent(self) -> int:
        """Return how many packets have been sent."""
        return self._sent

    def lost(self) -> int:
        """Return how many of all packets sent so far did not go the direct way, once none is under way."""
        self._ended.set()
        self._sending.join()
        time.sleep(1.0)
        return self._sent - (self._offloaded() - self._before)

    def _offloaded(self) -> int:
        """Return how many packets have left by the routers' tunnel ports."""
        with self._ovs.inside(), open("/proc/thread-self/net/dev") as devices:
            names = {f"tx{dpid}:" for dpid in self._dpids}
            return sum(int(line.split()[2]) for line in devices if line.split()[0] in names)

    def _send(self) -> None:
        sockets = []
        with self._ovs.inside():
            for dpid in self._dpids:
                each = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
                each.bind((f"cn{dpid}", IPV6))
                sockets.append(each)
        due, turn = time.monotonic(), 0
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            for each in sockets:
                each.send(self._frames[turn % len(self._frames)])
                self._sent += 1
            due, turn = due + 1 / self._rate, turn + 1
        for each in sockets:
            each.close()
