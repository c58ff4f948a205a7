# SPDX-License-Identifier: Apache-2.0
"""OpenFlow over TLS, by Ryu's own options ``--ctl-privkey``, ``--ctl-cert``, ``--ca-certs`` and
``--ofp-ssl-listen-port``.

Ryu 4.34 lets in the first switch only: it uses up its TLS context with that one and falls back on an
``ssl.wrap_socket`` without a certificate, which Python 3.12 no longer has. It takes switches without any certificate
when ``--ca-certs`` is missing, listens in clear when one of the other two is, and gives a handshake any time it likes.
"""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oslo_config import cfg
from ryu.lib import hub
from ryu.ofproto import ofproto_common

from controller.tls import HandshakeFailed, ServerTls, TlsFiles, WrongCertificates
from logs import Log

LOG = Log("southbound")

Connected = Callable[[Any, Any], None]


def openflow_tls(conf: cfg.ConfigOpts) -> ServerTls | None:
    """Return what Ryu's options say of TLS, None for OpenFlow in clear. Raises WrongCertificates."""
    given = {"--ctl-privkey": conf.ctl_privkey, "--ctl-cert": conf.ctl_cert, "--ca-certs": conf.ca_certs}
    if not any(given.values()):
        if conf.ofp_ssl_listen_port:
            raise WrongCertificates(f"--ofp-ssl-listen-port: TLS needs {', '.join(given)}")
        return None
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise WrongCertificates(f"OpenFlow over TLS needs {', '.join(given)}; missing: {', '.join(missing)}")
    return ServerTls(TlsFiles(Path(conf.ctl_cert), Path(conf.ctl_privkey), Path(conf.ca_certs)))


def install(tls: ServerTls) -> None:
    """Make Ryu listen to switches over TLS. To be called before Ryu starts listening."""
    from ryu.controller import controller

    def server_loop(self: Any, ofp_tcp_listen_port: int, ofp_ssl_listen_port: int | None) -> None:
        address = (controller.CONF.ofp_listen_host, ofp_ssl_listen_port or ofproto_common.OFP_SSL_PORT)
        server = hub.StreamServer(address, _over(tls, controller.datapath_connection_factory))
        LOG.info("openflow-listening", openflow="ssl:{}:{}".format(*address))
        server.serve_forever()

    controller.OpenFlowController.server_loop = server_loop


def _over(tls: ServerTls, connected: Connected) -> Connected:
    """Return what makes the handshake on a connection, in that connection's own greenlet, and hands it on."""

    def accept(connection: socket.socket, address: Any) -> None:
        try:
            secured = tls.accept(connection)
        except HandshakeFailed as error:
            LOG.warning("switch-refused", peer=address[0], reason=error)
            return
        connected(secured, address)

    return accept
