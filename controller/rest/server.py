# SPDX-License-Identifier: Apache-2.0
"""The HTTP server of the northbound API: eventlet's, with bounds that Ryu's way of starting it does not set."""

import resource
import socket

import eventlet
import eventlet.wsgi

from controller.rest.api import RestApi

# Connections at a time; further ones wait. Above what idle clients can take within their time-out.
MOST_CONNECTIONS = 10_000


class CannotListen(Exception):
    """The API's address can't be used."""


class RestServer:
    """Serves the API at Ryu's ``wsapi_host`` and ``wsapi_port``."""

    def __init__(self, host: str, port: int, idle_timeout: float) -> None:
        """Listen. ``idle_timeout``: seconds that a connection may be silent. Raises CannotListen."""
        self._idle_timeout = idle_timeout
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            # Not to be shared: a controller that was forgotten would answer every other request.
            self._socket = eventlet.listen((host, port), family, backlog=512, reuse_port=False)
        except OSError as error:
            raise CannotListen(f"can't listen on {host} port {port}: {error.strerror}") from None
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def serve(self, api: RestApi) -> None:
        """Serve until the greenlet is ended."""
        eventlet.wsgi.server(
            self._socket,
            api,
            max_size=MOST_CONNECTIONS,
            socket_timeout=self._idle_timeout,
            log_output=False,
            debug=False,
        )
