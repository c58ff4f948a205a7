# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by `scripts/pki` as an operator makes them."""

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from topologies.waiting import patient

PKI = Path(__file__).parents[2] / "scripts" / "pki"


class CertifiedKey(NamedTuple):
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certification authority in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._run("ca")

    @property
    def certificate(self) -> Path:
        """What everybody trusts."""
        return self.directory / "ca.crt"

    def server(self, name: str, *addresses: str, days: int = 2) -> CertifiedKey:
        """Return a server's certificate for these addresses; `days` may lie in the past."""
        return self._issue(days, "server", name, *addresses)

    def etcd(self, name: str, *addresses: str) -> CertifiedKey:
        """Return the certificate of a member of etcd."""
        return self._issue(2, "etcd", name, *addresses)

    def client(self, name: str, days: int = 2) -> CertifiedKey:
        """Return a client's certificate."""
        return self._issue(days, "client", name)

    def _issue(self, days: int, *arguments: str) -> CertifiedKey:
        name = arguments[1]
        for ending in (".crt", ".key"):
            (self.directory / f"{name}{ending}").unlink(missing_ok=True)
        self._run(*arguments, days=days)
        return CertifiedKey(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def _run(self, *arguments: str, days: int = 2) -> None:
        command = [str(PKI), str(self.directory), *arguments]
        subprocess.run(command, env=os.environ | {"DAYS": str(days)}, check=True, timeout=patient(60))
