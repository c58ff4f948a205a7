# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the northbound API: eventlet's, with bounds that it does not set itself."""

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
from logs import Log

LOG = Log("rest")

# Connections at a time, if the host allows so many files. Beyond, those go that have not been let in.
MOST_CONNECTIONS = 10_000
OTHER_FILES = 500  # switches, logs, and what else is open
TOLD_EVERY = 60.0  # seconds in which a refused address is told of once


class RestServer:
    """Serves the API at one address, over TLS where there are certificates."""

    def __init__(self, exposure: Exposure, idle_timeout: float, connections_per_client: int) -> None:
        """Listen. ``idle_timeout``: seconds that a connection may be silent. Raises CannotListen."""
        self._tls = exposure.tls
        self._idle_timeout = idle_timeout
        self._connections = Connections(_most_connections(), connections_per_client)
        self._throttle = LogThrottle(TOLD_EVERY)
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
                self._tell("connection-refused", address[0], str(error))
                accepted.close()
                continue
            connection.end = eventlet.spawn(self._converse, http, connection, accepted, address).kill

    def _converse(
        self, http: eventlet.wsgi.Server, connection: Connection, accepted: socket.socket, address: tuple[str, int]
    ) -> None:
        """One connection, from the handshake on until it ends."""
        try:
            accepted.settimeout(self._idle_timeout)
            # Else an answer of several parts waits for the client's delayed acknowledgement.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                accepted = self._tls.accept(accepted)
            HttpProtocol([address, accepted, eventlet.wsgi.STATE_IDLE], http, connection.let_in)
        except HandshakeFailed as error:
            self._tell("client-refused", address[0], str(error))
        except OSError:
            pass  # the client is gone, or silent for too long
        except Exception:
            LOG.exception("connection-failed", peer=address[0])
        finally:
            accepted.close()
            connection.close()

    def _tell(self, event: str, peer: str, reason: str) -> None:
        more = self._throttle.due(f"{event} {peer}", time.monotonic())
        if more is not None:
            LOG.warning(event, peer=peer, reason=reason, more=more)


def _most_connections() -> int:
    """Have this process open as many files as it may; return for how many connections that will do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(hard - OTHER_FILES, hard // 2))
