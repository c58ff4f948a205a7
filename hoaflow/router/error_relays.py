# SPDX-License-Identifier: Apache-2.0
"""Relay ICMP errors from within the endpoints' tunnels to correspondents (RFC 2473 §8, RFC 2003 §4), in threads.

`hoaflow.router.packet_filter` has the router's kernel copy the errors into the endpoint that the packets came from. If
an error shows that a path is too narrow and correspondents cannot send smaller packets (`cannot_shrink`), the home
address is left to the home agent for a while, which can send fragments.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable

from hoaflow.addresses import longest_match
from hoaflow.logs import Log
from hoaflow.router.endpoint_routes import EndpointRoutes
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.tunnel.error_relay import ErrorRelay
from hoaflow.tunnel.icmp_errors import TunnelPacketError, cannot_shrink
from hoaflow.tunnel.namespace import NamespaceError

LOG = Log("router")

KEPT_BACK = 600.0  # seconds: after that a path may be taken for wider (RFC 8201 §4)


class ErrorRelays:
    """The relays of all endpoints, each with its own thread."""

    def __init__(self) -> None:
        self._running: dict[EndpointRoutes, _Running] = {}

    def follow(self, endpoints: Iterable[EndpointRoutes]) -> None:
        """Relay for these endpoints and no others, and start anew where a namespace was made anew."""
        wanted = list(endpoints)
        for routes, running in list(self._running.items()):
            if routes not in wanted or running.cookie != routes.cookie:
                running.close()
                del self._running[routes]
        for routes in wanted:
            if routes not in self._running and routes.cookie:
                try:
                    self._running[routes] = _Running(routes)
                except (NamespaceError, OSError) as error:
                    LOG.warning("error-relay", home_agent=routes.record.home_agent, problem=error)

    def kept_back(self, routes: EndpointRoutes) -> dict[str, str]:
        """Return {home address: reason} of those whose paths are too narrow."""
        running = self._running.get(routes)
        return {} if running is None else running.kept_back(time.monotonic())

    def close(self) -> None:
        """End all threads."""
        self.follow(())


class _Running:
    """The relay of one endpoint, with its thread."""

    def __init__(self, routes: EndpointRoutes) -> None:
        self.cookie = routes.cookie
        self._record: EndpointRecord = routes.record
        self._carried: Callable[[str], str | None] = routes.care_of_address
        # home address or prefix: (care-of address, until when, octets that fit)
        self._narrow: dict[str, tuple[str, float, int]] = {}
        self._relay = ErrorRelay(self._record.home_agent, self._carries_packet_of, self._record.namespace)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"errors {self._record.home_agent}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._woken.close()
        self._relay.close()

    def kept_back(self, now: float) -> dict[str, str]:
        for home, (care_of_address, until, _) in list(self._narrow.items()):
            if now >= until or self._carried(home) != care_of_address:
                del self._narrow[home]
        return {
            home: f"the path to care-of address {care_of_address} carries {room} octets within the tunnel, and no "
            f"smaller packets can be asked for: the home agent can send fragments"
            for home, (care_of_address, _, room) in list(self._narrow.items())
        }

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._relay, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while all(key.fileobj is self._relay for key, _ in selector.select()):
                for error in self._relay.relay():
                    LOG.debug("tunnel-error", kind=error.kind, home_address=error.inner_destination, room=error.room)
                    home = self._home(error.inner_destination)
                    if home is not None and cannot_shrink(error):
                        until = time.monotonic() + KEPT_BACK
                        self._narrow[home] = (error.outer_destination, until, error.room)

    def _carries_packet_of(self, error: TunnelPacketError) -> bool:
        home = self._home(error.inner_destination)
        return home is not None and self._carried(home) == error.outer_destination

    def _home(self, address: str) -> str | None:
        """Return the home address, or the longest mobile network prefix, that is carried and covers the address."""
        return longest_match(address, lambda prefix: self._carried(prefix) is not None)
