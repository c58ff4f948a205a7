# SPDX-License-Identifier: Apache-2.0
"""What surrounds a bridge: a virtual terminal that behaves as UMIP's does, and a controller; both fail on demand."""

import contextlib
import ctypes
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

DATA = Path(__file__).parents[1] / "data" / "umip"
HOME_AGENT = "2001:db8:99::1"
HOME_PREFIX = "2001:db8:99::/64"
PROMPT = b"mip6d> "
USAGE = b"hoa ADDR [coa ADDR] local ADDR flags [A]H[LK] [lifetime SECOND]\n  [seq auto|NUMBER] [dad want|never]\n"
_STYLED = re.compile(rb"^(hoa \S+)( status \S+)$", re.MULTILINE)


def unpadded(address: str) -> str:
    """`address` as UMIP writes it: eight groups, never shortened."""
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
    """One entry of a binding cache in UMIP's form, plain."""
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

    `cache` gives the plain text of the binding cache. Set `hang` to accept and say nothing, `cut` to hang up after
    that many bytes of the next answers to `bc`, `chunk` to send in pieces of that many bytes. `add` takes what `bc add`
    brings, by the words of UMIP 0.4 (hoa, coa, local, flags, lifetime, seq, dad), and gives the answer.
    """

    def __init__(self, cache: Callable[[], str], port: int = 0, listener: socket.socket | None = None) -> None:
        self.cache = cache
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
            elif words == [b"bc"]:
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


class Controller:
    """The controller's northbound API as far as a bridge uses it, on a port that stays the same over restarts.

    `fail` is asked before each request (method, path) and may answer (status, body) in the controller's stead, or
    raise ConnectionError to cut the connection.
    """

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.condition = threading.Condition()
        self.home_agents: dict[str, dict[str, Any]] = {}
        self.bindings: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.forbidden: set[str] = set()
        self.clients: set[str] = set()
        self.fail: Callable[[str, str], tuple[int, dict[str, Any]] | None] = lambda method, path: None
        self._held_snapshot: set[str] = set()
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()[:2]
        self.url = "http://{}:{}".format(*self._address)
        self._server: _Server | None = None
        self.start()

    def start(self) -> None:
        """Start to listen; with what was held before, unless `forget` was called."""
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(self._address)
        self._server = _Server(self, self._listener)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on, and cut those that are open."""
        if self._server is not None:
            self._server.shutdown()
            self._server.cut()
            self._listener.close()
            self._server = None

    def forget(self) -> None:
        """Lose everything, as a restart does."""
        with self.condition:
            self.home_agents.clear()
            self.bindings.clear()
            self._held_snapshot.clear()

    def wait(self, predicate: Callable[[], object], timeout: float = 20.0) -> None:
        """Wait until `predicate` holds, looked at after each request; fail with what was requested if it never does."""
        deadline = time.monotonic() + timeout
        with self.condition:
            while not predicate():
                left = deadline - time.monotonic()
                if left <= 0:
                    recent = "\n".join(f"{method} {path} {body}" for method, path, body in self.requests[-20:])
                    raise AssertionError(f"not within {timeout} s; holds {self.bindings}; last requests:\n{recent}")
                self.condition.wait(min(left, 0.1))

    def care_of(self) -> dict[str, str]:
        """Return what may go direct: home address to care-of address."""
        return {home: held["care_of_address"] for home, held in self.bindings.items() if "withheld" not in held}

    def withheld(self) -> dict[str, str]:
        """Return what is left to the home agent: home address and reason."""
        return {home: held["withheld"] for home, held in self.bindings.items() if "withheld" in held}

    def count(self, method: str, ending: str = "") -> int:
        """How many requests of `method` to a path with that ending there were."""
        return sum(1 for asked, path, _ in self.requests if asked == method and path.endswith(ending))

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer one request as the contract says."""
        with self.condition:
            self.requests.append((method, path, body))
            self.condition.notify_all()
        failure = self.fail(method, path)
        with self.condition:
            status, content = failure or self._answer(method, path, body)
            self.condition.notify_all()
            return status, content

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        parts = path.strip("/").split("/")
        if method == "PUT" and parts[:2] == ["v1", "home-agents"] and len(parts) == 3:
            self.home_agents[parts[2]] = body
            held = sum(1 for binding in self.bindings.values() if binding["home_agent"] == parts[2])
            snapshot = "held" if parts[2] in self._held_snapshot else "wanted"
            return 200, body | {"home_agent": parts[2], "snapshot": snapshot, "bindings": held, "expires_in": 10}
        if method == "PUT" and parts[3:] == ["bindings"]:
            return self._snapshot(parts[2], body["bindings"])
        if method == "POST" and path == "/v1/bindings":
            if "bindings" not in body:
                status, errors = self._post(body)
                return status, body if status < 400 else {"status": status, "errors": errors}
            results = []
            for index, item in enumerate(body["bindings"]):
                status, errors = self._post(item)
                results.append({"index": index, "status": status} | ({"errors": errors} if errors else {}))
            return 200, {"results": results}
        return 404, {"title": "not found", "status": 404}

    def _post(self, item: dict[str, Any]) -> tuple[int, list[dict[str, str]]]:
        home, care_of = item["home_address"], item["care_of_address"]
        if item["home_agent"] not in self.home_agents:
            return 422, [{"field": "home_agent", "reason": "not announced"}]
        if item.get("lifetime") == 0 or care_of == home:
            self.bindings.pop(home, None)
            return 200, []
        if care_of in self.forbidden:
            return 422, [{"field": "care_of_address", "reason": "forbidden"}]
        held = self.bindings.get(home)
        if held and "sequence" in held and "sequence" in item and (item["sequence"] - held["sequence"]) % 65536 > 32767:
            return 409, [{"field": "sequence", "reason": "stale"}]
        self.bindings[home] = item
        return (200 if held else 201), []

    def _snapshot(self, home_agent: str, items: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        if home_agent not in self.home_agents:
            return 404, {"title": "not announced", "status": 404}
        self._held_snapshot.add(home_agent)
        refused = [
            {"index": index, "errors": [{"field": "care_of_address", "reason": "forbidden"}]}
            for index, item in enumerate(items)
            if item["care_of_address"] in self.forbidden
        ]
        out = {item["index"] for item in refused}
        new = {item["home_address"]: item for index, item in enumerate(items) if index not in out}
        added, removed = len(new.keys() - self.bindings.keys()), len(self.bindings.keys() - new.keys())
        self.bindings = new
        return 200, {
            "added": added,
            "changed": 0,
            "removed": removed,
            "unchanged": len(new) - added,
            "refused": refused,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, controller: Controller, listener: socket.socket) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.controller = controller
        self.open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _do(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.controller.clients.add(self.client_address[0])
        status, content = self.server.controller.answer(self.command, self.path, body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST = _do

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the requests are kept in the controller."""


class Bridge:
    """A running `ha-bridge` process; its log is at hand line by line."""

    def __init__(self, *arguments: str, command: tuple[str, ...] = ()) -> None:
        self.lines: list[str] = []
        self._grown = threading.Condition()
        self.process = subprocess.Popen(
            [*command, sys.executable, "-m", "ha_bridge", "--home-agent", HOME_AGENT, "--log-addresses", *arguments],
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

    def wait(self, name: str, count: int = 1, timeout: float = 20.0) -> str:
        """Wait for the `count`th line of event `name` and return it."""
        with self._grown:
            if not self._grown.wait_for(lambda: len(self.events(name)) >= count, timeout):
                raise AssertionError(f"no event={name} within {timeout} s; log:\n" + "\n".join(self.lines))
            return self.events(name)[count - 1]

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(10)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it in any case."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)


@contextlib.contextmanager
def bridge(*arguments: str, command: tuple[str, ...] = ()) -> Iterator[Bridge]:
    """Provide a bridge process that does not outlive the block; a traceback in its log fails the test."""
    running = Bridge(*arguments, command=command)
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
