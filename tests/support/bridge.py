# SPDX-License-Identifier: Apache-2.0
"""What surrounds a bridge's process: a virtual terminal that behaves as UMIP's does, and fails on demand."""

import contextlib
import ctypes
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from topologies.waiting import patient

DATA = Path(__file__).parents[1] / "data" / "umip"
HOME_AGENT = "2001:db8:99::1"
HOME_PREFIX = "2001:db8:99::/64"
HOA, OTHER = "2001:db8:99::100", "2001:db8:99::200"
LINK_1, LINK_2 = "2001:db8:2::2", "2001:db8:3::2"  # care-of addresses
PROMPT = b"mip6d> "
USAGE = b"hoa ADDR [coa ADDR] local ADDR flags [A]H[LK] [lifetime SECOND]\n  [seq auto|NUMBER] [dad want|never]\n"
_STYLED = re.compile(rb"^(hoa \S+)( status \S+)$", re.MULTILINE)


def unpadded(address: str) -> str:
    """Write `address` as UMIP does: eight groups, never shortened."""
    packed = socket.inet_pton(socket.AF_INET6, address)
    return ":".join(f"{packed[i] << 8 | packed[i + 1]:x}" for i in range(0, 16, 2))


def enter_namespace(name: str) -> None:
    """Move the calling thread into a network namespace; sockets made in it stay there. For threads of one's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}") as handle:
        if libc.setns(handle.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"setns to {name}")


def entry(
    home: str,
    care_of: str,
    left: object = 60,
    total: int = 60,
    sequence: int = 1,
    status: str = "registered",
    flags: str = "AH--",
    local: str = HOME_AGENT,
    prefixes: tuple[str, ...] = (),
    mpa: object = 2866,
) -> str:
    """Return an entry of a binding cache in UMIP's plain form."""
    lines = [
        f"hoa {unpadded(home)} status {status}",
        f" coa {unpadded(care_of)} flags {flags}",
        f" local {unpadded(local)}",
        f" lifetime {left} / {total} seq {sequence} unreach 0 mpa {mpa} / 2866 retry 0",
    ]
    for prefix in prefixes:
        network, _, length = prefix.partition("/")
        lines.append(f" MNP: {unpadded(network)}/{length}")
    return "".join(line + "\n" for line in lines)


class Terminal:
    """UMIP's virtual terminal on a TCP port: one client at a time, one command per segment, NUL after each answer.

    `cache` gives the plain text of the binding cache, for which `command` asks. Set `hang` to accept and say nothing,
    `cut` to hang up after that many bytes of the next caches, `chunk` to send in pieces of that many bytes. `add` takes
    what `bc add` brings, by the words of UMIP 0.4 (hoa, coa, local, flags, lifetime, seq, dad), and gives the answer.
    """

    def __init__(
        self, cache: Callable[[], str], port: int = 0, listener: socket.socket | None = None, command: str = "bc"
    ) -> None:
        self.cache = cache
        self._command = command.encode()
        self.add: Callable[[dict[str, str]], str] = lambda added: "bc status=0\n"
        self.hang = False
        self.cut: int | None = None
        self.chunk = 0
        self.first_is_unknown = False
        self.asked = 0
        self.connections = 0
        self.most_at_once = 0
        self._now_connected = 0
        self._listener = listener or socket.create_server(("127.0.0.1", port), backlog=1)
        self.port = self._listener.getsockname()[1]
        self._served = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let the home agent's process be gone, and its sockets with it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                threading.Thread(target=self._client, args=(connection,), daemon=True).start()

    def _client(self, connection: socket.socket) -> None:
        self._now_connected += 1
        self.most_at_once = max(self.most_at_once, self._now_connected)
        try:
            if self.hang or not self._served.acquire(blocking=False):
                while connection.recv(8192):
                    pass  # connected, never answered
                return
            try:
                self._serve(connection)
            finally:
                self._served.release()
        except OSError:
            pass
        finally:
            self._now_connected -= 1
            self._open.discard(connection)
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        fancy = prompt = True
        connection.sendall(PROMPT)
        while data := connection.recv(8192):
            if self.hang:
                continue
            words = data[:-1].split()  # whatever comes in one segment is one command
            if self.first_is_unknown:
                self.first_is_unknown = False
                answer = b'unknown command: "(null)"\n'
            elif words == [b"quit"]:
                return
            elif words == [b"fancy", b"no"]:
                fancy, answer = False, b"no\n"
            elif words == [b"prompt", b"no"]:
                prompt, answer = False, b"no\n"
            elif words == [self._command]:
                self.asked += 1
                answer = self.cache().encode()
                if fancy:
                    answer = _STYLED.sub(b"\x1b[1;4m\\1\x1b[0m\x1b[1m\\2\x1b[0m", answer)
                if self.cut is not None:
                    connection.sendall(answer[: self.cut])
                    return
            elif words[:2] == [b"bc", b"add"]:
                # The terminal drops the line's last byte, and knows a word by the blank behind it.
                complete = data[:-1].endswith(b" ") and len(words) % 2 == 0
                added = dict(zip(words[2::2], words[3::2], strict=False))
                answer = self.add({k.decode(): v.decode() for k, v in added.items()}).encode() if complete else USAGE
            else:
                answer = b'unknown command: "(null)"\n'
            self._send(connection, answer + (PROMPT if prompt else b"") + b"\0")

    def _send(self, connection: socket.socket, answer: bytes) -> None:
        if not self.chunk:
            connection.sendall(answer)
            return
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(answer), self.chunk):
            connection.sendall(answer[start : start + self.chunk])


class Bridge:
    """A running `ha-bridge` process; its log is at hand line by line, with addresses unless `hiding`."""

    def __init__(self, *arguments: str, command: tuple[str, ...] = (), hiding: bool = False) -> None:
        self.lines: list[str] = []
        self._grown = threading.Condition()
        shown = [] if hiding else ["--log-addresses"]
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", "ha_bridge", "--home-agent", HOME_AGENT, *shown, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._grown:
                self.lines.append(line.rstrip("\n"))
                self._grown.notify_all()

    def events(self, name: str) -> list[str]:
        """Return the lines of event `name` so far."""
        return [line for line in self.lines if f" event={name} " in f"{line} "]

    def wait(self, name: str, count: int = 1, timeout: float = 60.0) -> str:
        """Wait for the `count`th line of event `name` and return it."""
        with self._grown:
            if not self._grown.wait_for(lambda: len(self.events(name)) >= count, timeout):
                raise AssertionError(f"no event={name} within {timeout} s; log:\n" + "\n".join(self.lines))
            return self.events(name)[count - 1]

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(patient(60))
        finally:
            self.kill()

    def kill(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(patient(60))
        self._reader.join(patient(60))


@contextlib.contextmanager
def bridge(*arguments: str, command: tuple[str, ...] = (), hiding: bool = False) -> Iterator[Bridge]:
    """Provide a bridge process that does not outlive the block; a traceback in its log fails the test."""
    running = Bridge(*arguments, command=command, hiding=hiding)
    try:
        yield running
    finally:
        running.kill()
    assert not any("Traceback" in line for line in running.lines), "\n".join(running.lines)


if __name__ == "__main__":  # a home agent's process, to be killed: port and the file that holds the cache
    shown = Path(sys.argv[2])
    terminal = Terminal(shown.read_text, port=int(sys.argv[1]))
    print(terminal.port, flush=True)
    threading.Event().wait()
