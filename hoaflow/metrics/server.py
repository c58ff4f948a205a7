# SPDX-License-Identifier: Apache-2.0
"""Serve metrics to Prometheus and answer probes, in threads of its own and with bounded memory."""

import argparse
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from hoaflow.arguments import listen_address

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

Probe = Callable[[str], tuple[bool, str]]
"""Takes a query string; returns whether all is well, and what to say of it."""

# Requests at a time; further connections are closed. Prometheus, a spare one and a curious operator take three.
MOST_REQUESTS = 8
PATIENCE = 10.0  # seconds that a client may be silent


def registry_of_process() -> CollectorRegistry:
    """Return a registry with Prometheus' own process metrics: memory, processor time, open files."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def nothing_lacking() -> str | None:
    """Report a part as alive, or as ready, as soon as it serves."""
    return None


class MetricsServer:
    """Serve a registry until `close`, and answer probes at `/healthz` and `/readyz`.

    Raises OSError if it can't listen.
    """

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        lacking: Callable[[], str | None] = nothing_lacking,
        stuck: Callable[[], str | None] = nothing_lacking,
        standing_by: Callable[[], str | None] = nothing_lacking,
    ) -> None:
        """Listen at `address`, a host and a port; port 0 takes a free one.

        `lacking` returns what keeps the part from being ready, or None; `stuck` what only a restart mends;
        `standing_by` who serves in its place: it is not ready then, but for those who ask `/readyz?standby=ok`.
        """
        host, port = address
        server = type("Server", (_Server,), {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET})

        def alive(query: str) -> tuple[bool, str]:
            return _verdict(stuck())

        def ready(query: str) -> tuple[bool, str]:
            if serving := standing_by():
                return "ok" in parse_qs(query).get("standby", ()), f"standing by: {serving} serves"
            return _verdict(lacking())

        application = _application(registry, {"/healthz": alive, "/readyz": ready})
        self._server: _Server = make_server(host, port, application, server, handler_class=_Handler)
        self.address: tuple[str, int] = self._server.server_address[:2]
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _application(registry: CollectorRegistry, probes: Mapping[str, Probe]) -> Application:
    exposition: Application = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        probe = probes.get(environ["PATH_INFO"])
        if probe is None:
            return exposition(environ, start_response)
        well, words = probe(environ.get("QUERY_STRING", ""))
        status = "200 OK" if well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{words}\n".encode()]

    return answer


def _verdict(problem: str | None) -> tuple[bool, str]:
    return problem is None, problem or "ok"


class _Server(ThreadingWSGIServer):
    """Close connections beyond the limit instead of starting a thread for each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = threading.BoundedSemaphore(MOST_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that went away or fell silent."""


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: a scrape is no event."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--metrics`."""
    parser.add_argument(
        "--metrics",
        type=listen_address,
        metavar="HOST:PORT",
        help="serve Prometheus metrics, and probes at /healthz and /readyz, to everybody (default: off)",
    )
