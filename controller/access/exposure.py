# SPDX-License-Identifier: Apache-2.0
"""Decide where the REST API listens and what protects it there."""

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from oslo_config import cfg

from controller.access.tokens import Tokens
from controller.settings import Settings, WrongSettings
from controller.tls import ServerTls, TlsFiles

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Exposure:
    """The address to listen on, with the tokens and TLS that protect it."""

    host: str
    port: int
    tokens: Tokens | None
    tls: ServerTls | None

    @property
    def url(self) -> str:
        """Return the API's base URL, with the address listened on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'http' if self.tls is None else 'https'}://{host}:{self.port}"

    @property
    def in_clear(self) -> bool:
        """Tell whether tokens cross a network without TLS."""
        return self.tokens is not None and self.tls is None and not _is_loopback(self.host)


def exposure(conf: cfg.ConfigOpts, settings: Settings) -> Exposure:
    """Return the exposure that `settings` and Ryu's `wsapi_host` and `wsapi_port` ask for.

    Without tokens it is loopback, although Ryu's default is every address of the host. Raises WrongSettings, also for
    another address without tokens and for files that can't be used.
    """
    tokens = None if settings.tokens_file is None else Tokens(Path(settings.tokens_file))
    tls = None
    if settings.rest_certificate is not None and settings.rest_key is not None:
        client_ca = None if settings.rest_client_ca is None else Path(settings.rest_client_ca)
        tls = ServerTls(TlsFiles(Path(settings.rest_certificate), Path(settings.rest_key), client_ca))
    host = conf.wsapi_host
    if tokens is None:
        if conf.get_location("wsapi_host").location is cfg.Locations.opt_default:
            host = LOOPBACK
        elif not _is_loopback(host):
            raise WrongSettings(
                f"wsapi_host {host}: without tokens the REST API answers on this host alone; set tokens_file in"
                f" [hoaflow] (docs/security.md says what is in it), or leave wsapi_host out"
            )
    return Exposure(host, conf.wsapi_port, tokens, tls)


def _is_loopback(host: str) -> bool:
    """Tell whether a name or address leads to this host only. Raises WrongSettings if it leads nowhere."""
    try:
        found = socket.getaddrinfo(host or "::", None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise WrongSettings(f"wsapi_host {host}: {error.strerror}") from None
    return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)
