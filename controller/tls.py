# SPDX-License-Identifier: Apache-2.0
"""The server's side of TLS, for REST and for OpenFlow: which certificates, and a handshake that holds nobody up."""

import socket
from dataclasses import dataclass
from pathlib import Path

import eventlet
from eventlet.green import ssl

from controller.linger import linger
from controller.settings import WrongSettings
from hoaflow.errors import HoaflowError

# Seconds that a client has for its handshake; it takes milliseconds.
HANDSHAKE_TIMEOUT = 10.0


class WrongCertificates(WrongSettings):
    """Certificates or keys can't be used; the message names the file and says what was expected."""


class HandshakeFailed(HoaflowError):
    """A client did not complete the handshake, or has no certificate that is believed; the message says why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """In PEM. ``client_ca``: who has signed the clients' certificates; None to ask clients for none."""

    certificate: Path
    key: Path
    client_ca: Path | None


class ServerTls:
    """TLS 1.2 or newer with what ``files`` have. Raises WrongCertificates when made."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._context = _context(files)

    def reload(self) -> None:
        """Read the files again, for connections from now on. Raises WrongCertificates, changing nothing."""
        self._context = _context(self._files)

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """Make the handshake on a connection, which belongs to the returned one from then on.

        Raises HandshakeFailed and closes the connection, at the latest after HANDSHAKE_TIMEOUT seconds: together, not
        for each piece that comes.
        """
        try:
            secured = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:  # ValueError: for a connection that is gone already
            connection.close()
            raise HandshakeFailed(str(error)) from None
        try:
            with eventlet.Timeout(HANDSHAKE_TIMEOUT):
                secured.do_handshake()
            return secured
        except eventlet.Timeout:
            reason = f"no handshake within {HANDSHAKE_TIMEOUT:g} s"
        except OSError as error:
            reason = getattr(error, "reason", None) or str(error)
            linger(secured)  # with TLS 1.3 its first request is under way already, and the alert says why it fails
        secured.close()
        raise HandshakeFailed(reason)


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise WrongCertificates(
            f"expected a certificate in {files.certificate} and its unencrypted key in {files.key}, both in PEM:"
            f" {_reason(error)}"
        ) from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ValueError) as error:
            raise WrongCertificates(f"expected certificates in PEM in {files.client_ca}: {_reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
