# SPDX-License-Identifier: Apache-2.0
"""The controller as a router's agent sees it: the tunnel calls of the REST API, with failures on demand."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeController:
    """Serves one router's tunnel list on 127.0.0.1 of the namespace it is made in. A context manager.

    `acknowledged`: the body of every acknowledgement. `failures`: statuses with which the next calls are
    answered. `master`, `generation`: what it says of the router's master. `members`: the URLs by name that it tells of,
    itself first; none, as if it were of version 0.1.
    """

    def __init__(self, lease: float = 3.0, port: int = 0) -> None:
        self.lease = lease
        self.revision = 100
        self.oldest = 100  # the list's revision when this life of the controller began
        self.known = False
        self.master, self.generation = True, 0
        self.members: dict[str, str] = {}
        self.home_agents: list[str] = []
        self.tunnels: dict[str, dict[str, Any]] = {}
        self.removed: dict[str, int] = {}
        self.acknowledged: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.failures: deque[int] = deque()
        self.changed = threading.Condition()
        self.dead = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.answer(self)

            def do_PUT(self) -> None:
                fake.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.port = self.server.server_address[1]

    def __enter__(self) -> FakeController:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """End as a killed process does: connections, too. Harmless when repeated."""
        with self.changed:
            self.dead = True
            self.changed.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def bind(self, home_address: str, care_of_address: str, home_agent: str) -> None:
        """Add or change a binding."""
        with self.changed:
            self.revision += 1
            self.removed.pop(home_address, None)
            self.tunnels[home_address] = {
                "revision": self.revision,
                "home_address": home_address,
                "care_of_address": care_of_address,
                "home_agent": home_agent,
            }
            self.changed.notify_all()

    def unbind(self, home_address: str) -> None:
        """Remove a binding."""
        with self.changed:
            self.revision += 1
            del self.tunnels[home_address]
            self.removed[home_address] = self.revision
            self.changed.notify_all()

    def become(self, master: bool, generation: int) -> None:
        """Say from now on that it is, or is not, the router's master."""
        with self.changed:
            self.master, self.generation = master, generation
            self.changed.notify_all()

    def know(self, *home_agents: str) -> None:
        """Say that these home agents' snapshots have come: the whole list is to be compared."""
        with self.changed:
            self.home_agents = list(home_agents)
            self.revision += 1
            self.oldest = self.revision
            self.changed.notify_all()

    def restart(self, switch_first: bool = False) -> None:
        """Forget all; revisions go on from a higher number. The router is known at once if its switch is back."""
        with self.changed:
            self.revision = self.oldest = self.revision + 1000
            self.tunnels, self.removed, self.home_agents, self.known = {}, {}, [], switch_first
            self.changed.notify_all()

    def last(self) -> dict[str, Any]:
        """Return the last acknowledgement, empty before the first."""
        return self.acknowledged[-1] if self.acknowledged else {}

    def up_to_date(self) -> bool:
        """Tell whether the agent has acknowledged the list as it is now."""
        return self.known and self.last().get("revision") == self.revision

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one call."""
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length") or 0)) or "null")
        url = urlsplit(request.path)
        if url.path == "/v1/cluster":
            self._send(request, *self._cluster())
            return
        with self.changed:
            self.calls.append(f"{request.command} {url.path}")
            if self.failures:
                self._send(request, self.failures.popleft(), {"title": "on demand", "detail": "a test wants it"})
            elif request.command == "PUT":
                self.known = True
                self.acknowledged.append(body)
                self.changed.notify_all()
                self._send(request, 200, {"lease": self.lease})
            elif not self.known:
                self._send(request, 404, {"title": "Not Found", "detail": "router unknown"})
            else:
                query = {key: int(values[0]) for key, values in parse_qs(url.query).items()}
                until = time.monotonic() + query["wait"]
                mastered = self.master, self.generation
                while (
                    (query["after"], mastered) == (self.revision, (self.master, self.generation))
                    and self.known
                    and not self.dead
                    and time.monotonic() < until
                ):
                    self.changed.wait(until - time.monotonic())
                if self.known:
                    self._send(request, 200, self._news(query["after"]))
                else:
                    self._send(request, 404, {"title": "Not Found", "detail": "router unknown"})

    def _news(self, after: int) -> dict[str, Any]:
        full = not self.oldest <= after <= self.revision
        tunnels = [entry for entry in self.tunnels.values() if full or entry["revision"] > after]
        return {
            "revision": self.revision,
            "full": full,
            "home_agents": self.home_agents,
            "tunnels": [{k: v for k, v in entry.items() if k != "revision"} for entry in tunnels],
            "removed": [] if full else [home for home, revision in self.removed.items() if revision > after],
            "master": self.master,
            "generation": self.generation,
        }

    def _cluster(self) -> tuple[int, dict[str, Any]]:
        if not self.members:
            return 404, {"title": "Not Found", "detail": "no such call"}
        members = [{"name": name, "url": url} for name, url in self.members.items()]
        return 200, {"cluster": "hoaflow", "member": next(iter(self.members)), "members": members}

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
        if self.dead:
            request.close_connection = True
            return
        data = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the agent has ended meanwhile
            request.wfile.write(data)
