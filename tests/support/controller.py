# SPDX-License-Identifier: Apache-2.0
"""A real controller, `ryu-manager controller/app.py`, beside a real Open vSwitch, and a client for its REST API."""

import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.checkout import CHECKOUT
from tests.support.conformance import assert_declared
from tests.support.logs import assert_log_clean
from tests.support.ovs import Ovs
from tests.support.waiting import wait_for
from topologies.waiting import patient

TIMEOUT = patient(60.0)  # seconds, for any one answer
START_TIMEOUT = 90.0  # seconds; 2 are needed on an idle machine
OPENFLOW_PORT = 6653
REST_PORT = 8080


class Answer(NamedTuple):
    """One HTTP answer; `body` is the decoded JSON, None where there is none."""

    status: int
    body: Any
    content_type: str
    headers: http.client.HTTPMessage


class Controller:
    """The controller's process, in the namespace of `ovs`. A context manager; may be killed and started again."""

    def __init__(
        self,
        ovs: Ovs,
        directory: Path,
        settings: str = "",
        host: str = "127.0.0.1",
        options: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
        token: str | None = None,
        environment: Sequence[str] = (),
    ) -> None:
        """Describe a controller that is to run in the namespace of `ovs`.

        settings: lines of section [hoaflow]. host: where it serves REST. options: further ones of ryu-manager.
        tls: for clients, where it serves REST over TLS. token: what `call` shows if it is given no other.
        environment: further variables, each `NAME=VALUE`.
        """
        self._ovs = ovs
        self._host = host
        self._options = options
        self._environment = environment
        self.tls = tls
        self.token = token
        self._log = directory / "controller.log"
        self._config = directory / "controller.conf"
        self._config.write_text(f"[hoaflow]\nlog_addresses = true\n{settings}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill(signal.SIGTERM)

    @property
    def url(self) -> str:
        """Where its REST API is."""
        return f"{'http' if self.tls is None else 'https'}://{self._host}:{REST_PORT}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text()

    @property
    def log_file(self) -> Path:
        """Where it logs."""
        return self._log

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            *("env", *self._environment),
            str(Path(sys.executable).with_name("ryu-manager")),
            *("--config-file", str(self._config), "--wsapi-host", self._host, "--wsapi-port", str(REST_PORT)),
            *("--ofp-listen-host", "127.0.0.1", "--ofp-tcp-listen-port", str(OPENFLOW_PORT)),
            *self._options,
            "controller/app.py",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._ovs.command(*command), cwd=CHECKOUT, stdout=log, stderr=log)
        try:
            wait_for("the controller answers", self._answers, START_TIMEOUT)
        except TimeoutError as error:
            self.kill()
            raise TimeoutError(f"{error}; it logged:\n{self.log}") from None

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)

    def hang_up(self) -> None:
        """Send SIGHUP, upon which it reads tokens and certificates again."""
        self.send_signal(signal.SIGHUP)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it; by default with -9."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(TIMEOUT)
            self._process = None

    def assert_log_clean(self, allow: Sequence[str] = ()) -> None:
        """Fail when it logged an error that no regular expression of `allow` expects."""
        assert_log_clean(self._log, allow)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        raw: bytes | None = None,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one REST call; fail if OpenAPI does not declare the answer.

        body: sent as JSON. raw: sent as it is. token: an empty one is not shown.
        """
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        content, response_headers, status = self._request(method, path, data, token, headers or {})
        kind = response_headers.get("Content-Type", "")
        return Answer(status, _decoded(content, kind), kind, response_headers)

    def text(self, path: str, accept: str = "*/*") -> Answer:
        """Return the text that a GET answers, as `body`."""
        content, headers, status = self._request("GET", path, None, None, {"Accept": accept})
        return Answer(status, content.decode(), headers.get("Content-Type", ""), headers)

    def get(self, path: str) -> Any:
        """Return the body of a GET that is answered 200."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def put(self, path: str, body: object) -> Any:
        """Return the body of a PUT that is answered 200."""
        answer = self.call("PUT", path, body)
        assert answer.status == 200, answer
        return answer.body

    def _request(
        self, method: str, path: str, data: bytes | None, token: str | None, headers: Mapping[str, str]
    ) -> tuple[bytes, http.client.HTTPMessage, int]:
        shown = self.token if token is None else token
        sent = dict(headers) | ({"Authorization": f"Bearer {shown}"} if shown else {})
        with self._ovs.inside():
            connection = (
                http.client.HTTPConnection(self._host, REST_PORT, timeout=TIMEOUT)
                if self.tls is None
                else http.client.HTTPSConnection(self._host, REST_PORT, timeout=TIMEOUT, context=self.tls)
            )
            try:
                connection.request(method, path, data, sent)
                response = connection.getresponse()
                content = response.read()
            finally:
                connection.close()
        assert_declared(method, path, response.status, response.headers.get("Content-Type", ""), content)
        return content, response.headers, response.status

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the controller ended with {self._process.returncode}:\n{self.log}")
        try:
            return self.call("GET", "/healthz").status == 200
        except OSError:
            return False


def _decoded(content: bytes, content_type: str) -> Any:
    """Return JSON decoded, anything else as it is, None for nothing."""
    return json.loads(content) if content and "json" in content_type else content or None
