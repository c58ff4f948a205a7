# SPDX-License-Identifier: Apache-2.0
"""Send numbered UDP packets at a fixed rate from one end, and record what this end sends and receives.

Two of them, each the other's peer, give a flow in each direction. Every packet also carries when the last one of
the other side was sent and how long ago it came, from which the receiver has the round-trip time (as RTCP does,
RFC 3550 section 6.4.1), whichever ways the two directions take. Standard library only.

Records, a line each, times in nanoseconds since the epoch:
    S NUMBER TIME           sent
    E NUMBER TIME ERRNO     could not be sent
    R NUMBER TIME RTT       received; RTT in nanoseconds, 0 where nothing was heard before
"""

import argparse
import select
import signal
import socket
import struct
import sys
import time
from types import FrameType
from typing import TextIO

IPV6_FREEBIND, IP_FREEBIND = 78, 15
PACKET = struct.Struct("!4sIQQQ")  # magic, number, sent at, the other's sent at, held for (monotonic ns)
MAGIC = b"hoaf"
FLUSH_SECONDS = 0.2


class Probe:
    """Send and receive on one UDP socket, even while its address, a mobile node's, is not configured."""

    def __init__(self, bind: str, peer: str, port: int, records: TextIO) -> None:
        """Bind the socket, even to an address that is missing. Raises OSError if the port is taken."""
        self.peer = (peer, port)
        self.records = records
        family, level, option = (
            (socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_FREEBIND)
            if ":" in bind
            else (socket.AF_INET, socket.IPPROTO_IP, IP_FREEBIND)
        )
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(level, option, 1)
        self.socket.setblocking(False)
        self.socket.bind((bind, port))
        self.number = 0
        self.heard = (0, 0)  # when the last packet received was sent, and when it came (monotonic)
        self.sending = False

    def send(self) -> None:
        """Send the next packet; record one that cannot be sent, for lack of a route, as lost."""
        now = time.monotonic_ns()
        sent, came = self.heard
        packet = PACKET.pack(MAGIC, self.number, now, sent, now - came if came else 0)
        at = time.time_ns()
        try:
            self.socket.sendto(packet, self.peer)
            self.records.write(f"S {self.number} {at}\n")
        except OSError as error:
            self.records.write(f"E {self.number} {at} {error.errno}\n")
        self.number += 1

    def receive(self) -> None:
        """Record every packet that has arrived from the peer, with its round-trip time."""
        while True:
            try:
                packet, source = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            now = time.monotonic_ns()
            if source[0] != self.peer[0] or len(packet) != PACKET.size or not packet.startswith(MAGIC):
                continue
            _, number, sent, echoed, held = PACKET.unpack(packet)
            self.heard = (sent, now)
            rtt = now - echoed - held if echoed else 0
            self.records.write(f"R {number} {time.time_ns()} {rtt}\n")

    def run(self, rate: float) -> None:
        """Receive, and send RATE packets a second while `sending` is true, until a signal ends the process.

        Says so when it has stopped sending, and all that was sent is in the records.
        """
        due = flushed = time.monotonic()
        sent_before = False
        while True:
            if sent_before and not self.sending:
                self.records.flush()
                print("event=stopped", flush=True)
            sent_before = self.sending
            if not self.sending:
                due = time.monotonic() + FLUSH_SECONDS
            select.select([self.socket], [], [], max(0.0, due - time.monotonic()))
            self.receive()
            now = time.monotonic()
            if self.sending and now >= due:
                self.send()
                due += 1 / rate
            if now - flushed >= FLUSH_SECONDS:
                self.records.flush()
                flushed = now


def main(argv: list[str] | None = None) -> int:
    """Run one end: SIGUSR1 starts sending, SIGUSR2 stops it, SIGTERM ends the program."""
    parser = argparse.ArgumentParser(description="one end of constant UDP traffic")
    parser.add_argument("--bind", required=True, metavar="ADDRESS", help="own address")
    parser.add_argument("--peer", required=True, metavar="ADDRESS", help="address of the other end")
    parser.add_argument("--port", type=int, default=5300, help="UDP port of both ends (default: 5300)")
    parser.add_argument("--rate", type=float, default=100.0, help="packets a second (default: 100)")
    parser.add_argument("--records", required=True, metavar="FILE", help="where to write the records")
    arguments = parser.parse_args(argv)
    if arguments.rate <= 0:
        parser.error(f"--rate: expected more than 0 packets a second, got {arguments.rate:g}")
    with open(arguments.records, "w") as records:
        probe = Probe(arguments.bind, arguments.peer, arguments.port, records)

        def set_sending(number: int, _frame: FrameType | None) -> None:
            probe.sending = number == signal.SIGUSR1

        def end(_signal: int, _frame: FrameType | None) -> None:
            raise SystemExit(0)

        signal.signal(signal.SIGUSR1, set_sending)
        signal.signal(signal.SIGUSR2, set_sending)
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        print("event=ready", flush=True)
        probe.run(arguments.rate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
