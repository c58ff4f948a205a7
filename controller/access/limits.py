# SPDX-License-Identifier: Apache-2.0
"""Limit each client's requests, so that the others get their turn. Pure: time is an argument."""

from collections import OrderedDict
from dataclasses import dataclass

from hoaflow.errors import HoaflowError

# Clients that are remembered; the one that has been idle longest is forgotten first.
MOST_CLIENTS = 10_000
# Seconds after which a client with too many requests under way should try again.
RETRY_BUSY = 1.0


class TooManyRequests(HoaflowError):
    """A client has made too many requests; it may try again in `retry_after` seconds."""

    def __init__(self, reason: str, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of each client: requests per second, requests under way at a time, and bytes of their bodies.

    A client may make the requests of one second at once.
    """

    rate: float
    in_flight: int
    body_bytes: int


@dataclass(slots=True)
class _Client:
    left: float  # requests that it may make now, as of `at`
    at: float
    in_flight: int = 0
    body_bytes: int = 0


class Limits:
    """Count what each client has taken of its allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def enter(self, name: str, body_bytes: int, now: float) -> None:
        """Count a request that begins, with a body of `body_bytes`; `leave` must follow. Raises TooManyRequests."""
        allowed, client = self._allowance, self._client(name, now)
        client.left = min(allowed.rate, client.left + (now - client.at) * allowed.rate)
        client.at = now
        if client.left < 1:
            raise TooManyRequests(f"at most {allowed.rate:g} requests a second", (1 - client.left) / allowed.rate)
        client.left -= 1
        if client.in_flight >= allowed.in_flight:
            raise TooManyRequests(f"at most {allowed.in_flight} requests at a time", RETRY_BUSY)
        if client.in_flight and client.body_bytes + body_bytes > allowed.body_bytes:
            raise TooManyRequests(f"at most {allowed.body_bytes} bytes of bodies at a time", RETRY_BUSY)
        client.in_flight += 1
        client.body_bytes += body_bytes

    def leave(self, name: str, body_bytes: int) -> None:
        """Count the end of a request that `enter` has let in."""
        client = self._clients[name]
        client.in_flight -= 1
        client.body_bytes -= body_bytes

    def _client(self, name: str, now: float) -> _Client:
        client = self._clients.get(name)
        if client is None:
            self._forget_idle()
            client = self._clients[name] = _Client(self._allowance.rate, now)
        else:
            self._clients.move_to_end(name)
        return client

    def _forget_idle(self) -> None:
        """Forget idle clients to make room; the others are no more than there are connections."""
        while len(self._clients) >= MOST_CLIENTS:
            for name, client in self._clients.items():
                if not client.in_flight:
                    del self._clients[name]
                    break
            else:
                return
