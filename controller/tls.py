# SPDX-License-Identifier: Apache-2.0
"""Serve TLS, for REST and for OpenFlow: load certificates, and make handshakes that delay no other client."""

import socket
from dataclasses import dataclass
from pathlib import Path

import eventlet
from eventlet.green import ssl

from controller.lingering_close import lingering_close
from controller.settings import WrongSettings
from hoaflow.errors import HoaflowError

# Seconds for a client's handshake, which takes milliseconds.
HANDSHAKE_TIMEOUT = 10.0


class WrongCertificates(WrongSettings):
    """Certificates or keys can't be used; the message names the file and says what was expected."""


class HandshakeFailed(HoaflowError):
    """A client did not complete the handshake, or has no trusted certificate; the message says why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files in PEM; `client_ca` has the signers of clients' certificates, None: clients need none."""

    certificate: Path
    key: Path
    client_ca: Path | None


class ServerTls:
    """Serve TLS 1.2 or newer with certificates from `files`. Raises WrongCertificates when made."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._context = _context(files)

    def reload(self) -> None:
        """Read the files again, for new connections. Raises WrongCertificates, having changed nothing."""
        self._context = _context(self._files)

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """Make the handshake on a connection, and return the secured one, which owns it.

        Raises HandshakeFailed and closes the connection, at most `HANDSHAKE_TIMEOUT` seconds after the call.
        """
        try:
            secured = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:  # ValueError: the connection is gone already
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
            lingering_close(secured)  # with TLS 1.3 the first request is under way already; the alert says why it fails
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
