# SPDX-License-Identifier: Apache-2.0
"""Load the files in PEM by which a client and its server know each other over TLS."""

import ssl
from pathlib import Path
from typing import NamedTuple

from hoaflow.client.errors import AccessError


class FileNames(NamedTuple):
    """How users write the options for these files, for errors."""

    ca: str = "--ca"
    certificate: str = "--certificate"
    key: str = "--key"


OPTIONS = FileNames()


def client_context(
    ca: Path | None, certificate: Path | None, key: Path | None, names: FileNames = OPTIONS
) -> ssl.SSLContext:
    """Return a context for a client's TLS connections, of what the files hold now. Raises AccessError.

    `ca`: certificates of the signers of the server's (None: the public certification authorities). `certificate` and
    `key`: the client's own, or both None.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise AccessError(f"{names.ca} {ca}: expected certificates in PEM: {_reason(error)}") from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise AccessError(
                f"{names.certificate} {certificate} {names.key} {key}: expected a certificate and its unencrypted key"
                f" in PEM: {_reason(error)}"
            ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
