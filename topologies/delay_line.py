# SPDX-License-Identifier: Apache-2.0
"""Join two Ethernet interfaces and carry every frame across in order, after a fixed delay.

It stands in for tc-netem where the kernel has none. Standard library only: Mininet's Python starts it.

    python3 delay_line.py left-eth0 right-eth0 --delay 5
"""

import argparse
import errno
import select
import signal
import socket
import sys
import time
from collections import deque
from types import FrameType

ETH_P_ALL = 0x0003
SOL_PACKET = 263
PACKET_IGNORE_OUTGOING = 23
SO_RCVBUFFORCE = 33
LARGEST_FRAME = 65536 + 18
# Both generous: a frame is lost only if this process gets no processor for long, and then it is said.
RECEIVE_BUFFER = 8 << 20
QUEUE_FRAMES = 50_000
LINK_DOWN = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)  # set down, or gone


class Direction:
    """Queue the frames on their way from one interface to the other, in order, as all have the same delay."""

    def __init__(self, source: socket.socket, target: socket.socket, delay: float) -> None:
        self.source = source
        self.target = target
        self.delay = delay
        self.frames: deque[tuple[float, bytes]] = deque()
        self.dropped = 0

    def take(self, now: float) -> None:
        """Queue every frame that has arrived, each due `delay` seconds after NOW."""
        while True:
            try:
                frame = self.source.recv(LARGEST_FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in LINK_DOWN:
                    raise
                return
            if len(self.frames) < QUEUE_FRAMES:
                self.frames.append((now + self.delay, frame))
            else:
                self.drop("queue full")

    def deliver(self, now: float) -> None:
        """Send every frame whose delay has passed at time NOW."""
        while self.frames and self.frames[0][0] <= now:
            frame = self.frames.popleft()[1]
            try:
                self.target.send(frame)
            except OSError as error:
                if error.errno not in LINK_DOWN:  # a wire that is cut loses what is under way, and that is all
                    self.drop(f"send: {error}")

    def drop(self, reason: str) -> None:
        """Count a lost frame, and print the reason of the first."""
        if not self.dropped:
            print(f"event=frames-dropped reason={reason!r}", file=sys.stderr, flush=True)
        self.dropped += 1

    def due(self) -> float | None:
        """Return the monotonic time at which the next frame is to be sent, None if no frame is under way."""
        return self.frames[0][0] if self.frames else None


def open_interface(name: str) -> socket.socket:
    """Open a packet socket that receives the frames arriving on an interface, but not those leaving it.

    Raises OSError when there is no such interface or no permission (CAP_NET_RAW).
    """
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packets.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    packets.setblocking(False)
    packets.bind((name, ETH_P_ALL))
    return packets


def run(first: socket.socket, second: socket.socket, delay: float) -> None:
    """Carry frames between two interfaces, each delayed by DELAY seconds, until a signal arrives."""
    directions = (Direction(first, second, delay), Direction(second, first, delay))
    while True:
        due = [at for direction in directions if (at := direction.due()) is not None]
        # select(), for its timeout is in microseconds where epoll's is in milliseconds.
        select.select([first, second], [], [], max(0.0, min(due) - time.monotonic()) if due else None)
        now = time.monotonic()
        for direction in directions:
            direction.take(now)
            direction.deliver(now)


def stop(_signal: int, _frame: FrameType | None) -> None:
    """Exit with status 0 on SIGTERM, SIGINT or SIGHUP."""
    raise SystemExit(0)


def main(argv: list[str] | None = None) -> int:
    """Run the delay line from the command line; print `event=ready` as soon as it carries frames."""
    parser = argparse.ArgumentParser(description="carry frames between two interfaces, each after the same delay")
    parser.add_argument("interfaces", nargs=2, metavar="INTERFACE", help="the Ethernet interfaces to join")
    parser.add_argument("--delay", type=float, default=5.0, help="delay one way, in milliseconds (default: 5)")
    arguments = parser.parse_args(argv)
    if arguments.delay < 0:
        parser.error(f"--delay: expected 0 or more milliseconds, got {arguments.delay}")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    first, second = (open_interface(name) for name in arguments.interfaces)
    print("event=ready", flush=True)
    run(first, second, arguments.delay / 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
