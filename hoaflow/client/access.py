# SPDX-License-Identifier: Apache-2.0
"""Configure how a client and the controller prove who they are: options of every command line."""

import argparse
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hoaflow.arguments import argument
from hoaflow.client.errors import AccessError
from hoaflow.client.tls import client_context
from hoaflow.client.token_file import read_token
from hoaflow.logs import Log

LOG = Log("northbound")

# Variables of the environment, used if the option is absent.
CONTROLLER, TOKEN_FILE, CA, CERTIFICATE, KEY = (
    "HOAFLOW_CONTROLLER",
    "HOAFLOW_TOKEN_FILE",
    "HOAFLOW_CA",
    "HOAFLOW_CERTIFICATE",
    "HOAFLOW_KEY",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Files with the client's credentials, None where there is none.

    `ca`: certificates of the signers of the controller's (default: the public certification authorities). `certificate`
    and `key`: the client's own, if the controller requires one.
    """

    token_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Check all files before they are used. Raises AccessError."""
        if self.token_file is not None:
            read_token(self.token_file)
        self.tls_context()

    def tls_context(self) -> ssl.SSLContext:
        """Return a context for TLS connections to a controller, of what the files hold now. Raises AccessError."""
        if (self.certificate is None) != (self.key is None):
            raise AccessError("a client certificate and its key go together: expected --certificate and --key")
        return client_context(self.ca, self.certificate, self.key)


def add_controller_option(parser: argparse.ArgumentParser) -> None:
    """Add `--controller`, whose value is a list of URLs."""
    default = os.environ.get(CONTROLLER, "").strip() or None
    parser.add_argument(
        "--controller",
        type=_urls,
        default=default,
        required=default is None,
        nargs="+",
        action=_InPlaceOfDefault,
        metavar="URL",
        help="the controller's REST API, e.g. http://127.0.0.1:8080; with several, all are told everything. The members"
        " of a cluster are found through any one of them, and a name may have several addresses"
        f" (or {CONTROLLER}, several separated by blanks)",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--token-file`, `--ca`, `--certificate` and `--key`."""
    group = parser.add_argument_group("access to the controller (docs/security.md)")
    for option, variable, help in (
        ("--token-file", TOKEN_FILE, "file with this program's token only"),
        ("--ca", CA, "certificates of the signers of the controller's, in PEM"),
        ("--certificate", CERTIFICATE, "this program's certificate, if the controller requires one"),
        ("--key", KEY, "the key of --certificate"),
    ):
        group.add_argument(
            option,
            type=Path,
            default=os.environ.get(variable) or None,
            metavar="FILE",
            help=f"{help} (or {variable})",
        )


def from_arguments(arguments: argparse.Namespace) -> Access:
    """Return the checked values of the options of `add_options`. Raises AccessError."""
    access = Access(arguments.token_file, arguments.ca, arguments.certificate, arguments.key)
    access.check()
    return access


def warn_of_clear_token(url: str, access: Access) -> None:
    """Warn once, before a controller is called, if others can read the token on its way there."""
    if access.token_file is not None and not _private(url):
        LOG.warning("token-in-clear", controller=url, reason="use https, see docs/security.md")


def controller_url(text: str) -> str:
    """Return a controller's base URL without a slash at its end. Raises ValueError."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT, got {text!r}")
    return text.rstrip("/")


@argument
def _urls(text: str) -> list[str]:
    return [controller_url(url) for url in text.split()]


class _InPlaceOfDefault(argparse.Action):
    """Join the lists that an option is given, however often it is, and leave the default only if it is not."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        assert values is not None, "nargs is +"
        given = [url for urls in values for url in urls]
        setattr(namespace, self.dest, given if before is self.default else [*before, *given])


def _private(url: str) -> bool:
    """Tell whether nobody else can read what is sent to `url`: it is encrypted or stays on this host."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
