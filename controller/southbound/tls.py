# SPDX-License-Identifier: Apache-2.0
"""Set up OpenFlow over TLS from Ryu's own options.

Ryu 4.34 would let in the first switch only: it uses up its TLS context and falls back on an `ssl.wrap_socket` without a
certificate, which Python 3.12 no longer has. It accepts switches without any certificate if `--ca-certs` is missing,
listens in clear if one of the other two is missing, and gives a handshake unlimited time.
"""

from pathlib import Path

from oslo_config import cfg

from controller.tls import ServerTls, TlsFiles, WrongCertificates


def openflow_tls(conf: cfg.ConfigOpts) -> ServerTls | None:
    """Return the TLS that Ryu's options ask for; None for OpenFlow in clear. Raises WrongCertificates."""
    given = {"--ctl-privkey": conf.ctl_privkey, "--ctl-cert": conf.ctl_cert, "--ca-certs": conf.ca_certs}
    if not any(given.values()):
        if conf.ofp_ssl_listen_port:
            raise WrongCertificates(f"--ofp-ssl-listen-port: OpenFlow over TLS needs {', '.join(given)}")
        return None
    missing = [name for name, value in given.items() if not value]
    if missing:
        raise WrongCertificates(f"OpenFlow over TLS needs {', '.join(given)}; missing: {', '.join(missing)}")
    return ServerTls(TlsFiles(Path(conf.ctl_cert), Path(conf.ctl_privkey), Path(conf.ca_certs)))
