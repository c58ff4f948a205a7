# SPDX-License-Identifier: Apache-2.0
"""Call the northbound API on one keep-alive connection, and prepare requests for the load generator."""

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any

from hoaflow.errors import HoaflowError
from tests.support.ovs import Ovs

TIMEOUT = 300.0  # seconds; a controller that is busy for minutes shall show in the figures, not end them
IDLE = 5.0  # seconds after which a connection is not used again


class Unexpected(HoaflowError):
    """The controller answered something that the benchmark is not about."""


class RestClient:
    """Call `port` of `host` in the namespace of `ovs`; connects on the first call, and again after `close`.

    Not thread safe.
    """

    def __init__(self, ovs: Ovs, port: int, host: str = "127.0.0.1", headers: Mapping[str, str] | None = None) -> None:
        """Show `headers` with each call."""
        self._ovs = ovs
        self._headers = headers or {}
        self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        self._used = 0.0

    def call(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        """Return the HTTP status and the decoded body. Raises OSError, HTTPException; the connection is closed then."""
        if time.monotonic() - self._used > IDLE:
            self.close()  # the server may be about to
        try:
            if self._connection.sock is None:
                with self._ovs.inside():
                    self._connection.connect()
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self._used = time.monotonic()
        return response.status, json.loads(content) if content else None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the decoded body of an answer 200 or 201; sends bytes as they are. Raises Unexpected."""
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        status, answer = self.call(method, path, data)
        if status not in (200, 201):
            raise Unexpected(f"{method} {path}: expected 200 or 201, got {status}: {str(answer)[:300]}")
        return answer

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()


def prepared(method: str, path: str, body: object) -> str:
    """Return a whole HTTP request, as `Load.requests` has it."""
    text = json.dumps(body)
    return (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n{text}"
    )
