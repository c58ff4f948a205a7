# SPDX-License-Identifier: Apache-2.0
"""Send numbered packets and record all that arrive, in all nodes at once: `python -m tools.chaos.wire`.

One process has the sockets of all nodes, so that all times are of one clock that no fault reaches. It reads what it is
to do (`Job`) as JSON from its standard input, and prints `event=ready` before it sends.
"""

import ctypes
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO

from tools.chaos.addresses import FORGED, Flow
from tools.chaos.packets import MAGIC, PAYLOAD, PORT, Kind, Record, forged, parse, payload

ETH_P_IP, ETH_P_IPV6, SO_RCVBUFFORCE, CLONE_NEWNET = 0x0800, 0x86DD, 33, 0x40000000
FREEBIND = {socket.AF_INET: (socket.IPPROTO_IP, 15), socket.AF_INET6: (socket.IPPROTO_IPV6, 78)}
RECEIVE_BUFFER = 4 << 20
FLUSH_SECONDS = 0.5
libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Job:
    """Say what to send, and where to look.

    namespaces: by node. hosts: the nodes that send and receive, by the name that flows have for them. points: node and
    interface of each link that is watched. forgeries: outer source, outer destination, inner source, inner destination
    of packets that `stranger` sends in turn. rate: packets a second.
    """

    namespaces: dict[str, str]
    hosts: dict[str, str]
    points: list[tuple[str, str]]
    flows: list[Flow]
    forgeries: list[tuple[str, str, str, str]]
    rate: float
    forged_rate: float
    records: str
    first_point: int = field(default=0)

    def dump(self) -> str:
        """Return the job as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Job":
        """Return the job that `dump` has written."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields | {"flows": [Flow(*each) for each in fields["flows"]]})


class Wire:
    """Hold the sockets, send what is due and record what arrives."""

    def __init__(self, job: Job, records: BinaryIO) -> None:
        """Open all sockets. Raises OSError."""
        self._job, self._records = job, records
        self._selector = selectors.DefaultSelector()
        self._numbers = dict.fromkeys([*(flow.number for flow in job.flows), FORGED], 0)
        ends = {flow.source_address: job.hosts[flow.source] for flow in job.flows}
        self._senders: dict[str, socket.socket] = {}  # by address
        self._forgers: dict[socket.AddressFamily, socket.socket] = {}
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        for node, path in job.namespaces.items():
            _enter(path)
            for address, host in ends.items():
                if host == node:
                    self._senders[address] = self._open_end(address)
            for number, (where, interface) in enumerate(job.points):
                if where == node:
                    self._open_link(interface, number)
            if node == "stranger":
                for family in FREEBIND:
                    self._forgers[family] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                    self._forgers[family].setblocking(False)
        if libc.setns(outside, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(outside)

    def _open_end(self, address: str) -> socket.socket:
        family = _family(address)
        end = socket.socket(family, socket.SOCK_DGRAM)
        end.setsockopt(*FREEBIND[family], 1)
        end.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        end.setblocking(False)
        end.bind((address, PORT))
        self._selector.register(end, selectors.EVENT_READ, None)
        return end

    def _open_link(self, interface: str, point: int) -> None:
        for protocol in (ETH_P_IP, ETH_P_IPV6):  # of all protocols, what goes out would come as well
            link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
            link.setblocking(False)
            link.bind((interface, protocol))
            self._selector.register(link, selectors.EVENT_READ, point)

    def run(self) -> None:
        """Send and record until a signal ends the process."""
        steps = [(flow, index / len(self._job.flows)) for index, flow in enumerate(self._job.flows)]
        started = time.monotonic()
        due = [(started + share / self._job.rate, flow) for flow, share in steps]
        due_forged, flushed, turn = started, started, 0
        while True:
            at, flow = due[turn % len(due)]
            for key, _ in self._selector.select(max(0.0, min(at, due_forged) - time.monotonic())):
                self._receive(key.fileobj, key.data)  # type: ignore[arg-type]
            now = time.monotonic()
            while at <= now:
                self._send(flow)
                due[turn % len(due)] = max(at, now - 1.0) + 1 / self._job.rate, flow
                turn += 1
                at, flow = due[turn % len(due)]
            if due_forged <= now:
                self._forge()
                due_forged = now + 1 / self._job.forged_rate
            if now - flushed >= FLUSH_SECONDS:
                self._records.flush()
                flushed = now

    def _number(self, flow: int) -> int:
        self._numbers[flow] += 1
        return self._numbers[flow]

    def _send(self, flow: Flow) -> None:
        number = self._number(flow.number)
        self._write(Record(time.time(), Kind.SENT, 0, flow.number, number))
        try:
            self._senders[flow.source_address].sendto(payload(flow, number), (flow.destination_address, PORT))
        except OSError:  # no route, no link: it is lost like any other
            return

    def _forge(self) -> None:
        if not self._job.forgeries:
            return
        number = self._number(FORGED)
        forgery = self._job.forgeries[number % len(self._job.forgeries)]
        self._write(Record(time.time(), Kind.SENT, 0, FORGED, number))
        try:
            self._forgers[_family(forgery[1])].sendto(forged(*forgery, FORGED, number), (forgery[1], 0))
        except OSError:
            return

    def _receive(self, source: socket.socket, point: int | None) -> None:
        while True:
            try:
                packet = source.recv(2048)
            except BlockingIOError:
                return
            except OSError:  # the link has gone down, or an ICMPv6 error came: both are told once
                continue
            now = time.time()
            if point is not None:
                record = parse(packet, now, point)
                if record is not None:
                    self._write(record)
            elif len(packet) >= PAYLOAD.size and packet.startswith(MAGIC):
                _, flow, number = PAYLOAD.unpack_from(packet)
                self._write(Record(now, Kind.RECEIVED, 0, flow, number))

    def _write(self, record: Record) -> None:
        self._records.write(record.pack())


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _enter(path: str) -> None:
    with open(path) as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def main() -> int:
    """Do the job until SIGTERM."""
    with open(sys.argv[1]) as text:
        job = Job.load(text.read())

    def end(_signal: int, _frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    with open(job.records, "wb") as records:
        wire = Wire(job, records)
        print("event=ready", flush=True)
        wire.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
