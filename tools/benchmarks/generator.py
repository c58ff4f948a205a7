# SPDX-License-Identifier: Apache-2.0
"""Generate load: send prepared HTTP requests over keep-alive connections and measure their latencies.

`python -m tools.benchmarks.generator`: reads a `Load` as JSON from its standard input, prints a line when it starts to
send, and a `Result` as JSON in another. What it can send at most, and how fast, is measured against
`tools.benchmarks.null_server`.
"""

import gc
import json
import selectors
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any

TIMEOUT = 60.0  # seconds, for any one answer
CONNECTIONS = 64  # at most, when requests are sent at a pace
LOST = 0  # in place of a status: the server closed the connection without an answer


@dataclass(frozen=True, slots=True)
class Load:
    """Describe the requests (whole HTTP messages) to send to 127.0.0.1:`port`.

    `rate`: requests a second, each sent when it is due, on another connection while earlier ones are unanswered; None:
    one after the other on a single connection.
    """

    port: int
    requests: list[str]
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Record the outcome of a load in seconds: `due` and `started` by CLOCK_MONOTONIC, latencies counted from `due`.

    `statuses` are the HTTP statuses in the order of the requests, `LOST` where a connection ended without an answer;
    `cpu` is the generator's own processor time.
    """

    started: float
    elapsed: float
    cpu: float
    due: list[float]
    latencies: list[float]
    statuses: list[int]


class Answers:
    """Split the bytes of one connection into HTTP answers."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> int | None:
        """Add received bytes; return the HTTP status once an answer is complete, else None.

        Raises ConnectionError at the end of the stream, ValueError for an answer without Content-Length.
        """
        if not data:
            raise ConnectionError(f"the server closed the connection; it had sent {bytes(self._buffer)!r}")
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return None
        before, name, after = bytes(head).lower().partition(b"content-length:")
        if not name:
            raise ValueError(f"expected an answer with Content-Length, got {bytes(head)!r}")
        if len(rest) < int(after.partition(b"\r\n")[0]):
            return None
        self._buffer.clear()
        return int(before.split(b" ", 2)[1])


def one_after_the_other(load: Load) -> Result:
    """Send each request once the one before it is answered, on one connection."""
    due, latencies, statuses = [], [], []
    requests = [request.encode() for request in load.requests]
    with _connect(load.port) as connection:
        answers = Answers()
        print("started", flush=True)
        started, cpu = time.monotonic(), time.process_time()
        for request in requests:
            sent = time.monotonic()
            connection.sendall(request)
            while (status := answers.feed(connection.recv(65536))) is None:
                pass
            due.append(sent)
            latencies.append(time.monotonic() - sent)
            statuses.append(status)
    return Result(started, time.monotonic() - started, time.process_time() - cpu, due, latencies, statuses)


class Pace:
    """Send requests at a steady rate, however slow the answers are, on up to CONNECTIONS connections."""

    def __init__(self, load: Load, rate: float) -> None:
        self._load = load
        self._interval = 1 / rate
        self._selector = selectors.DefaultSelector()
        self._idle: deque[socket.socket] = deque()
        self._open = 0
        self._stopped = False

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Send no more requests after the first, as a handler of SIGTERM; `run` still awaits the answers."""
        self._stopped = True

    def run(self) -> Result:
        """Send all requests, each when it is due. Raises TimeoutError after TIMEOUT seconds without an answer."""
        requests = deque(request.encode() for request in self._load.requests)
        count = len(requests)
        due, latencies, statuses = [0.0] * count, [0.0] * count, [0] * count
        sent = 0
        unanswered: dict[socket.socket, int] = {}
        self._idle.append(self._new_connection())
        print("started", flush=True)
        started, cpu = time.monotonic(), time.process_time()
        while unanswered or (requests and not (self._stopped and sent)):
            wait = TIMEOUT
            if requests and not (self._stopped and sent):
                wait = started + sent * self._interval - time.monotonic()
                if wait <= 0:
                    connection = self._take()
                    if connection is not None:
                        due[sent] = started + sent * self._interval
                        connection.sendall(requests.popleft())
                        unanswered[connection] = sent
                        sent += 1
                        continue
                    wait = TIMEOUT
            events = self._selector.select(wait)
            if not events and wait == TIMEOUT:
                raise TimeoutError(f"{len(unanswered)} requests were not answered for {TIMEOUT:g} s")
            for key, _ in events:
                answered: Any = key.fileobj
                try:
                    status = key.data.feed(answered.recv(65536))
                except ConnectionError:
                    self._forget(answered)
                    if answered not in unanswered:
                        continue  # the server has ended it, as it has been idle since a burst
                    status = LOST
                if status is not None:
                    index = unanswered.pop(answered)
                    latencies[index] = time.monotonic() - due[index]
                    statuses[index] = status
                    if status != LOST:
                        self._idle.append(answered)
        elapsed, cpu = time.monotonic() - started, time.process_time() - cpu
        return Result(started, elapsed, cpu, due[:sent], latencies[:sent], statuses[:sent])

    def _take(self) -> socket.socket | None:
        """Return an idle connection or a new one, None if CONNECTIONS are in use."""
        if self._idle:
            return self._idle.pop()  # the one used last: as few as will do
        return self._new_connection() if self._open < CONNECTIONS else None

    def _new_connection(self) -> socket.socket:
        connection = _connect(self._load.port)
        self._selector.register(connection, selectors.EVENT_READ, Answers())
        self._open += 1
        return connection

    def _forget(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._open -= 1
        connection.close()


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def main() -> int:
    """Run the `Load` read as JSON from standard input and print its `Result` as JSON."""
    load = Load(**json.load(sys.stdin))
    gc.disable()  # no pause of our own among the latencies
    if load.rate is None:
        result = one_after_the_other(load)
    else:
        pace = Pace(load, load.rate)
        signal.signal(signal.SIGTERM, pace.stop)
        result = pace.run()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the result is all there: what comes now comes too late
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
