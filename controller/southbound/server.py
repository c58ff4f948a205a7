# SPDX-License-Identifier: Apache-2.0
"""Listen for switches, in clear or over TLS.

Ryu's own server ends for good at the first accept() that fails, as happens when the process has no file left, and gives
any peer unlimited time for the handshake.
"""

import contextlib
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import eventlet
from ryu.controller import controller
from ryu.controller.handler import MAIN_DISPATCHER
from ryu.ofproto import ofproto_common

from controller.access.log_throttle import LogThrottle
from controller.listening import connections, listen
from controller.tls import HandshakeFailed, ServerTls
from hoaflow.logs import Log

LOG = Log("southbound")

# Seconds for the OpenFlow handshake, which follows that of TLS and takes milliseconds.
HANDSHAKE_TIMEOUT = 10.0
# Most connections with an incomplete handshake; beyond, the oldest of them is closed.
MOST_IN_HANDSHAKE = 256
LOGGED_EVERY = 60.0  # seconds in which a refused address is logged once

Vital = Callable[..., None]


class SwitchConnection(controller.Datapath):
    """Serve a switch as Ryu's class does, and call `established` when the handshake is complete."""

    def __init__(self, connection: socket.socket, peer: Any, established: Callable[[], None]) -> None:
        self._established = established
        super().__init__(connection, peer)

    def set_state(self, state: str) -> None:
        """Enter a state of Ryu's; the main one follows the handshake."""
        if state == MAIN_DISPATCHER:
            self._established()
        super().set_state(state)


class OpenFlowServer:
    """Accept switches at one address, in clear if `tls` is None."""

    def __init__(self, host: str, port: int, tls: ServerTls | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        # The peer of each connection and the function that ends it, oldest first.
        self._in_handshake: OrderedDict[object, tuple[Any, Callable[[], None]]] = OrderedDict()
        self._throttle = LogThrottle(LOGGED_EVERY)

    def serve(self) -> None:
        """Accept switches until the greenlet is ended. Raises CannotListen."""
        listening = listen(self._host, self._port)
        LOG.info("openflow-listening", openflow=f"{'ssl' if self._tls else 'tcp'}:{self._host}:{self._port}")
        for accepted, peer in connections(listening, LOG):
            if len(self._in_handshake) >= MOST_IN_HANDSHAKE:
                _, (oldest, end) = self._in_handshake.popitem(last=False)
                self._refuse(oldest, f"{MOST_IN_HANDSHAKE} younger connections without a complete handshake")
                end()
            key = object()
            self._in_handshake[key] = peer, eventlet.spawn(self._converse, key, accepted, peer).kill

    def _converse(self, key: object, accepted: socket.socket, peer: Any) -> None:
        """Serve one connection, from the handshakes to its end."""
        try:
            if self._tls is not None:
                accepted = self._tls.accept(accepted)
            self._serve_switch(key, accepted, peer)
        except HandshakeFailed as error:
            self._refuse(peer, str(error))
        except OSError:
            pass  # the switch is gone
        except Exception:
            LOG.exception("connection-failed", peer=peer[0])
        finally:
            accepted.close()
            self._in_handshake.pop(key, None)

    def _serve_switch(self, key: object, connection: socket.socket, peer: Any) -> None:
        handshake = eventlet.Timeout(HANDSHAKE_TIMEOUT)

        def established() -> None:
            handshake.cancel()
            self._in_handshake.pop(key, None)

        try:
            with contextlib.closing(SwitchConnection(connection, peer, established)) as switch:
                switch.serve()
        except eventlet.Timeout as timeout:
            if timeout is not handshake:
                raise
            self._refuse(peer, f"no OpenFlow handshake within {HANDSHAKE_TIMEOUT:g} s")
        finally:
            handshake.cancel()

    def _refuse(self, peer: Any, reason: str) -> None:
        more = self._throttle.due(str(peer[0]), time.monotonic())
        if more is not None:
            LOG.warning("switch-refused", peer=peer[0], reason=reason, more=more)


def install(tls: ServerTls | None, vital: Vital) -> None:
    """Have Ryu listen through OpenFlowServer, run by `vital`. Call it before Ryu starts listening."""

    def server_loop(_: controller.OpenFlowController, tcp_port: int | None, ssl_port: int | None) -> None:
        port = (tcp_port or ofproto_common.OFP_TCP_PORT) if tls is None else (ssl_port or ofproto_common.OFP_SSL_PORT)
        vital(OpenFlowServer(controller.CONF.ofp_listen_host, port, tls).serve)

    controller.OpenFlowController.server_loop = server_loop
