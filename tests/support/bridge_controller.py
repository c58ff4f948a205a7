# SPDX-License-Identifier: Apache-2.0
"""A controller for bridges, which keeps what they report and fails on demand."""

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Controller:
    """The controller's northbound API as far as a bridge uses it, on a port that stays the same over restarts.

    `fail` is asked before each request (method, path) and may answer (status, body) in the controller's stead, or
    raise ConnectionError to cut the connection. `cluster`: the URLs by name that it tells of as members, itself first;
    none, as if it were of version 0.1.
    """

    def __init__(self, listener: socket.socket | None = None) -> None:
        self.condition = threading.Condition()
        self.home_agents: dict[str, dict[str, Any]] = {}
        self.bindings: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.cluster: dict[str, str] = {}
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
        """Return how many requests of `method` to a path with that ending there were."""
        return sum(1 for asked, path, _ in self.requests if asked == method and path.endswith(ending))

    def tell_of_members(self) -> tuple[int, dict[str, Any]]:
        """Answer `GET /v1/cluster`."""
        if not self.cluster:
            return 404, {"title": "not found", "status": 404}
        members = [{"name": name, "url": url} for name, url in self.cluster.items()]
        return 200, {"cluster": "hoaflow", "member": next(iter(self.cluster)), "members": members}

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
        self.server.controller.clients.add(self.client_address[0])
        if self.command == "GET":
            status, content = self.server.controller.tell_of_members()
        else:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = self.server.controller.answer(self.command, self.path, body)
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = _do

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the requests are kept in the controller."""
