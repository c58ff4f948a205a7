# SPDX-License-Identifier: Apache-2.0
"""Read where etcd is, and how to prove to it who one is: for controllers, home agents and bridges."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from hoaflow.client.errors import AccessError
from hoaflow.client.tls import FileNames, client_context
from hoaflow.etcd.client import EtcdAccess
from hoaflow.etcd.errors import EtcdAccessError

NAMES = ("etcd_ca", "etcd_certificate", "etcd_key", "etcd_user", "etcd_password_file")
FILES = tuple(name for name in NAMES if name != "etcd_user")
TOGETHER = (("etcd_certificate", "etcd_key"), ("etcd_user", "etcd_password_file"))
SECURE, CLEAR = "etcds://", "etcd://"
"""What the address of a shared cache begins with: over TLS, and without."""


def endpoints_and_name(text: str) -> tuple[tuple[str, ...], str]:
    """Parse `etcd://HOST:PORT[,HOST:PORT...]/NAME`, or `etcds://…` for TLS; return URLs, and the name.

    Raises ValueError.
    """
    scheme = SECURE if text.startswith(SECURE) else CLEAR
    hosts, slash, name = text.removeprefix(scheme).partition("/")
    if not text.startswith(scheme) or not slash or not hosts or not name or "/" in name:
        raise ValueError(
            f"expected etcd://HOST:PORT/NAME, or etcds:// for TLS, several HOST:PORT separated by commas, got {text!r}"
        )
    for each in hosts.split(","):
        host, _, port = each.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"expected HOST:PORT after {scheme}, got {each!r} in {text!r}")
    http = "https" if scheme == SECURE else "http"
    return tuple(f"{http}://{each}" for each in hosts.split(",")), name


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for etcd over TLS, and with users."""
    parser.add_argument("--etcd-ca", metavar="FILE", help="certificates of the signers of etcd's, in PEM")
    parser.add_argument("--etcd-certificate", metavar="FILE", help="one's own certificate as etcd's client, in PEM")
    parser.add_argument("--etcd-key", metavar="FILE", help="the key of --etcd-certificate in PEM, not encrypted")
    parser.add_argument(
        "--etcd-user",
        metavar="NAME",
        help="user of etcd, whose role may read and write below /hoaflow-ha/; etcd's gateway takes users from clients "
        "without a certificate only, or from those whose certificate has no common name",
    )
    parser.add_argument("--etcd-password-file", metavar="FILE", help="file with the password of --etcd-user")


def from_arguments(arguments: argparse.Namespace) -> EtcdAccess:
    """Return what the options of `add_options` say, beside `--cache`. Raises EtcdAccessError."""
    given = {name: getattr(arguments, name) for name in NAMES}
    named = next((name for name in NAMES if given[name]), None)
    if arguments.cache is None:
        if named is not None:
            raise EtcdAccessError(f"{_option(named)}: only with --cache")
        return EtcdAccess()
    (first, *_), _ = arguments.cache
    if first.startswith("http:") and named in ("etcd_ca", "etcd_certificate"):
        raise EtcdAccessError(f"{_option(named)}: only over TLS, with --cache {SECURE}…")
    found = access(given, _option)
    check_files(found, _option)
    return found


def access(given: Mapping[str, str | None], spelled: Callable[[str], str] = str) -> EtcdAccess:
    """Return the access that these values of NAMES say; `spelled` returns how users write a name.

    Raises EtcdAccessError if one is given without the other that it needs.
    """
    for one, other in TOGETHER:
        if bool(given[one]) != bool(given[other]):
            raise EtcdAccessError(f"{spelled(one)} and {spelled(other)} go together: expected both or none")
    ca, certificate, key, password = (None if (file := given[name]) is None else Path(file) for name in FILES)
    return EtcdAccess(ca, certificate, key, given["etcd_user"], password)


def check_files(given: EtcdAccess, spelled: Callable[[str], str] = str) -> None:
    """Check the files before they are used; `spelled` returns how users write a name of NAMES. Raises EtcdAccessError.

    Later, a file that can't be used would look like an etcd that does not answer, and be tried again for ever.
    """
    if given.password_file is not None:
        try:
            given.password_file.read_text()
        except (OSError, ValueError) as error:
            raise EtcdAccessError(f"{spelled('etcd_password_file')} {given.password_file}: {_reason(error)}") from None
    names = FileNames(*map(spelled, ("etcd_ca", "etcd_certificate", "etcd_key")))
    try:
        client_context(given.ca, given.certificate, given.key, names)
    except AccessError as error:
        raise EtcdAccessError(str(error)) from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
