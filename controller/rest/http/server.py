# SPDX-License-Identifier: Apache-2.0
"""Accept the API's connections, and serve each with eventlet's HTTP server.

Ours because eventlet's accept loop makes all clients wait when there are too many connections; this one ends those of
strangers. It also limits the connections of one address, and makes TLS handshakes where they delay nobody else.
"""

import resource
import socket
import time

import eventlet
import eventlet.wsgi

from controller.access.exposure import Exposure
from controller.access.log_throttle import LogThrottle
from controller.listening import connections, listen
from controller.rest.api import RestApi
from controller.rest.http.connections import Connection, Connections, TooManyConnections
from controller.rest.http.protocol import HttpProtocol
from controller.tls import HandshakeFailed
from hoaflow.logs import Log

LOG = Log("rest")

# Most connections, if the host allows so many files. Beyond, those without an admitted request are ended.
MOST_CONNECTIONS = 10_000
OTHER_FILES = 500  # switches, logs and others
LOGGED_EVERY = 60.0  # seconds in which a refused address is logged once


class RestServer:
    """Serve the API on one address, over TLS if there are certificates."""

    def __init__(self, exposure: Exposure, idle_timeout: float, connections_per_client: int) -> None:
        """Listen; a connection may be silent for `idle_timeout` seconds. Raises CannotListen."""
        self._tls = exposure.tls
        self._idle_timeout = idle_timeout
        self._connections = Connections(_most_connections(), connections_per_client)
        self._throttle = LogThrottle(LOGGED_EVERY)
        self._socket = listen(exposure.host, exposure.port)

    def serve(self, api: RestApi) -> None:
        """Serve until the greenlet is ended."""
        http = eventlet.wsgi.Server(
            self._socket,
            self._socket.getsockname(),
            api,
            environ={"wsgi.url_scheme": "http" if self._tls is None else "https"},
            max_http_version=eventlet.wsgi.DEFAULT_MAX_HTTP_VERSION,
            socket_timeout=self._idle_timeout,
            log_output=False,
            debug=False,
        )
        for accepted, address in connections(self._socket, LOG):
            try:
                connection = self._connections.add(address[0])
            except TooManyConnections as error:
                self._warn("connection-refused", address[0], str(error))
                accepted.close()
                continue
            connection.end = eventlet.spawn(self._serve_connection, http, connection, accepted, address).kill

    def _serve_connection(
        self, http: eventlet.wsgi.Server, connection: Connection, accepted: socket.socket, address: tuple[str, int]
    ) -> None:
        """Serve one connection from the handshake to its end."""
        try:
            accepted.settimeout(self._idle_timeout)
            # Otherwise an answer in several segments waits for the client's delayed acknowledgement.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                accepted = self._tls.accept(accepted)
            HttpProtocol([address, accepted, eventlet.wsgi.STATE_IDLE], http, connection.set_admitted)
        except HandshakeFailed as error:
            self._warn("client-refused", address[0], str(error))
        except OSError:
            pass  # the client is gone, or silent for too long
        except Exception:
            LOG.exception("connection-failed", peer=address[0])
        finally:
            accepted.close()
            connection.close()

    def _warn(self, event: str, peer: str, reason: str) -> None:
        left_out = self._throttle.due(f"{event} {peer}", time.monotonic())
        if left_out is not None:
            LOG.warning(event, peer=peer, reason=reason, more=left_out)


def _most_connections() -> int:
    """Raise the limit of open files as far as allowed; return the number of connections that leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(hard - OTHER_FILES, hard // 2))
